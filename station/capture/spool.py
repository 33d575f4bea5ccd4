"""The spool: pictures that were claimed and have no verdict yet. `spool/<job_id>/<original name>` is the pending state.

Claim: fsync the file, hash it, make `spool/<job_id>/`, rename the file into it, fsync the folders. Once `settle` has
returned the picture cannot be lost, not by a power cut either; nobody hears of its job before. A job folder without a
file is a claim that never happened.
Release: rename into the archive or the quarantine. A release that a power cut undoes is done again, since the picture
is then still in the spool. One station per spool (flock). Adapter for the disk; raises SpoolError; one thread.
"""

import errno
import fcntl
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from station import failpoints
from station.capture.folder_sync import FolderSync
from station.capture.job_id import JobIds, captured_at
from station.capture.picture_file import PictureFile, read_open, read_path
from station.errors import SpoolError
from station.records import Failure

LOCK_NAME = ".lock"
REASON_NAME = "reason.txt"
PROBE_NAME = ".station-probe"
MARK = ".tried-"
"""Begins the names of empty files beside a picture, one for each time that looking into it was begun."""
MAX_TRIES = 2
"""A picture that has ended capture so often is not looked into again."""
ORIGINAL = "original"
"""Folder of the picture in the archive: whatever its name, it cannot meet the files the archive output writes."""

LOOK_AT_DISK = "Look at the disk (dmesg, smartctl) before the station is trusted again."

_log = logging.getLogger(__name__)


class DiskFailedError(SpoolError):
    """The disk reported a write error. Nothing on it can be promised any more; the service must stop."""


@dataclass(frozen=True)
class Folders:
    """Where pictures come from and go to; all on one file system."""

    hot: Path
    spool: Path
    archive: Path
    quarantine: Path


@dataclass(frozen=True)
class Pending:
    """A claimed picture that is waiting for its verdict."""

    job_id: str
    path: Path


class Spool:
    """Owns the spool folder from `open` to `close`."""

    def __init__(self, folders: Folders, max_file_bytes: int) -> None:
        self._folders = folders
        self._max_file_bytes = max_file_bytes
        self._lock: int | None = None
        self._job_ids = JobIds()
        self._open_jobs: set[str] = set()
        self._sync = FolderSync()

    def open(self) -> None:
        """Make the folders, check them and lock the spool. Raises SpoolError."""
        for folder in (self._folders.spool, self._folders.archive, self._folders.quarantine):
            _make(folder)
        _check(self._folders)
        self._lock = _locked(self._folders.spool / LOCK_NAME)

    def close(self) -> None:
        """Give the spool free. May be called twice."""
        self._sync.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def recover(self) -> list[Pending]:
        """Return what was claimed before, oldest first; remove claims that never happened. Raises SpoolError."""
        folders = [folder for folder in sorted(self._folders.spool.iterdir()) if folder.name != LOCK_NAME]
        found = [pending for folder in folders if (pending := _recovered(folder))]
        if found:
            self._job_ids.follow(found[-1].job_id)
        self._open_jobs = {pending.job_id for pending in found}
        if found:
            # The last claim may have been cut short before it was durable; those before it were.
            self._sync.begin(self._changed_by(found[-1].path))
            self.settle()
        return found

    def claim(self, file: int, name: str) -> tuple[Pending, PictureFile | None] | None:
        """Take the complete file `name` of the hot folder, open as `file`, into the spool; durable after `settle`.

        None if the file changed or went away meanwhile: it will be seen again. Without a PictureFile if another file
        took its name meanwhile: that one is in the spool now and must be read from there. Raises SpoolError.
        """
        self.settle()
        source = self._folders.hot / name
        try:
            before = os.fstat(file)
            os.fsync(file)
            picture = read_open(file, name, self._max_file_bytes)
            if _signature(os.fstat(file)) != _signature(before):
                return None
            failpoints.hit("claim-synced")
            path = self._moved_in(source)
            is_same = path is not None and path.lstat().st_ino == before.st_ino
        except OSError as error:
            raise _mapped(error, f"{source} cannot be taken into the spool") from error
        if path:
            self._sync.begin(self._changed_by(path))
            self._open_jobs.add(path.parent.name)
        return (Pending(path.parent.name, path), picture if is_same else None) if path else None

    def settle(self) -> None:
        """Return when every claim is durable. Raises DiskFailedError."""
        try:
            if not self._sync.wait():
                return
        except OSError as error:
            raise DiskFailedError(f"A claim cannot be made durable: {error.strerror}.", LOOK_AT_DISK) from error
        failpoints.hit("claim-durable")

    def _changed_by(self, claimed: Path) -> tuple[Path, ...]:
        """Return the folders that a claim changes."""
        return claimed.parent, self._folders.spool, self._folders.hot

    def read(self, pending: Pending) -> PictureFile:
        """Read a pending picture again. Raises OSError."""
        return read_path(pending.path, self._max_file_bytes)

    def release(self, pending: Pending, unreadable: Failure | None) -> None:
        """Move a picture whose verdict is in the journal to the archive, or, if unreadable, to the quarantine.

        Raises SpoolError.
        """
        failpoints.hit("release-started")
        try:
            if unreadable is None:
                day = captured_at(pending.job_id).date().isoformat()
                _move(pending.path, self._folders.archive / day / pending.job_id / ORIGINAL)
            else:
                target = self._folders.quarantine / pending.job_id
                _write_reason(target, pending.path.name, unreadable)
                _move(pending.path, target)
            failpoints.hit("release-moved")
            for mark in self._marks(pending):
                mark.unlink(missing_ok=True)
            pending.path.parent.rmdir()
        except OSError as error:
            raise _mapped(error, f"{pending.path} cannot be moved out of the spool") from error
        self._open_jobs.discard(pending.job_id)
        if not self._open_jobs:
            self._job_ids = JobIds()  # nothing left to come after: the clock counts again, even if it was set back
        failpoints.hit("release-done")

    def discard(self, pending: Pending) -> None:
        """Remove the copy of a challenge sample: the sample itself is beside the recipe. Raises SpoolError."""
        try:
            for file in (pending.path, *self._marks(pending)):
                file.unlink(missing_ok=True)
            pending.path.parent.rmdir()
        except OSError as error:
            raise _mapped(error, f"{pending.path} cannot be removed from the spool") from error
        self._open_jobs.discard(pending.job_id)

    def begin(self, pending: Pending) -> bool:
        """Mark that the picture is about to be looked into; False if that has ended the process `MAX_TRIES` times.

        The marks have to outlive this process, not a power cut: they are not synced. Raises SpoolError.
        """
        for mark in self._marks(pending):
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise _mapped(error, f"{mark} cannot be made") from error
            failpoints.hit("prepare-marked")
            return True
        return False

    def end(self, pending: Pending) -> bool:
        """Take the marks away: looking into the picture did no harm. Returns True. Raises SpoolError."""
        failpoints.hit("prepare-done")
        try:
            for mark in self._marks(pending):
                mark.unlink(missing_ok=True)
        except OSError as error:
            raise _mapped(error, f"The marks in {pending.path.parent} cannot be removed") from error
        return True

    @staticmethod
    def _marks(pending: Pending) -> list[Path]:
        return [pending.path.with_name(f"{MARK}{number}") for number in range(1, MAX_TRIES + 1)]

    def _moved_in(self, source: Path) -> Path | None:
        """Rename the file into a new job folder; None if it is no longer there."""
        folder = self._folders.spool / self._job_ids.next(datetime.now(UTC))
        folder.mkdir()
        failpoints.hit("claim-folder-made")
        try:
            path = source.rename(folder / source.name)
        except OSError as error:
            folder.rmdir()
            if isinstance(error, FileNotFoundError):
                return None
            raise
        failpoints.hit("claim-renamed")
        return path


