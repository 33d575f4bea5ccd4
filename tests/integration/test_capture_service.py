"""Capture as a whole: each picture in the hot folder becomes one job and leaves the spool when it is acked."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from station.capture.prepare import Preparer
from station.capture.service import CaptureService
from station.capture.spool import MARK
from station.challenge_file import folder_of, read_samples
from station.errors import SpoolError
from station.messages import Credit, Hello, JobMessage, PutSample, ack, decode, encode
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Failure, Job, Reason
from station.settings import (
    ArchiveSettings,
    CaptureSettings,
    OutputsSettings,
    QueueSettings,
    Settings,
    StationSettings,
)
from tests.pictures import Pose, draw_part, empty_scene, encoded, make_recipe, write_recipe
from tests.waiting import wait_until

PART = encoded(draw_part(Pose(20, -10, 3)))


class Worker(threading.Thread):
    """The other end: grants credit, keeps every job, and acks those that `may_ack` allows."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, credit: int = 2) -> None:
        super().__init__()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._credit = credit
        self._stop_now = threading.Event()
        self.may_ack: Callable[[Job], bool] = lambda _job: True
        self.judged_before: Failure | None = None
        """What the journal says of each picture; None: what its job says."""
        self.jobs: list[Job] = []
        self.recipe_sha256 = ""
        """The recipe in force."""
        self.wanted: list[str] = []
        """Challenge samples, by hash, to be put into the hot folder."""
        self.hellos: list[str] = []
        """The recipes that capture said it has."""
        self.start()

    def run(self) -> None:
        while not self._stop_now.is_set():
            if not self._socket.poll(10):
                continue
            peer, data = self._socket.recv_multipart()
            message = decode(data)
            if isinstance(message, JobMessage):
                self.jobs.append(message.job)
                if self.may_ack(message.job):
                    self._send(peer, message.job)
                continue
            if isinstance(message, Hello):
                self.hellos.append(message.recipe_sha256)
            credit = Credit(session="s", jobs=self._credit, recipe_sha256=self.recipe_sha256)
            self._socket.send_multipart([peer, encode(credit)])
            while self.wanted:
                self._socket.send_multipart([peer, encode(PutSample(sha256=self.wanted.pop()))])

    def _send(self, peer: bytes, job: Job) -> None:
        failure = self.judged_before or job.failure
        told = ack(job.job_id, failure.reason, failure.detail) if failure else ack(job.job_id, Reason.NONE, "")
        self._socket.send_multipart([peer, encode(told)])

    def end(self) -> None:
        self._stop_now.set()
        self.join()
        self._socket.close()


