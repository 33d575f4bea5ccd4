"""What holds for every test: it leaves no thread, child process, socket or other open file behind."""

import gc
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import active_children, resource_tracker
from pathlib import Path

import pytest

from tests.waiting import wait_until

SETTLE_S = 3
"""Threads and sockets of a closed library may need a moment to be gone."""


@pytest.fixture(scope="session", autouse=True)
def _resource_tracker_runs() -> None:
    """Start multiprocessing's own helper process now, so that no single test is blamed for it."""
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def _nothing_left_behind(_resource_tracker_runs: None) -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or an open file descriptor behind."""
    before = _held()
    yield
    if _held() <= before:
        return
    gc.collect()
    try:
        wait_until(lambda: _held() <= before, SETTLE_S)
    except AssertionError:
        left = sorted(_held() - before)
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)


def _held() -> set[str]:
    """Return a line for each thread, child process and open file descriptor of this process."""
    active_children()  # reaps those that ended
    threads = {f"thread {thread.name} {thread.ident}" for thread in threading.enumerate()}
    return threads | set(_children()) | set(_descriptors())


def _children() -> Iterator[str]:
    for listing in Path("/proc/self/task").glob("*/children"):
        # join() returns a moment before the kernel has ended the thread: it may be gone between listing and reading.
        with suppress(FileNotFoundError, ProcessLookupError):
            yield from (f"process {pid}" for pid in listing.read_text().split())


def _descriptors() -> Iterator[str]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield f"descriptor {link.name} {link.readlink()}"
        except FileNotFoundError:
            continue  # the one that listed the folder
