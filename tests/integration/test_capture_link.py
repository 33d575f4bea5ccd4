"""No job is lost on the way to the worker: credit, acks, a worker that restarts, is away or talks nonsense."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from station.capture import link as link_module
from station.capture.link import WorkerLink
from station.errors import QueueError
from station.messages import Ack, Credit, Hello, Identity, JobMessage, Message, Refusal, Sighting, decode, encode
from station.records import ImageRef, Job
from tests.waiting import wait_until
from tests.worker_parts import IDENTITY

Socket = zmq.Socket[bytes]


def make_job(number: int) -> Job:
    return Job(
        job_id=f"job-{number}",
        part_id=None,
        image=ImageRef(name="a.jpg", sha256="0" * 64, size_bytes=1),
        recipe="r",
        recipe_sha256="0" * 64,
        registration=None,
        crops=(),
        failure=None,
        captured_utc="2026-01-01T00:00:00.000+00:00",
        capture_ms=1,
    )


def ack(number: int) -> Ack:
    return Ack(job_id=f"job-{number}", unreadable=None)


class Worker:
    """The other end: a bare ROUTER that remembers which jobs came and how many hellos."""

    def __init__(self, context: zmq.Context[Socket], endpoint: str) -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._peer = b""
        self.jobs: list[str] = []
        self.hellos = 0
        self.sightings: list[str] = []

    def send(self, message: Message) -> None:
        self.send_raw(encode(message))

    def send_raw(self, data: bytes) -> None:
        self._socket.send_multipart([self._peer, data])

    def take(self) -> None:
        while self._socket.poll(0):
            self._peer, data = self._socket.recv_multipart()
            message = decode(data)
            if isinstance(message, JobMessage):
                self.jobs.append(message.job.job_id)
            elif isinstance(message, Sighting):
                self.sightings.append(message.job_id)
            else:
                assert isinstance(message, Hello)
                self.hellos += 1

    def close(self) -> None:
        self._socket.close()


class Line:
    """A link and its worker, both run from the test's one thread."""

    def __init__(self, context: zmq.Context[Socket], endpoint: str) -> None:
        self._context = context
        self._endpoint = endpoint
        self._event_fd = os.eventfd(0)
        self.link = WorkerLink(
            context, endpoint, Hello(identity=IDENTITY, recipe="r", recipe_sha256="0" * 64), deadline_ms=1000
        )
        self.link.open()
        self.worker = Worker(context, endpoint)
        self.acks: list[str] = []

    def turn(self) -> None:
        self.acks += [ack.job_id for ack in self.link.wait(0.001, self._event_fd)]
        self.worker.take()

    def until(self, condition: Callable[[], object]) -> None:
        """Turn until the condition holds."""

        def turned() -> bool:
            self.turn()
            return bool(condition())

        wait_until(turned)

    def until_jobs(self, *numbers: int) -> None:
        """Turn until the worker has exactly these jobs, in this order."""
        wanted = [f"job-{number}" for number in numbers]
        self.until(lambda: self.worker.jobs == wanted)

    def turns(self) -> None:
        """Turn often enough that whatever is under way arrives."""
        for _ in range(20):
            self.turn()

    def grant(self, jobs: int, session: str = "first") -> None:
        self.until(lambda: self.worker.hellos > 0)
        self.worker.send(Credit(session=session, jobs=jobs))

    def restart_worker(self) -> None:
        self.worker.close()
        self.worker = Worker(self._context, self._endpoint)

    def close(self) -> None:
        self.link.close()
        self.worker.close()
        os.close(self._event_fd)


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(link_module, "HELLO_EVERY_S", 0.05)
    with zmq.Context() as context:
        line = Line(context, f"ipc://{tmp_path}/jobs.ipc")
        yield line
        line.close()


def test_nothing_is_sent_before_the_worker_grants_credit(line: Line) -> None:
    line.link.add(make_job(1))
    line.until(lambda: line.worker.hellos > 1)
    assert line.worker.jobs == []
    line.grant(1)
    line.until_jobs(1)