def _recovered(folder: Path) -> Pending | None:
    """Return the pending picture in a job folder, or None; says what it does not know."""
    try:
        captured_at(folder.name)
        files = list(folder.iterdir())
        marks = [file for file in files if file.name.startswith(MARK)]
        files = [file for file in files if file not in marks]
    except (ValueError, NotADirectoryError):
        _log.error("%s in the spool is not a job and is left alone. Look what it is and move it away.", folder)
        return None
    except OSError as error:
        raise _mapped(error, f"{folder} cannot be read") from error
    if len(files) == 1:
        return Pending(folder.name, files[0])
    if files:
        _log.error("%s holds %d files instead of one and is left alone. Look what they are.", folder, len(files))
    else:
        for mark in marks:
            mark.unlink()
        folder.rmdir()
    return None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolError(
            f"{folder} cannot be made: {error.strerror}.", "Make it and give the station the right to write in it."
        ) from error


def _check(folders: Folders) -> None:
    """Raise SpoolError if a folder is missing, not writable or on another file system than the hot folder."""
    if not folders.hot.is_dir():
        raise SpoolError(
            f"The hot folder {folders.hot} does not exist.", "Make it, or correct capture.hot_folder in config.yaml."
        )
    for folder in (folders.hot, folders.spool, folders.archive, folders.quarantine):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(
                f"The station may not read and write in {folder}.", "Give the station's user the right to it."
            )
        if not _can_move(folders.hot, folder):
            raise SpoolError(
                f"{folder} is on another file system than the hot folder {folders.hot}.",
                "Put both on one disk: pictures are moved by rename, so that none can be lost half way.",
            )


def _can_move(source: Path, target: Path) -> bool:
    """Try it: two mounts of one file system have the same device number and still refuse a rename."""
    probe = source / PROBE_NAME
    probe.touch()
    try:
        probe.rename(target / PROBE_NAME).unlink()
    except OSError as error:
        probe.unlink()
        if error.errno != errno.EXDEV:
            raise _mapped(error, f"A file cannot be moved from {source} to {target}") from error
        return False
    return True


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SpoolError(
            f"The spool {path.parent} is used by another station that is running.",
            "Stop that one, or give each station its own capture.spool.",
        ) from error
    return lock


def _signature(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _move(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(folder / source.name)
    except FileNotFoundError:
        _log.error("%s is no longer in the spool: someone took it. Its verdict is in the journal.", source)


def _write_reason(folder: Path, name: str, failure: Failure) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    note = REASON_NAME if name != REASON_NAME else "_" + REASON_NAME
    (folder / note).write_text(f"{failure.reason.name.lower()}: {failure.detail}\n", encoding="utf-8")


def _mapped(error: OSError, what: str) -> SpoolError:
    text = f"{what}: {error.strerror or error}."
    if error.errno == errno.EIO:
        # After a failed fsync a second one may succeed without the data being on the disk: start over.
        return DiskFailedError(text, LOOK_AT_DISK)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SpoolError(text, "Make room on the disk; the station goes on by itself.")
    return SpoolError(text, "Look at the rights and the disk; the station tries again by itself.")
