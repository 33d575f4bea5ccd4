"""A claimed picture is never lost: not by a crash, a second station, a full disk or a strange name."""

import errno
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest

from station.capture.spool import DiskFailedError, Folders, Pending, Spool
from station.errors import SpoolError
from station.records import Failure, Reason

UNREADABLE = Failure(reason=Reason.IMAGE_UNREADABLE, detail="It is cut short.")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "hot").mkdir()
    return Folders(tmp_path / "hot", tmp_path / "spool", tmp_path / "archive", tmp_path / "quarantine")


@pytest.fixture
def spool(folders: Folders) -> Iterator[Spool]:
    spool = Spool(folders, max_file_bytes=1000)
    spool.open()
    yield spool
    spool.close()


def claim(spool: Spool, folders: Folders, name: str, data: bytes = b"picture") -> Pending:
    (folders.hot / name).write_bytes(data)
    with (folders.hot / name).open("rb") as file:
        claimed = spool.claim(file.fileno(), name)
    assert claimed
    return claimed[0]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_claim_moves_the_file_under_its_job_id_and_reads_it_once(spool: Spool, folders: Folders) -> None:
    (folders.hot / "a.jpg").write_bytes(b"abc")
    with (folders.hot / "a.jpg").open("rb") as file:
        claimed = spool.claim(file.fileno(), "a.jpg")
    assert claimed
    pending, picture = claimed
    assert pending.path == folders.spool / pending.job_id / "a.jpg"
    assert pending.path.read_bytes() == b"abc"
    assert picture
    assert picture.data == b"abc"
    assert picture.image.size_bytes == 3
    assert picture.image.sha256.startswith("ba7816bf")
    assert names(folders.hot) == []


def test_a_file_above_the_limit_is_claimed_and_hashed_but_not_held(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "big.jpg", bytes(1001))
    picture = spool.read(pending)
    assert picture.data == b""
    assert picture.image.size_bytes == 1001
    assert picture.image.sha256 == hashlib.sha256(bytes(1001)).hexdigest()


@pytest.mark.parametrize(
    "name", ["-rf", "a\nb.jpg", "ä" * 120 + ".jpg", "..jpg", "reason.txt", os.fsdecode(b"\xff\xfe.jpg")]
)
@pytest.mark.parametrize("failure", [None, UNREADABLE])
def test_every_name_the_disk_allows_goes_through(
    spool: Spool, folders: Folders, name: str, failure: Failure | None
) -> None:
    pending = claim(spool, folders, name, b"abc")
    spool.read(pending).image.name.encode()  # must be valid Unicode for the queue
    spool.release(pending, failure)
    found = [path for path in [*folders.archive.rglob("*"), *folders.quarantine.rglob("*")] if path.is_file()]
    assert [path.name for path in found if path.read_bytes() == b"abc"] == [name]