class Station:
    """Folders, settings, and the service in a thread."""

    def __init__(self, folder: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.hot, self.spool = folder / "hot", folder / "spool"
        self.archive, self.quarantine = folder / "archive", folder / "quarantine"
        self.hot.mkdir()
        self.recipe: Recipe = make_recipe(folder / "recipe")
        self.settings = Settings(
            station=StationSettings(name="test"),
            recipe=folder / "recipe" / "recipe.yaml",
            model=folder / "manifest.json",
            capture=CaptureSettings(
                hot_folder=self.hot, spool=self.spool, quarantine=self.quarantine, rescan_s=0.2, settle_ms=50
            ),
            queue=QueueSettings(endpoint=f"ipc://{folder}/jobs.ipc"),
            outputs=OutputsSettings(archive=ArchiveSettings(folder=self.archive)),
            config_path=folder / "config.yaml",
            config_sha256="0" * 64,
        )
        self.more: list[Recipe] = []
        self._context = context
        self._stop_now = threading.Event()
        self._thread: threading.Thread | None = None

    def service(self) -> CaptureService:
        return CaptureService(self.settings, self.recipe, self._context, more=self.more)

    def start(self) -> None:
        self._stop_now.clear()
        self._thread = threading.Thread(target=self.service().run, args=(self._stop_now,))
        self._thread.start()

    def stop(self) -> None:
        if self._thread:
            self._stop_now.set()
            self._thread.join()
            self._thread = None

    def deliver(self, name: str, data: bytes = PART) -> None:
        (self.hot / (name + ".tmp")).write_bytes(data)
        (self.hot / (name + ".tmp")).rename(self.hot / name)

    def in_spool(self) -> list[str]:
        return sorted(path.name for path in self.spool.glob("*/*"))

    def in_archive(self) -> list[str]:
        return sorted(path.name for path in self.archive.glob("*/*/original/*"))

    def in_quarantine(self) -> list[str]:
        return sorted(path.name for path in self.quarantine.glob("*/*"))


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def station(tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Station]:
    station = Station(tmp_path, context)
    yield station
    station.stop()


@pytest.fixture
def worker(station: Station, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Worker]:
    worker = Worker(context, station.settings.queue.endpoint)
    yield worker
    worker.end()


def test_a_picture_becomes_a_job_with_its_crops_and_goes_to_the_archive(station: Station, worker: Worker) -> None:
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg"])
    (job,) = worker.jobs
    assert job.failure is None
    assert job.registration
    assert job.registration.rotation_deg == pytest.approx(3, abs=0.1)
    assert [crop.region_id for crop in job.crops] == ["pins"]
    assert (job.image.name, job.image.size_bytes) == ("a.jpg", len(PART))
    assert (job.recipe, job.recipe_sha256) == (station.recipe.file.recipe, station.recipe.sha256)
    assert job.captured_utc.startswith(f"{job.job_id[:4]}-{job.job_id[4:6]}-{job.job_id[6:8]}T")
    assert 0 < job.capture_ms < 5000
    assert not any(station.hot.iterdir())
    wait_until(lambda: list(station.spool.iterdir()) == [station.spool / ".lock"])


def test_every_bad_picture_still_becomes_a_job_and_is_kept(station: Station, worker: Worker) -> None:
    bad = {
        "cut.jpg": (PART[:-100], Reason.IMAGE_UNREADABLE),
        "empty.jpg": (b"", Reason.IMAGE_UNREADABLE),
        "text.jpg": (b"no picture", Reason.IMAGE_UNREADABLE),
        "small.png": (encoded(draw_part()[:300], ".png"), Reason.IMAGE_WRONG_SIZE),
        "nothing.png": (encoded(empty_scene(), ".png"), Reason.PART_NOT_FOUND),
        "edge.png": (encoded(draw_part(Pose(shift_x=300)), ".png"), None),
        "good.jpg": (PART, None),
    }
    station.start()
    for name, (data, _) in bad.items():
        station.deliver(name, data)
    wait_until(lambda: len(station.in_archive()) == 3 and len(station.in_quarantine()) == 8)
    found = {job.image.name: job.failure.reason if job.failure else None for job in worker.jobs}
    assert found.pop("edge.png") in {Reason.PART_NOT_FOUND, Reason.BAD_REGISTRATION, Reason.REGION_OUTSIDE_PICTURE}
    assert found == {name: reason for name, (_, reason) in bad.items() if name != "edge.png"}
    assert station.in_archive() == ["edge.png", "good.jpg", "nothing.png"]
    assert station.in_quarantine() == [*sorted(["cut.jpg", "empty.jpg", "text.jpg", "small.png"] + ["reason.txt"] * 4)]


def test_pictures_from_before_the_start_are_taken_oldest_first(station: Station, worker: Worker) -> None:
    for number in range(5):
        station.deliver(f"{number}.jpg")
    station.start()
    wait_until(lambda: len(station.in_archive()) == 5)
    assert [job.image.name for job in worker.jobs] == [f"{number}.jpg" for number in range(5)]


def test_without_a_worker_pictures_wait_in_the_spool_and_few_in_memory(
    station: Station, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    station.start()
    for number in range(8):
        station.deliver(f"{number}.jpg")
    wait_until(lambda: len(station.in_spool()) == 8)
    worker = Worker(context, station.settings.queue.endpoint)
    try:
        wait_until(lambda: len(station.in_archive()) == 8)
        assert [job.image.name for job in worker.jobs] == sorted(job.image.name for job in worker.jobs)
    finally:
        worker.end()


def test_what_was_not_acked_is_sent_again_by_the_next_start_under_the_same_job_id(
    station: Station, worker: Worker
) -> None:
    worker.may_ack = lambda _job: False
    station.start()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        station.deliver(name)
    wait_until(lambda: len(worker.jobs) == 2 and len(station.in_spool()) == 3)
    station.stop()
    assert station.in_spool() == ["a.jpg", "b.jpg", "c.jpg"]
    first = [job.job_id for job in worker.jobs]
    worker.jobs.clear()
    worker.may_ack = lambda _job: True
    station.start()
    wait_until(lambda: len(station.in_archive()) == 3)
    assert [job.job_id for job in worker.jobs][:2] == first
    assert len(worker.jobs) == 3


def test_two_pictures_of_one_name_and_content_are_two_jobs(station: Station, worker: Worker) -> None:
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: len(worker.jobs) == 1)
    station.deliver("a.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg", "a.jpg"])
    assert len({job.job_id for job in worker.jobs}) == 2


