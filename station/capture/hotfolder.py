"""The hot folder: which files in it are to be looked at now. The only home of watchdog.

Events are hints, the scan is the truth: an event only makes the next scan come at once, and a scan comes every
`rescan_s` in any case, so that lost events cost time and not pictures. Each scan also notices a watch that died and a
folder that was replaced, and sets the watch anew. A missing folder is waited for. Watchdog's thread only writes to an
eventfd that the service's loop polls; all else runs in that loop's thread. `open` raises SpoolError.
"""

import contextlib
import logging
import os
import time
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants, Mask

from station.capture.complete import Completeness
from station.complaints import Complaints
from station.errors import SpoolError

SKIPPED_ENDINGS = (".tmp", ".part", ".filepart")
REST_FACTOR = 4
"""After a scan events wait this many times its duration, so that a full folder is not scanned all the time."""

_log = logging.getLogger(__name__)


class _Emitter(InotifyEmitter):
    """Asks the kernel only for what may have completed a file: closed after writing, renamed to here, linked.

    Watchdog holds a rename *out* of the folder, and all that comes after it, back for 0.5 s in hope of its other half.
    Each claim is such a rename: with them asked for, a picture would wait for the claim of the one before. Opening must
    not be asked for either, since the station's own looking would wake it again and again.
    """

    def get_event_mask_from_filter(self) -> Mask:
        """Return the inotify mask."""
        wanted = InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_CREATE
        return Mask(wanted | InotifyConstants.IN_DELETE_SELF)


class _Observer(InotifyObserver):
    """An observer with our emitter. It takes the emitter's class nowhere, so it is set after the fact."""

    def __init__(self) -> None:
        super().__init__()
        self._emitter_class = _Emitter


class _Alarm(FileSystemEventHandler):
    """Wakes the loop. Runs in watchdog's thread; must not raise, or that thread ends."""

    def __init__(self, event_fd: int) -> None:
        self._event_fd = event_fd

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002  the scan finds out what happened
        """Make the eventfd readable."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._event_fd, 1)


class HotFolder:
    """One watched folder. `open` first, `close` last."""

    def __init__(self, folder: Path, rescan_s: float, settle_ms: int) -> None:
        self._folder = folder
        self._rescan_s = rescan_s
        self._settle_s = settle_ms / 1000
        self._files = Completeness(folder, settle_ms)
        self._complaints = Complaints(_log)
        self._observer: _Observer | None = None
        self._inode = 0
        self.problem = ""
        """Why the last scan could not look; empty: it could."""
        self._has_hint = True
        self._next_scan_s = 0.0
        self._next_hinted_scan_s = 0.0
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when there was an event; `due_in_s` takes it."""

    def open(self) -> None:
        """Set the watch. Raises SpoolError if the folder is missing."""
        try:
            self._watch()
        except OSError as error:
            raise SpoolError(
                f"The hot folder {self._folder} cannot be watched: {error.strerror or error}.",
                "Make it, or correct capture.hot_folder in config.yaml.",
            ) from error

    def close(self) -> None:
        """End the watch. The folder cannot be used again."""
        self._unwatch()
        os.close(self.event_fd)

    def due_in_s(self) -> float:
        """Return in how many seconds to scan next; 0: now."""
        with contextlib.suppress(BlockingIOError):
            self._has_hint |= os.eventfd_read(self.event_fd) > 0
        next_s = min(self._next_scan_s, self._next_hinted_scan_s) if self._has_hint else self._next_scan_s
        return max(0.0, next_s - time.monotonic())

    def scan(self) -> list[str]:
        """Return the names of the files that may be pictures, oldest first; sees to the watch."""
        start_s = time.monotonic()
        self._has_hint = False
        names = self._names()
        self._files.forget_all_but(set(names))
        end_s = time.monotonic()
        self._next_scan_s = end_s + (min(self._settle_s, self._rescan_s) if self._files.is_settling else self._rescan_s)
        self._next_hinted_scan_s = end_s + REST_FACTOR * (end_s - start_s)
        return names

    def open_complete(self, name: str) -> int | None:
        """Return a descriptor of the file if it is complete and may be claimed, else None. The caller closes it."""
        file = self._files.open(name)
        if self._files.is_settling:
            self._next_scan_s = min(self._next_scan_s, time.monotonic() + self._settle_s)
        return file

    def _names(self) -> list[str]:
        try:
            self._see_to_watch()
            found = self._entries()
            if found:
                # A look may miss a file that comes meanwhile and see a later one. The second sees all that came before
                # the end of the first: with it no picture overtakes another.
                last = max(found)
                found = [entry for entry in self._entries() if entry <= last]
        except OSError as error:
            self.problem = f"The hot folder {self._folder} cannot be read: {error.strerror or error}."
            self._complaints.say("hot folder away", f"{self.problem} Bring it back: the station waits for it.")
            return []
        self.problem = ""
        return [name for _, name in sorted(found)]

    def _entries(self) -> list[tuple[int, str]]:
        """Return (time of change, name) of what may be pictures. Raises OSError."""
        with os.scandir(self._folder) as entries:
            return [(_modified_ns(entry), entry.name) for entry in entries if not _is_skipped(entry.name)]

    def _see_to_watch(self) -> None:
        """Set the watch anew if it died or watches a folder that is no longer this one. Raises OSError."""
        inode = self._folder.stat().st_ino
        if self._is_watching() and inode == self._inode:
            return
        self._complaints.say("watch lost", f"The watch on {self._folder} was lost and is set anew; no file is missed.")
        self._watch()

    def _is_watching(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_alive() and all(one.is_alive() for one in observer.emitters)

    def _watch(self) -> None:
        self._unwatch()
        inode = self._folder.stat().st_ino
        observer = _Observer()
        observer.schedule(_Alarm(self.event_fd), str(self._folder))
        observer.start()
        self._observer, self._inode = observer, inode

    def _unwatch(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(SKIPPED_ENDINGS)


def _modified_ns(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0  # gone since; opening it will tell