def test_never_more_jobs_than_the_credit_are_unacked(line: Line) -> None:
    for number in range(4):
        line.link.add(make_job(number))
    line.grant(2)
    line.until_jobs(0, 1)
    line.turns()
    assert line.worker.jobs == ["job-0", "job-1"]
    line.worker.send(ack(0))
    line.until_jobs(0, 1, 2)
    assert line.acks == ["job-0"]
    assert line.link.open_jobs == 3


def test_an_ack_counts_once_and_that_of_a_stranger_not_at_all(line: Line) -> None:
    line.link.add(make_job(1))
    line.grant(2)
    line.until_jobs(1)
    for number in (7, 1, 1):
        line.worker.send(ack(number))
    line.until(lambda: line.acks)
    line.turns()
    assert line.acks == ["job-1"]
    assert line.link.open_jobs == 0


def test_a_worker_that_was_started_anew_gets_all_unacked_jobs_again_in_order(line: Line) -> None:
    for number in range(3):
        line.link.add(make_job(number))
    line.grant(2)
    line.until_jobs(0, 1)
    line.restart_worker()
    line.grant(2, session="second")
    line.until_jobs(0, 1)
    assert line.worker.sightings == ["job-0", "job-1", "job-2"]  # all, before any newer picture
    line.worker.send(ack(0))
    line.until_jobs(0, 1, 2)


def test_the_same_session_gets_no_job_twice(line: Line) -> None:
    line.link.add(make_job(0))
    for _ in range(3):
        line.grant(2)
        line.turns()
    line.until_jobs(0)


def test_a_silent_worker_is_said_and_gets_unacked_jobs_again_when_it_is_back(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line.link.add(make_job(0))
    line.grant(1)
    line.until_jobs(0)
    monkeypatch.setattr(link_module, "SILENT_AFTER_S", 0.05)
    line.until(lambda: line.link.is_silent)
    line.turns()
    assert caplog.text.count("No worker answers") == 1
    line.grant(1)
    line.until_jobs(0, 0)
    assert line.link.open_jobs == 1


def test_a_job_that_is_not_acked_long_after_its_deadline_is_sent_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.link.add(make_job(0))
    line.grant(1)
    line.until_jobs(0)
    monkeypatch.setattr(line.link, "_resend_after_s", 0.05)
    line.until_jobs(0, 0)


def test_nonsense_is_said_and_dropped(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    line.link.add(make_job(0))
    line.grant(1)
    line.until_jobs(0)
    line.worker.send_raw(b"nonsense")
    line.worker.send_raw(b"")
    line.worker.send(ack(0))
    line.until(lambda: line.acks)
    assert "same release" in caplog.text


def test_a_worker_of_another_configuration_ends_capture_with_clear_words(line: Line) -> None:
    line.until(lambda: line.worker.hellos > 0)
    line.worker.send(Refusal(identity=Identity(station="line-2", config_sha256="fe" * 32)))
    with pytest.raises(QueueError, match="is that of station line-2, configuration fefefefefefe") as caught:
        line.until(lambda: False)
    assert "restart both services" in caught.value.hint


def test_a_worker_that_was_away_long_is_not_flooded_with_hellos(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.worker.close()
    monkeypatch.setattr(link_module, "HELLO_EVERY_S", 0.0)
    for _ in range(300):
        line.link.wait(0, line._event_fd)
    monkeypatch.setattr(link_module, "HELLO_EVERY_S", 0.5)
    line.restart_worker()
    line.grant(1)
    line.turns()
    assert line.worker.hellos <= 2 * link_module.MESSAGES_HELD


def test_the_wait_ends_when_the_eventfd_is_written(line: Line) -> None:
    os.eventfd_write(line._event_fd, 1)
    line.link.wait(60, line._event_fd)


def test_an_endpoint_that_cannot_be_used_is_said() -> None:
    with zmq.Context() as context:
        link = WorkerLink(
            context, "nonsense://x", Hello(identity=IDENTITY, recipe="r", recipe_sha256="0" * 64), deadline_ms=1000
        )
        with pytest.raises(QueueError, match="nonsense") as caught:
            link.open()
        assert "queue.endpoint" in caught.value.hint
