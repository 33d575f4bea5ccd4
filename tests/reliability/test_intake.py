"""Pictures that come in bursts, slowly, twice, under strange names, or while the folder is away: each is taken once."""

import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.reliability.results import check_time, count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig, percentile, picture, visible
from tests.running_station import ROOT
from tests.waiting import wait_until

SEEN_AGAIN_S = 2.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(1800)
def test_a_burst_while_capture_is_stopped(server: ForkServer, memory: Path) -> None:
    pictures = count(400, 20_000)
    with Rig(server, memory, outputs={"archive": {"enabled": False}}) as rig:
        rig.start()
        with stopped(rig.services["capture"].pid):
            for _ in range(pictures):
                rig.deliver(BROKEN)
        began_s = time.monotonic()
        rig.settle(1200)
        took_s = time.monotonic() - began_s
        problems = rig.problems()
        assert not problems, problems[:20]
    record(
        "burst while capture is stopped",
        pictures,
        "0 lost, order kept",
        lost=0,
        pictures_per_s=round(pictures / took_s),
    )


def delete(hot: Path) -> None:
    shutil.rmtree(hot)
    time.sleep(0.3)
    hot.mkdir()


def rename(hot: Path) -> None:
    hot.rename(hot.with_name("away"))
    time.sleep(0.3)
    hot.mkdir()


def rename_and_back(hot: Path) -> None:
    hot.rename(hot.with_name("away"))
    time.sleep(0.3)
    hot.with_name("away").rename(hot)


def replace(hot: Path) -> None:
    hot.with_name("new").mkdir()
    hot.rename(hot.with_name("away"))
    hot.with_name("new").rename(hot)


def become_a_file(hot: Path) -> None:
    hot.rmdir()
    hot.write_text("no folder")
    time.sleep(0.3)
    hot.unlink()
    hot.mkdir()


def lose_permission(hot: Path) -> None:
    hot.chmod(0)
    time.sleep(0.3)
    hot.chmod(0o755)


FAULTS: tuple[Callable[[Path], None], ...] = (
    delete,
    rename,
    rename_and_back,
    replace,
    become_a_file,
    lose_permission,
)


@pytest.mark.timeout(1200)
def test_pictures_are_seen_soon_after_the_folder_is_back(server: ForkServer, memory: Path) -> None:
    rounds = count(1, 10)
    seen_s = []
    with Rig(server, memory) as rig:
        rig.start()
        rig.deliver(GOOD)
        rig.settle()
        for _ in range(rounds):
            for fault in FAULTS:
                fault(rig.hot)
                shutil.rmtree(rig.hot.with_name("away"), ignore_errors=True)
                began_s = time.monotonic()
                rig.deliver(BROKEN)
                wait_until(lambda: not list(visible(rig.hot)), 20)
                seen_s.append(time.monotonic() - began_s)
                rig.deliver(EMPTY)
                rig.settle()
        rig.check()
    check_time(max(seen_s), SEEN_AGAIN_S)
    record(
        "hot folder deleted, renamed, replaced, closed",
        len(seen_s),
        f"all later files seen <= {SEEN_AGAIN_S:g} s after return",
        slowest_s=round(max(seen_s), 2),
        p50_s=round(percentile(seen_s, 0.5), 2),
    )


