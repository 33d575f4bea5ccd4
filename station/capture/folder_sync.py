"""Makes what changed in folders durable while the caller goes on: fsync in a thread, one batch at a time.

A flush of the disk takes some milliseconds, in which a picture can be decoded. `begin` starts a batch, `wait` ends it:
what was done in the folders before is durable then. Raises OSError where the disk does.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from station.durable_file import sync_folder


class FolderSync:
    """At most one batch is under way. `close` last; used from one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "folder-sync")  # its thread starts with the first batch
        self._running: Future[None] | None = None

    def begin(self, folders: Iterable[Path]) -> None:
        """Start to make these durable; the batch before must be over."""
        self._running = self._pool.submit(_sync, tuple(folders))

    def wait(self) -> bool:
        """Return when the batch is durable: True if there was one. Raises OSError."""
        running, self._running = self._running, None
        if running is None:
            return False
        running.result()
        return True

    def close(self) -> None:
        """End the thread; a batch that is under way is finished."""
        self._pool.shutdown()


def _sync(folders: Iterable[Path]) -> None:
    for folder in folders:
        sync_folder(folder)