def test_a_picture_with_a_verdict_goes_to_the_archive_of_its_day(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    spool.release(pending, None)
    day = f"{pending.job_id[:4]}-{pending.job_id[4:6]}-{pending.job_id[6:8]}"
    assert names(folders.archive) == [f"{day}/{pending.job_id}/original/a.jpg"]
    assert list(folders.spool.iterdir()) == [folders.spool / ".lock"]


def test_the_archive_folder_of_a_job_may_be_there_already(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    day = f"{pending.job_id[:4]}-{pending.job_id[4:6]}-{pending.job_id[6:8]}"
    (folders.archive / day / pending.job_id).mkdir(parents=True)
    spool.release(pending, None)
    assert names(folders.archive) == [f"{day}/{pending.job_id}/original/a.jpg"]


def test_an_unreadable_picture_goes_to_the_quarantine_with_the_reason(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    spool.release(pending, UNREADABLE)
    assert names(folders.quarantine) == [f"{pending.job_id}/a.jpg", f"{pending.job_id}/reason.txt"]
    note = (folders.quarantine / pending.job_id / "reason.txt").read_text()
    assert note == "image_unreadable: It is cut short.\n"


def test_a_file_that_changed_while_it_was_read_is_not_claimed(
    spool: Spool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folders.hot / "a.jpg"
    path.write_bytes(b"first")
    real_fsync = os.fsync

    def write_then_fsync(file: int) -> None:
        path.write_bytes(b"second, longer")
        real_fsync(file)

    with path.open("rb") as file, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", write_then_fsync)
        assert spool.claim(file.fileno(), "a.jpg") is None
    assert path.read_bytes() == b"second, longer"
    assert spool.recover() == []


def test_a_file_that_went_away_is_not_claimed(spool: Spool, folders: Folders) -> None:
    path = folders.hot / "a.jpg"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        path.unlink()
        assert spool.claim(file.fileno(), "a.jpg") is None
    assert spool.recover() == []


def test_another_file_under_the_name_is_claimed_but_not_taken_for_the_one_that_was_read(
    spool: Spool, folders: Folders
) -> None:
    path = folders.hot / "a.jpg"
    path.write_bytes(b"first")
    with path.open("rb") as file:
        (folders.hot / "new").write_bytes(b"second")
        (folders.hot / "new").rename(path)
        claimed = spool.claim(file.fileno(), "a.jpg")
    assert claimed
    assert claimed[1] is None
    assert spool.read(claimed[0]).data == b"second"


def test_after_a_crash_the_spool_gives_back_what_was_claimed_oldest_first(spool: Spool, folders: Folders) -> None:
    claimed = [claim(spool, folders, f"{number}.jpg") for number in range(3)]
    (folders.spool / "20200101T000000000-00000000").mkdir()  # a claim that never happened
    assert [one.job_id for one in spool.recover()] == sorted(one.job_id for one in claimed)
    assert not (folders.spool / "20200101T000000000-00000000").exists()


def test_a_release_that_was_cut_off_is_done_again(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    (folders.quarantine / pending.job_id).mkdir()
    (folders.quarantine / pending.job_id / "reason.txt").write_text("half")
    (found,) = spool.recover()
    spool.release(found, UNREADABLE)
    assert names(folders.quarantine) == [f"{pending.job_id}/a.jpg", f"{pending.job_id}/reason.txt"]


def test_strange_things_in_the_spool_are_said_and_left_alone(
    spool: Spool, folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    (folders.spool / "notes.txt").write_text("mine")
    (folders.spool / "somebody").mkdir()
    pending = claim(spool, folders, "a.jpg")
    (pending.path.parent / "b.jpg").write_bytes(b"?")
    with caplog.at_level(logging.ERROR):
        assert spool.recover() == []
    assert all(word in caplog.text for word in ("notes.txt", "somebody", pending.job_id))
    assert len(names(folders.spool)) == 4


def test_two_stations_on_one_spool_are_refused(spool: Spool, folders: Folders) -> None:
    second = Spool(folders, 1000)
    with pytest.raises(SpoolError, match="another station"):
        second.open()
    spool.close()
    second.open()
    second.close()


def test_a_killed_station_leaves_the_spool_free(folders: Folders, spool: Spool) -> None:
    spool.close()
    code = f"import fcntl, os; f = os.open({str(folders.spool / '.lock')!r}, os.O_RDWR); fcntl.flock(f, 2); os.abort()"
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)
    spool.open()


def test_a_missing_hot_folder_is_an_error_at_the_start(folders: Folders) -> None:
    folders.hot.rmdir()
    with pytest.raises(SpoolError, match="hot folder") as caught:
        Spool(folders, 1000).open()
    assert "capture.hot_folder" in caught.value.hint


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_folders_on_two_file_systems_are_refused(folders: Folders, tmp_path: Path) -> None:
    other = Path("/dev/shm") / f"station-test-{tmp_path.name}-{os.getpid()}"
    if other.parent.stat().st_dev == folders.hot.stat().st_dev:
        pytest.skip("both are one file system here")
    try:
        with pytest.raises(SpoolError, match="another file system") as caught:
            Spool(Folders(folders.hot, folders.spool, folders.archive, other), 1000).open()
        assert caught.value.hint
    finally:
        other.rmdir()


def test_a_folder_that_cannot_be_made_is_said(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolError, match="spool"):
        Spool(folders, 1000).open()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, SpoolError), (errno.EROFS, SpoolError), (errno.EIO, DiskFailedError)]
)
def test_a_disk_that_does_not_take_the_claim_leaves_the_file_where_it_is(
    spool: Spool, folders: Folders, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SpoolError]
) -> None:
    def fail(_file: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(SpoolError) as caught:
            claim(spool, folders, "a.jpg")
    assert type(caught.value) is kind
    assert caught.value.hint
    assert names(folders.hot) == ["a.jpg"]
    assert spool.recover() == []


def test_a_claim_that_cannot_be_made_durable_ends_the_service_and_is_found_again(
    spool: Spool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync = os.fsync
    calls: list[int] = []

    def fail_for_folders(file: int) -> None:
        calls.append(file)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_folders)
        claim(spool, folders, "a.jpg")
        with pytest.raises(DiskFailedError):
            spool.settle()
    assert [one.path.name for one in spool.recover()] == ["a.jpg"]


def test_a_claim_syncs_the_file_first_then_the_folders_and_no_second_claim_begins_before(
    spool: Spool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync, begun = os.fsync, threading.Event()
    synced: list[str] = []

    def slow_fsync(file: int) -> None:
        name = str(Path(f"/proc/self/fd/{file}").readlink())
        if Path(name).is_dir():
            begun.wait(10)
        real_fsync(file)
        synced.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", slow_fsync)
        first = claim(spool, folders, "a.jpg")
        assert synced == [str(folders.hot / "a.jpg")]  # the folders wait for their turn, the caller does not
        begun.set()
        second = claim(spool, folders, "b.jpg")
        assert synced[1:4] == [str(first.path.parent), str(folders.spool), str(folders.hot)]
        assert synced[4] == str(folders.hot / "b.jpg")
        spool.settle()
        assert synced[5:] == [str(second.path.parent), str(folders.spool), str(folders.hot)]


def restarted(folders: Folders) -> Spool:
    """Return another spool on the same folders, as after a crash."""
    again = Spool(folders, max_file_bytes=1000)
    again.open()
    return again


def test_a_picture_over_which_capture_ended_twice_is_not_looked_into_again(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    claim(spool, folders, "b.jpg")
    for expected in (True, True, False, False):
        assert spool.begin(pending) is expected
        spool.close()
        spool = restarted(folders)
        assert [found.path.name for found in spool.recover()] == ["a.jpg", "b.jpg"]
    spool.release(pending, UNREADABLE)
    assert names(folders.quarantine) == [f"{pending.job_id}/a.jpg", f"{pending.job_id}/reason.txt"]
    spool.close()


def test_a_picture_that_did_no_harm_may_be_looked_into_any_number_of_times(spool: Spool, folders: Folders) -> None:
    pending = claim(spool, folders, "a.jpg")
    for _ in range(5):
        assert spool.begin(pending)
        spool.end(pending)
    assert names(pending.path.parent) == ["a.jpg"]


def test_pictures_keep_their_order_across_a_restart_when_the_clock_was_set_back(
    spool: Spool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EarlierClock(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> Self:
            return cls(2020, 1, 1, tzinfo=zone)

    for name in "abc":
        claim(spool, folders, name)
    spool.close()
    monkeypatch.setattr("station.capture.spool.datetime", EarlierClock)
    spool = restarted(folders)
    spool.recover()
    for name in "de":
        claim(spool, folders, name)
    spool.close()
    spool = restarted(folders)
    left = spool.recover()
    assert [pending.path.name for pending in left] == list("abcde")
    for pending in left:
        spool.release(pending, None)
    assert claim(spool, folders, "f").job_id.startswith("2020")
    spool.close()