def test_a_fault_of_the_station_itself_becomes_a_failure_and_the_next_picture_is_judged(
    station: Station, worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_prepare = Preparer.prepare

    def prepare(self: Preparer, *values: object) -> Job:
        if not worker.jobs:
            raise ZeroDivisionError("planted")
        return real_prepare(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(Preparer, "prepare", prepare)
    with caplog.at_level(logging.CRITICAL, "station.capture.service"):
        station.start()
        station.deliver("a.jpg")
        wait_until(lambda: "a.jpg" in station.in_quarantine())
        station.deliver("b.jpg")
        wait_until(lambda: station.in_archive() == ["b.jpg"])
    failure = worker.jobs[0].failure
    assert failure
    assert failure.reason is Reason.IMAGE_UNREADABLE
    assert "ZeroDivisionError: planted" in failure.detail


def test_a_picture_someone_took_out_of_the_spool_still_gets_its_job(station: Station, worker: Worker) -> None:
    worker.may_ack = lambda _job: False
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: len(worker.jobs) == 1)
    station.stop()
    (path,) = station.spool.glob("*/a.jpg")
    path.unlink()
    path.symlink_to("/etc/hostname")
    worker.may_ack = lambda _job: True
    station.start()
    wait_until(lambda: "a.jpg" in station.in_quarantine())
    failure = worker.jobs[1].failure
    assert failure
    assert failure.reason is Reason.IMAGE_UNREADABLE


def test_a_picture_goes_where_its_verdict_says_also_if_capture_ended_twice_over_it_since(
    station: Station, worker: Worker
) -> None:
    worker.may_ack = lambda _job: False
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: len(worker.jobs) == 1)
    station.stop()
    (path,) = station.spool.glob("*/a.jpg")
    for number in (1, 2):
        path.with_name(f"{MARK}{number}").touch()
    worker.judged_before = Failure(reason=Reason.PART_NOT_FOUND, detail="said before capture ended")
    worker.may_ack = lambda _job: True
    station.start()
    wait_until(lambda: station.in_archive() == ["a.jpg"])
    assert not station.in_quarantine()


def test_a_second_station_on_the_spool_does_not_start(station: Station, worker: Worker) -> None:
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: len(worker.jobs) == 1)
    with pytest.raises(SpoolError, match="another station"):
        station.service().run(threading.Event())


def test_a_service_that_cannot_start_leaves_nothing_open(station: Station) -> None:
    station.hot.rmdir()
    with pytest.raises(SpoolError, match="hot folder"):
        station.service().run(threading.Event())


def test_a_hot_folder_that_comes_back_is_used_again(station: Station, worker: Worker) -> None:
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: len(worker.jobs) == 1)
    station.hot.rename(station.hot.parent / "away")
    station.hot.mkdir()
    station.deliver("b.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg", "b.jpg"])


def test_capture_prepares_with_the_recipe_in_force_at_the_worker_and_says_so(
    station: Station, worker: Worker, tmp_path: Path
) -> None:
    second = load_recipe(write_recipe(tmp_path / "second", recipe="second"))
    station.more = [second]
    worker.recipe_sha256 = second.sha256  # changed before capture started
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg"])
    worker.recipe_sha256 = station.recipe.sha256
    wait_until(lambda: worker.hellos[-1] == station.recipe.sha256)
    station.deliver("b.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg", "b.jpg"])
    assert [job.recipe for job in worker.jobs] == ["second", station.recipe.file.recipe]


def test_a_recipe_that_capture_does_not_know_changes_nothing_and_is_reported(
    station: Station, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.recipe_sha256 = "99" * 32
    station.start()
    station.deliver("a.jpg")
    wait_until(lambda: station.in_archive() == ["a.jpg"])
    assert worker.jobs[0].recipe_sha256 == station.recipe.sha256
    assert any("does not know" in record.message for record in caplog.records)


def test_a_challenge_sample_goes_the_way_of_every_picture_and_leaves_nothing(station: Station, worker: Worker) -> None:
    folder = folder_of(station.recipe)
    folder.mkdir()
    (folder / "bent.png").write_bytes(encoded(draw_part(bent={"A2": (9.0, 0.0)}), ".png"))
    (folder / "labels.csv").write_text("image,evaluation\nbent.png,NOT_OK\n")
    (sha256,) = read_samples(station.recipe)
    station.start()
    worker.wanted = [sha256, "00" * 32]  # and one that capture does not know
    wait_until(lambda: worker.jobs)
    (job,) = worker.jobs
    assert (job.image.name, job.image.sha256, job.failure) == ("challenge-bent.png", sha256, None)
    wait_until(lambda: not list(station.spool.glob("*/*")))
    station.deliver("part.jpg")
    wait_until(lambda: station.in_archive() == ["part.jpg"])
    assert station.in_quarantine() == []
    assert list(station.hot.iterdir()) == []
    assert (folder / "bent.png").exists()
