"""The lock beside the journal: one worker at a time, and a mark of the last verdict it was given.

The mark finds what SQLite cannot: a journal without its -wal file, or an old copy put back, is whole and yet lacks
verdicts. It is not synced: after a power cut it may be older than the journal, never newer.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from station.errors import JournalError

LINE = "{:010d} {:010d}\n"
"""Epoch and seq; always as long, so that it is overwritten in place."""


class JournalMark:
    """The file `<journal>.lock`. Not the journal itself: closing that would drop SQLite's locks."""

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(journal.name + ".lock")
        self._journal = journal
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Hold it until `free`. Raises JournalError if another worker does, and OSError."""
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"The journal {self._journal} is in use by another worker.",
                "Stop the other worker, or give this station a journal of its own (config.yaml, journal.path).",
            ) from error

    def check(self, epoch: int, seq: int) -> None:
        """Raise JournalError if a later verdict or start than the journal's last (`epoch`, `seq`) was marked."""
        if self._file is None:
            return
        self._file.seek(0)
        try:
            marked = tuple(map(int, self._file.read(len(LINE.format(0, 0))).split()))
        except ValueError:
            return  # nothing that was written here
        if len(marked) == 2 and marked > (epoch, seq):
            raise JournalError(
                f"The journal {self._journal} ends at {epoch}:{seq}, but {marked[0]}:{marked[1]} was given: its -wal"
                " file is missing, or an old copy was put back.",
                f"Bring back the newest one with its -wal file. If it is lost, remove {self.path} and run"
                " `station fsck`: it names the pictures without a verdict.",
            )

    def set(self, epoch: int, seq: int) -> None:
        """Mark what the journal has on disk now. A mark that cannot be written is none: it is a second guard only."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._file.fileno(), LINE.format(epoch, seq).encode(), 0)

    def free(self) -> None:
        """Give it up. May be called in any state."""
        if self._file is not None:
            self._file.close()
            self._file = None
