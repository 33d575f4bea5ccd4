"""Is there room on a disk for what is open? Asked by capture before it takes a picture, by the worker for the PLC.

A picture needs room until its verdict: the reserve is kept for the journal and for pictures that were taken already.
Asks the system at most each second; one thread for each object. Never raises: a disk that cannot be asked has no room.
"""

import errno
import os
import time
from pathlib import Path

RESERVE = 0.02
"""Share of the disk, and of its inodes, that is kept free."""
LOW = 0.05
"""Below this share the PLC is told, so that somebody makes room before the station stops."""
ASK_EVERY_S = 1.0


class DiskRoom:
    """Room on the disk that `folder` is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_s = 0.0
        self._problem = ""
        self._is_low = False

    @property
    def problem(self) -> str:
        """Why nothing more should be put there, for the operator; empty if all is well."""
        self._ask()
        return self._problem

    @property
    def is_low(self) -> bool:
        """True when there is little room left."""
        self._ask()
        return self._is_low

    def _ask(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + ASK_EVERY_S
            self._problem = problem_of(self._folder)
            self._is_low = free_share(self._folder) < LOW


def free_share(folder: Path) -> float:
    """Return the share of the disk of `folder` that is free, 0 to 1: of its room or of its files, whichever is less.

    0 if it cannot be asked.
    """
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    counted = ((found.f_bavail, found.f_blocks), (found.f_favail, found.f_files))
    return min((free / total for free, total in counted if total), default=0)


def problem_of(folder: Path) -> str:
    """Return why nothing more should be put on the disk of `folder`, empty if all is well."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return f"The disk of {folder} cannot be asked for room: {error.strerror}."
    if found.f_flag & os.ST_RDONLY or _refuses(folder):
        return f"The disk of {folder} is read-only. Look at the disk (dmesg, smartctl)."
    for what, free, total in (("room", found.f_bavail, found.f_blocks), ("files", found.f_favail, found.f_files)):
        if free < total * RESERVE:  # some file systems count no files: 0 of 0
            left = f"{free / total:.1%} is left for {what}, {RESERVE:.0%} is kept for what is open"
            return f"The disk of {folder} is full: {left}. Make room; the station goes on by itself."
    return ""


def _refuses(folder: Path) -> bool:
    """Return whether the disk takes nothing. After an error ext4 may refuse to write without saying so in its flags."""
    try:
        os.utime(folder)
    except OSError as error:
        return error.errno in {errno.EROFS, errno.EIO}
    return False
