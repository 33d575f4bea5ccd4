"""Small files that a power cut leaves whole: written in one step, or lines of records that are only ever added to.

Durable means on the disk when the call returns, folder entry included. Raises OSError where the disk does.
"""

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from station.records import Record

logger = logging.getLogger(__name__)

R = TypeVar("R")


def sync_folder(folder: Path) -> None:
    """Make what changed in this folder durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut; durable. Raises OSError.

    Who may read it, and whose it is, stays as it was: else a service could not read what an administrator changed.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        if path.exists():
            before = path.stat()
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            with suppress(PermissionError):  # only root may give files away
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def append_line(path: Path, record: Record, *, is_durable: bool = True) -> None:
    """Add a record as a line of JSON, of its own also after one that a power cut left unfinished. Raises OSError.

    Processes may add at the same time. `is_durable` False: a power cut may take the last lines.
    """
    is_new = not path.exists()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = file.read(1) not in {b"", b"\n"}
        file.write(b"\n" * torn + msgspec.json.encode(record) + b"\n")
        file.flush()
        if is_durable:
            os.fsync(file.fileno())
    if is_new and is_durable:
        sync_folder(path.parent)


def read_lines(path: Path, decoder: msgspec.json.Decoder[R]) -> Iterator[R]:
    """Yield the records of a file, oldest first; none if it is not there. Raises OSError.

    What is no such record, as a line that a power cut left unfinished, is left out, and the log says so.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError:
                logger.warning("%s, line %d: cannot be read and is left out.", path, number)