def write_slowly(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), 1 + len(data) // 20):
            file.write(data[at : at + 1 + len(data) // 20])
            time.sleep(0.01)


def write_by_map(path: Path, data: bytes) -> None:
    with path.open("w+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), len(data)) as view:
            for at in range(0, len(data), 4096):
                view[at : at + 4096] = data[at : at + 4096]
                time.sleep(0.002)


def write_aside(path: Path, data: bytes) -> None:
    path.with_name(path.name + ".tmp").write_bytes(data)
    path.with_name(path.name + ".tmp").rename(path)


def write_elsewhere(path: Path, data: bytes) -> None:
    outside = path.parent.parent / f"outside-{path.name}"
    outside.write_bytes(data)
    outside.rename(path)


def write_and_link(path: Path, data: bytes) -> None:
    outside = path.parent.parent / f"linked-{path.name}"
    outside.write_bytes(data)
    os.link(outside, path)
    time.sleep(0.05)
    outside.unlink()


def write_at_once(path: Path, data: bytes) -> None:
    path.write_bytes(data)


WRITERS = (write_slowly, write_by_map, write_aside, write_elsewhere, write_and_link, write_at_once)


@pytest.mark.timeout(1200)
def test_no_picture_is_judged_before_it_is_complete(server: ForkServer, memory: Path) -> None:
    pictures = count(36, 1000)
    with Rig(server, memory) as rig:
        rig.start()

        def write(share: int) -> None:
            for number in range(share, pictures, 4):
                name = f"{number:08d}.jpg"
                data = picture((GOOD, EMPTY, BROKEN)[number % 3], number)
                WRITERS[number % len(WRITERS)](rig.hot / name, data)

        for number in range(pictures):
            kind = (GOOD, EMPTY, BROKEN)[number % 3]
            rig.delivered[f"{number:08d}.jpg"] = (kind, hashlib.sha256(picture(kind, number)).hexdigest())
        threads = [threading.Thread(target=write, args=(share,)) for share in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rig.settle(300)
        problems = [line for line in rig.problems() if "order" not in line]
        assert not problems, problems[:20]
    record("partial writers of 6 kinds", pictures, "0 judged before complete (hash)", incomplete=0)


@pytest.mark.timeout(300)
def test_the_same_picture_again_is_another_part(server: ForkServer, memory: Path) -> None:
    """Each delivery is a part of its own: same name, same content, both, neither."""
    rounds = count(3, 100)
    data = [picture(GOOD, 1), picture(BROKEN, 2)]
    with Rig(server, memory) as rig:
        rig.start()
        sent = 0
        for number in range(rounds):
            for name in ("a.jpg", "b.jpg"):
                hidden = rig.hot / f".{name}"
                hidden.write_bytes(data[number % 2])
                hidden.rename(rig.hot / name)
                sent += 1
                wait_until(lambda: not list(visible(rig.hot)), 20)
        rig.settle()
        assert rig.judged() == sent
        assert len({verdict.job_id for verdict in rig.verdicts()}) == sent
    record("duplicates", sent, "one verdict for each delivery", verdicts=sent)


SYSTEM = ("/proc/", "/sys/", "/usr/", "/etc/", str(ROOT), sys.prefix, sys.base_prefix)
"""Where any Python program may look."""


@contextmanager
def traced(pid: int, log: Path) -> Iterator[Callable[[], set[str]]]:
    """Record what a process opens, by strace if it is there; yields what says so afterwards, each path as resolved."""
    if not shutil.which("strace"):
        yield set
        return
    command = ["strace", "-f", "-y", "-e", "trace=open,openat,openat2", "-o", str(log), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        status = Path(f"/proc/{pid}/status")
        wait_until(lambda: strace.poll() is not None or "TracerPid:\t0" not in status.read_text(), 30)
        yield lambda: set(re.findall(r"\) = \d+<(.*)>$", log.read_text(errors="surrogateescape"), re.MULTILINE))
        strace.terminate()


@pytest.mark.timeout(600)
def test_hostile_names_and_files_are_left_or_taken_but_never_followed(server: ForkServer, memory: Path) -> None:
    swaps = count(50, 10_000)
    secret = memory / "secret.jpg"
    secret.write_bytes(picture(GOOD, 4711))
    with Rig(server, memory) as rig, ExitStack() as stack:
        rig.start()
        seen = stack.enter_context(traced(rig.services["capture"].pid, memory / "opened"))
        hot = rig.hot
        (hot / "link.jpg").symlink_to(secret)
        (hot / "zero.jpg").symlink_to("/dev/zero")
        os.mkfifo(hot / "pipe.jpg")
        (hot / "folder.jpg").mkdir()
        (hot / "two-names.jpg").write_bytes(picture(GOOD, 1))
        os.link(hot / "two-names.jpg", memory / "other-name.jpg")
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(hot / "socket.jpg"))
        names = [
            "-rf",
            "new\nline.jpg",
            "ü" * 120 + ".jpg",
            "A.jpg",
            "a.jpg",
            os.fsdecode(b"\xff\xfe.jpg"),
        ]
        for number, name in enumerate(names):
            (memory / "one").write_bytes(picture(GOOD, number))
            (memory / "one").rename(hot / name)
        chance = random.Random(swaps)
        for _ in range(swaps):  # a picture becomes a link while it is looked at
            (hot / "swap.jpg").write_bytes(b"no picture")
            if chance.random() < 0.5:
                time.sleep(0.001)
            (hot / ".link").symlink_to(secret)
            (hot / ".link").rename(hot / "swap.jpg")
            (hot / "swap.jpg").unlink(missing_ok=True)
        left = {"link.jpg", "zero.jpg", "pipe.jpg", "folder.jpg", "two-names.jpg", "socket.jpg"}
        wait_until(lambda: set(visible(hot)) == left and not list(visible(rig.data / "spool")), 60)
        rig.deliver(GOOD)
        wait_until(lambda: len(list(visible(hot))) == len(left) and not list(visible(rig.data / "spool")), 20)
        judged = [verdict.image.name for verdict in rig.verdicts()]
        assert len([name for name in judged if name != "swap.jpg"]) == len(names) + 1
        secrets = [v for v in rig.verdicts() if v.image.name == "swap.jpg" and v.image.size_bytes > 10]
        assert not secrets
        stack.close()
        opened = seen()
        assert str(secret) not in opened
        assert not shutil.which("strace") or any(path.startswith(str(hot)) for path in opened)
        assert all(Path(path).is_relative_to(memory) or path.startswith(SYSTEM) for path in opened), opened
        assert secret.read_bytes() == picture(GOOD, 4711)
    record(
        "hostile names and files", swaps + len(left) + len(names), "nothing outside read or moved, no block", followed=0
    )
