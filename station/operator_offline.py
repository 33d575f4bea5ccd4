"""`station offline | online`: an operator takes the station off the line, and gives it back.

The order is a small file beside the journal. So it holds over restarts and power cuts, can be given while the worker
does not run, and needs no right but that to the station's own folder. The worker looks at each beat; the PLC sees
OfflineReason 4. A file that cannot be read counts: somebody wanted the station off.
"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from station.durable_file import sync_folder, write_whole
from station.errors import JournalError
from station.records import Record
from station.who import who

NAME = "offline-by-operator.json"


class OperatorOffline(Record, frozen=True):
    """What the file says."""

    by: str
    because: str
    since_utc: str
    """ISO 8601, UTC."""

    @property
    def text(self) -> str:
        """For people."""
        return f"by {self.by} since {self.since_utc}{f': {self.because}' if self.because else ''}"


_UNREADABLE = OperatorOffline(by="somebody", because="the file cannot be read", since_utc="unknown")


def path_of(journal: Path) -> Path:
    """Return the file of a station whose journal this is."""
    return journal.with_name(NAME)


def order_of(journal: Path) -> OperatorOffline | None:
    """Return the order; None: there is none."""
    try:
        return msgspec.json.decode(path_of(journal).read_bytes(), type=OperatorOffline)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError):
        return _UNREADABLE


def go_offline(journal: Path, because: str) -> OperatorOffline:
    """Take the station off the line; on disk when this returns. Raises JournalError."""
    now_utc = datetime.now(UTC).isoformat(timespec="seconds")
    order = OperatorOffline(by=who(), because=because, since_utc=now_utc)
    path = path_of(journal)
    try:
        write_whole(path, msgspec.json.encode(order))
    except OSError as error:
        raise _not_written(path, error) from error
    return order


def go_online(journal: Path) -> bool:
    """Give the station back; True if it was off. Raises JournalError."""
    path = path_of(journal)
    try:
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _not_written(path, error) from error
    return True


def _not_written(path: Path, error: OSError) -> JournalError:
    hint = "Run it as the station's user: sudo -u station station offline. Was the station ever started?"
    return JournalError(f"{path} cannot be changed: {error.strerror or error}.", hint)
