"""Says which process holds a lock file, without touching the lock: taking it, even for a moment, could stop a start."""

from pathlib import Path

_TABLE = Path("/proc/locks")


def holder(path: Path) -> int | None:
    """Return the id of the process that has locked `path` with flock, None when nobody has or the file is not there."""
    try:
        inode = path.stat().st_ino
        lines = _TABLE.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"; a waiting process has "->" as second word.
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return int(words[4])
    return None
