"""Large files past the page cache, where the file system can: reading 25 GB through it takes a core 25 seconds."""

import contextlib
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Self

import numpy as np

SECTOR_BYTES = 4096
"""Length, place and memory of what goes past the page cache are multiples of it."""


def aligned(count: int) -> np.ndarray:
    """Return (count,) bytes of memory that starts at a page."""
    return np.frombuffer(mmap.mmap(-1, count), np.uint8)


class DirectFile:
    """A file that is read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        with contextlib.suppress(OSError):  # the file system cannot
            set_direct(self._file, on=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def read(self, memory: np.ndarray, place: int, count: int) -> tuple[int, int]:
        """Read `count` bytes from `place` on; return where in `memory` they begin, and how many there were."""
        before = place % SECTOR_BYTES
        first, wanted = place - before, -(-(before + count) // SECTOR_BYTES) * SECTOR_BYTES
        done = 0
        while done < before + count:
            try:
                got = os.preadv(self._file, [memory[done:wanted]], first + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not is_direct(self._file):
                    raise
                set_direct(self._file, on=False)  # this disk has larger sectors
                continue
            if not got:
                break
            done += got
        return before, min(count, done - before)


def is_direct(file: int) -> bool:
    """Return whether a descriptor goes past the page cache."""
    return bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT)


def set_direct(file: int, *, on: bool) -> None:
    """Make a descriptor go past the page cache, or not. Raises OSError."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
