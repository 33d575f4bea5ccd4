"""Says whether a file in the hot folder is complete, and whether it is one the station takes at all.

On a local disk the kernel answers exactly: a read lease is refused while anybody has the file open for writing. Where
there are no leases (network disk, file of another user) a file is complete when size and time did not change for
`settle_ms`. Links, pipes and folders are left where they are and reported once. Adapter for the disk; one thread.
"""

import fcntl
import logging
import os
import signal
import stat
import time
from pathlib import Path

from station.capture.picture_file import OPEN_FLAGS

LOCAL_FILE_SYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay", "vfat", "exfat"}
)
"""Here every writer is on this machine, so that the kernel knows them all."""
MAX_REMEMBERED = 10_000

_log = logging.getLogger(__name__)

Signature = tuple[int, int, int]
"""Inode, size, time of change in ns."""


class Completeness:
    """Remembers what it must of the files in one folder: since when they are unchanged, and what was reported."""

    def __init__(self, folder: Path, settle_ms: int) -> None:
        self._folder = folder
        self._settle_s = settle_ms / 1000
        self._has_leases = file_system(folder) in LOCAL_FILE_SYSTEMS
        self._seen: dict[str, tuple[Signature, float]] = {}
        self._reported: set[str] = set()

    @property
    def is_settling(self) -> bool:
        """Some file is being waited for: look again soon."""
        return bool(self._seen)

    def forget_all_but(self, names: set[str]) -> None:
        """Forget files that are no longer in the folder."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        self._reported &= names

    def open(self, name: str) -> int | None:
        """Return a descriptor of the file if it is complete and may be claimed, else None."""
        try:
            file = os.open(self._folder / name, OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._leave(name, f"cannot be opened ({error.strerror})")
            return None
        if self._is_complete(name, file):
            self._seen.pop(name, None)
            return file
        os.close(file)
        return None

    def _is_complete(self, name: str, file: int) -> bool:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            self._leave(name, "is not a regular file")
            return False
        if found.st_nlink == 1 and found.st_size and self._has_leases:
            try:
                return is_unwritten(file)
            except OSError:
                pass  # no leases for this file (another user's): wait until it has settled
        has_settled = self._has_settled(name, (found.st_ino, found.st_size, found.st_mtime_ns))
        if has_settled and found.st_nlink != 1:
            self._leave(name, "has a second name (hard link), so that it could still be changed from there")
            return False
        return has_settled

    def _has_settled(self, name: str, signature: Signature) -> bool:
        now_s = time.monotonic()
        last, since_s = self._seen.get(name, (None, now_s))
        if last != signature:
            since_s = now_s
        self._seen[name] = (signature, since_s)
        return now_s - since_s >= self._settle_s

    def _leave(self, name: str, why: str) -> None:
        self._seen.pop(name, None)
        if name not in self._reported and len(self._reported) < MAX_REMEMBERED:
            self._reported.add(name)
            _log.warning("%r in the hot folder %s %s. It is left there: move it away.", name, self._folder, why)


def is_unwritten(file: int) -> bool:
    """Return whether nobody has the file open for writing. Raises OSError where there are no leases for us."""
    # Whoever opens the file while we hold the lease sends us a signal. The usual one, SIGIO, would end the process.
    fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def file_system(folder: Path) -> str:
    """Return the type of the file system the folder is on, as "ext4"; "" if it cannot be told."""
    real = folder.resolve()
    best, kind = -1, ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, tail = line.partition(" - ")
        mount = Path(fields.split()[4].encode().decode("unicode_escape"))
        if real.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), tail.split()[0]
    return kind
