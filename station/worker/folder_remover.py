"""Deletes folders in a thread of its own, because a disk may take its time. One batch at a time.

In: job ids with their folders; out: the job ids whose folders are gone, which then is on the disk. What cannot be
deleted is logged and left out of that. A folder above that is empty goes too: the archive's day.
"""

import contextlib
import logging
import queue
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from station.complaints import Complaints
from station.durable_file import sync_folder

CLOSE_TIMEOUT_S = 2.0
"""A disk that hangs must not hold up the worker's end."""

_log = logging.getLogger(__name__)


class FolderRemover:
    """The thread, from `start` to `close`. Called from one other thread."""

    def __init__(self) -> None:
        self._batches: queue.Queue[Mapping[str, Path] | None] = queue.Queue()
        self._done: queue.Queue[list[str]] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.is_busy = False
        """A batch was given and its end not taken yet."""
        self.complaints = Complaints(_log)
        """`folder`: what could not be deleted, in the remover's thread."""

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def submit(self, batch: Mapping[str, Path]) -> None:
        """Have these folders deleted; only when not busy."""
        self.is_busy = True
        self._batches.put(batch)

    def take_done(self) -> list[str] | None:
        """Return whose folders are gone of the batch that ended, None while none did. Never waits."""
        if self._done.empty():
            return None
        self.is_busy = False
        return self._done.get()

    def close(self) -> None:
        """End the thread after its batch. May be called in any state."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._batches.put(None)
            thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            gone = [job_id for job_id, folder in batch.items() if self._is_removed(folder)]
            for above in {folder.parent for folder in batch.values()}:
                self._tidy(above)
            self._done.put(gone)

    def _is_removed(self, folder: Path) -> bool:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            self.complaints.say("folder", f"{folder} cannot be deleted: {error.strerror}. Look at its rights.")
            return False
        return True

    @staticmethod
    def _tidy(above: Path) -> None:
        """Bring the deletions in a folder to the disk, and remove it if nothing is left in it."""
        with contextlib.suppress(OSError):  # no promise hangs on it
            sync_folder(above)
            above.rmdir()
