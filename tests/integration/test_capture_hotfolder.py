"""Every complete file in the hot folder is seen, whatever happens to events, the watch or the folder."""

import logging
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.capture.complete import Completeness, file_system, is_unwritten
from station.capture.hotfolder import HotFolder
from station.errors import SpoolError
from tests.waiting import wait_until

FAR_S = 60.0
"""A rescan that does not come during a test: what is seen is seen by an event."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hot"
    folder.mkdir()
    return folder


@pytest.fixture
def hot(folder: Path) -> Iterator[HotFolder]:
    hot = HotFolder(folder, rescan_s=FAR_S, settle_ms=50)
    hot.open()
    yield hot
    hot.close()


@pytest.fixture
def files(folder: Path) -> Completeness:
    return Completeness(folder, settle_ms=50)


def is_open(files: Completeness, name: str) -> bool:
    """Return whether the file is complete; gives its descriptor back."""
    file = files.open(name)
    if file is not None:
        os.close(file)
    return file is not None


def seen_by_event(hot: HotFolder) -> list[str]:
    """Wait until a scan is due before the rescan, and return what it finds."""
    wait_until(lambda: hot.due_in_s() == 0, 5)
    return hot.scan()


def settled(hot: HotFolder) -> None:
    """Scan until the events of what was done so far are used up: none has come for 50 ms."""
    hot.scan()
    quiet_since_s = time.monotonic()

    def is_quiet() -> bool:
        nonlocal quiet_since_s
        if hot.due_in_s() < 1:
            hot.scan()
            quiet_since_s = time.monotonic()
        return time.monotonic() - quiet_since_s > 0.05

    wait_until(is_quiet)


def test_files_are_found_oldest_first_and_temporary_ones_are_skipped(hot: HotFolder, folder: Path) -> None:
    for age, name in enumerate(["new.jpg", "b.jpg", "a.jpg", "old.jpg"]):
        (folder / name).write_bytes(b"x")
        stamp = 1_000_000 - (1 if name in {"a.jpg", "b.jpg"} else age) * 10
        os.utime(folder / name, (stamp, stamp))
    for name in (".hidden.jpg", "a.tmp", "b.part", "c.filepart", "D.TMP"):
        (folder / name).write_bytes(b"x")
    assert hot.scan() == ["old.jpg", "a.jpg", "b.jpg", "new.jpg"]


def test_a_file_that_one_look_misses_is_not_overtaken_by_a_later_one(
    hot: HotFolder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second, name in enumerate("abcd"):
        (folder / name).write_bytes(b"1")
        os.utime(folder / name, (second, second))
    looks = [
        [(0, "a"), (2, "c")],  # b and c came during this look; what comes after it, d, waits for the next
        [(0, "a"), (1, "b"), (2, "c"), (3, "d")],
    ]
    monkeypatch.setattr(hot, "_entries", lambda: looks.pop(0))
    assert hot.scan() == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["write", "rename inside", "rename from elsewhere", "hard link and unlink"])
def test_each_way_to_deliver_a_file_wakes_the_loop(hot: HotFolder, folder: Path, way: str) -> None:
    settled(hot)
    source = folder / "a.tmp" if way == "rename inside" else folder.parent / "a"
    if way == "write":
        (folder / "a.jpg").write_bytes(b"x")
    else:
        source.write_bytes(b"x")
        if way == "hard link and unlink":
            (folder / "a.jpg").hardlink_to(source)
            source.unlink()
        else:
            source.rename(folder / "a.jpg")
    wait_until(lambda: seen_by_event(hot) == ["a.jpg"])


def test_a_claim_does_not_hold_back_the_event_of_the_next_file(hot: HotFolder, folder: Path) -> None:
    settled(hot)
    (folder / "a.jpg").write_bytes(b"x")
    assert wait_until(lambda: seen_by_event(hot)) == ["a.jpg"]
    settled_until = time.monotonic()
    (folder / "a.jpg").rename(folder.parent / "a.jpg")
    (folder / "b.jpg").write_bytes(b"x")
    assert wait_until(lambda: seen_by_event(hot)) == ["b.jpg"]
    assert time.monotonic() - settled_until < 0.4  # watchdog's own waiting would be 0.5 s


def test_a_rescan_finds_files_without_events(folder: Path) -> None:
    hot = HotFolder(folder, rescan_s=0.02, settle_ms=50)  # no watch is set
    try:
        (folder / "a.jpg").write_bytes(b"x")
        hot.scan()
        wait_until(lambda: hot.due_in_s() == 0)
    finally:
        hot.close()


def test_a_dead_watch_is_set_anew_by_the_next_scan(
    hot: HotFolder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observer = hot._observer
    assert observer
    observer.stop()
    observer.join()
    hot.scan()
    assert "set anew" in caplog.text
    settled(hot)
    (folder / "a.jpg").write_bytes(b"x")
    wait_until(lambda: seen_by_event(hot) == ["a.jpg"])


@pytest.mark.parametrize("way", ["removed", "renamed"])
def test_a_folder_that_is_replaced_is_watched_again(hot: HotFolder, folder: Path, way: str) -> None:
    if way == "removed":
        folder.rmdir()
    else:
        folder.rename(folder.parent / "away")
    folder.mkdir()
    hot.scan()
    settled(hot)
    (folder / "a.jpg").write_bytes(b"x")
    wait_until(lambda: seen_by_event(hot) == ["a.jpg"])


def test_a_folder_that_is_away_is_said_once_and_waited_for(
    hot: HotFolder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    for _ in range(5):
        assert hot.scan() == []
    assert caplog.text.count("Bring it back") == 1
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    assert hot.scan() == ["a.jpg"]


def test_a_missing_folder_is_an_error_at_the_start(tmp_path: Path) -> None:
    hot = HotFolder(tmp_path / "none", rescan_s=1, settle_ms=50)
    try:
        with pytest.raises(SpoolError, match="hot folder"):
            hot.open()
    finally:
        hot.close()


def test_looking_at_a_file_does_not_wake_the_loop(hot: HotFolder, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"x")
    settled(hot)
    for _ in range(20):
        file = hot.open_complete("a.jpg")
        assert file is not None
        os.close(file)
    with pytest.raises(AssertionError):
        wait_until(lambda: hot.due_in_s() == 0, timeout_s=0.2)


def test_a_file_open_for_writing_is_not_complete_and_is_at_once_when_closed(files: Completeness, folder: Path) -> None:
    with (folder / "a.jpg").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        assert not is_open(files, "a.jpg")
    assert is_open(files, "a.jpg")


def test_a_file_written_through_shared_memory_is_not_complete_before_it_is_unmapped(
    files: Completeness, folder: Path
) -> None:
    (folder / "a.jpg").write_bytes(bytes(4096))
    with (folder / "a.jpg").open("r+b") as writer:
        view = mmap.mmap(writer.fileno(), 4096)
    assert not is_open(files, "a.jpg")
    view.close()
    assert is_open(files, "a.jpg")


def test_whoever_opens_the_file_during_the_look_does_not_kill_the_station(folder: Path) -> None:
    path = folder / "a.jpg"
    path.write_bytes(b"x")
    with path.open("rb") as reader:
        for _ in range(200):
            assert is_unwritten(reader.fileno())
            path.open("ab").close()


def test_without_leases_a_file_is_complete_when_it_was_unchanged_for_the_settle_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("station.capture.complete.LOCAL_FILE_SYSTEMS", frozenset())
    files = Completeness(folder, settle_ms=100)
    (folder / "a.jpg").write_bytes(b"x")
    start = time.monotonic()
    assert not is_open(files, "a.jpg")
    assert files.is_settling
    wait_until(lambda: is_open(files, "a.jpg"))
    assert time.monotonic() - start >= 0.1
    assert not files.is_settling


def test_a_change_starts_the_settle_time_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("station.capture.complete.LOCAL_FILE_SYSTEMS", frozenset())
    files = Completeness(folder, settle_ms=100)
    (folder / "a.jpg").write_bytes(b"x")
    assert not is_open(files, "a.jpg")
    start = time.monotonic()
    wait_until(lambda: time.monotonic() - start > 0.06)
    (folder / "a.jpg").write_bytes(b"xy")
    changed = time.monotonic()
    wait_until(lambda: is_open(files, "a.jpg"))
    assert time.monotonic() - changed >= 0.09


def test_an_empty_file_is_given_the_settle_time(files: Completeness, folder: Path) -> None:
    (folder / "a.jpg").touch()
    assert not is_open(files, "a.jpg")
    wait_until(lambda: is_open(files, "a.jpg"))


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_file_is_left_in_place_and_said_once(
    files: Completeness, folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    strange = folder / "strange"
    if kind == "pipe":
        os.mkfifo(strange)
    elif kind == "folder":
        strange.mkdir()
    else:
        target = folder.parent / "target"
        if kind == "link":
            target.write_bytes(b"secret")
        strange.symlink_to(target)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not is_open(files, "strange")
    assert caplog.text.count("move it away") == 1
    assert strange.is_symlink() or strange.exists()


def test_a_hard_link_is_left_in_place_until_it_is_the_only_name(
    files: Completeness, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.parent / "other").write_bytes(b"x")
    (folder / "a.jpg").hardlink_to(folder.parent / "other")
    wait_until(lambda: is_open(files, "a.jpg") or "hard link" in caplog.text)
    assert not is_open(files, "a.jpg")
    (folder.parent / "other").unlink()
    assert is_open(files, "a.jpg")


def test_a_file_that_went_away_is_no_matter(files: Completeness, caplog: pytest.LogCaptureFixture) -> None:
    assert not is_open(files, "gone.jpg")
    assert not caplog.records


def test_the_file_system_of_a_folder_is_told(folder: Path) -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(folder)
