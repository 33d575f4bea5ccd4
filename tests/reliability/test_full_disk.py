"""A disk without room, without inodes or read-only: the PLC sees it, nothing is lost, work goes on by itself."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from station.disk import ASK_EVERY_S
from tests.reliability.loop_disk import LoopDisk, why_not
from tests.reliability.results import check_time, count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig
from tests.waiting import wait_until

OFF_S, ON_S = 2.0, 5.0
KINDS = (GOOD, BROKEN, EMPTY)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """Return a small mounted ext4."""
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    disk = LoopDisk(tmp_path / "disk.ext4", tmp_path / "disk", 48, "-N", "2048")
    disk.mount()
    yield disk
    disk.unmount()


def fill_blocks(disk: LoopDisk) -> None:
    with (disk.folder / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def fill_most(disk: LoopDisk) -> None:
    free = os.statvfs(disk.folder)
    with (disk.folder / "ballast").open("wb") as file:
        file.write(bytes(int((free.f_bavail - 0.015 * free.f_blocks) * free.f_frsize)))


def fill_inodes(disk: LoopDisk) -> None:
    (disk.folder / "inodes").mkdir()
    try:
        for number in range(10_000):
            (disk.folder / "inodes" / str(number)).touch()
    except OSError:
        return


def make_room(disk: LoopDisk) -> None:
    (disk.folder / "ballast").unlink(missing_ok=True)
    for file in (disk.folder / "inodes").glob("*"):
        file.unlink()
    if (disk.folder / "inodes").is_dir():
        (disk.folder / "inodes").rmdir()


FILLS: tuple[Callable[[LoopDisk], None], ...] = (fill_blocks, fill_most, fill_inodes)


def is_back(rig: Rig) -> bool:
    rig.revive()
    return rig.is_online() and rig.is_done()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(count(1, len(FILLS))), ids=lambda number: FILLS[number].__name__)
def test_a_full_disk_is_seen_and_waited_for(number: int, server: ForkServer, disk: LoopDisk, tmp_path: Path) -> None:
    fill = FILLS[number]
    trials = count(1, 10)
    off_s, on_s = [0.0], [0.0]
    with Rig(server, tmp_path / "rig", data=disk.folder) as rig:
        rig.start()
        for _ in range(trials):
            for kind in KINDS:
                rig.deliver(kind)
            rig.settle()
            wait_until(rig.is_online, 60)
            filled_s = time.monotonic()
            fill(disk)
            wait_until(lambda: not rig.is_online(), 60)
            off_s.append(time.monotonic() - filled_s)
            hold_s = time.monotonic() + count(1, 2)
            while time.monotonic() < hold_s:
                rig.revive()
                time.sleep(0.05)
            with_room_s = time.monotonic()
            make_room(disk)
            for kind in KINDS:
                rig.deliver(kind)
            wait_until(lambda: is_back(rig), 120)
            on_s.append(time.monotonic() - with_room_s)
        rig.check()
    check_time(max(off_s), OFF_S)
    check_time(max(on_s), ON_S)
    record(
        f"disk full ({fill.__name__.replace('_', ' ')})",
        trials,
        f"PLC offline <= {OFF_S:g} s, 0 lost, goes on <= {ON_S:g} s after there is room",
        off_s=round(max(off_s), 2),
        on_s=round(max(on_s), 2),
        lost=0,
    )


@pytest.mark.timeout(300)
def test_pictures_wait_in_the_hot_folder_while_there_is_no_room(
    server: ForkServer, disk: LoopDisk, tmp_path: Path
) -> None:
    with Rig(server, tmp_path / "rig", data=disk.folder) as rig:
        rig.start()
        rig.deliver(GOOD)
        rig.settle()
        fill_most(disk)
        wait_until(lambda: not rig.is_online(), 60)
        time.sleep(ASK_EVERY_S)  # capture may have asked just before
        name = rig.deliver(BROKEN)
        time.sleep(ASK_EVERY_S)
        assert (rig.hot / name).exists()
        make_room(disk)
        rig.check()


@pytest.mark.timeout(300)
def test_a_disk_that_turns_read_only_is_seen_and_loses_nothing(
    server: ForkServer, disk: LoopDisk, tmp_path: Path
) -> None:
    with Rig(server, tmp_path / "rig", data=disk.folder) as rig:
        rig.start()
        for kind in KINDS:
            rig.deliver(kind)
        rig.settle()
        os.sync()
        turned_s = time.monotonic()
        disk.remount("abort")
        wait_until(lambda: not rig.is_online(), 60)
        off_s = time.monotonic() - turned_s
        for name in list(rig.services):
            rig.kill(name)
        disk.unmount()
        disk.mount()
        rig.start()
        for kind in KINDS:
            rig.deliver(kind)
        rig.check()
    check_time(off_s, OFF_S)
    record("disk turns read-only", 1, f"PLC offline <= {OFF_S:g} s, 0 lost", off_s=round(off_s, 2), lost=0)
