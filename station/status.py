"""`station status`: what runs, what waits, what was judged last. Only looks; runs beside the station or without it.

In: Settings. Out: one `Status`. The truth of each part comes from its owner: locks say what runs, folders what waits,
the journal what was judged, the PLC port what the PLC is told.
"""

import contextlib
import shutil
from pathlib import Path

import msgspec

from station import locks
from station.challenge import ChallengeRun
from station.challenge_file import last_run, log_path
from station.errors import JournalError, StationError
from station.journal_reader import JournalReader
from station.operator_offline import OperatorOffline, order_of
from station.overrides import overrides
from station.plc_client import PlcClient
from station.records import Evaluation, Record, Verdict
from station.settings import Settings
from station.shadow import ShadowReport, report_of
from station.shadow_file import read_lines, shadow_path

LAST_VERDICTS, LAST_DIFFERENCES = 10, 10
SPOOL_LOCK = ".lock"


class Waiting(Record):
    """Pictures on their way; None: the folder is not there."""

    hot_folder: int | None
    spool: int | None
    quarantine: int | None


class Status(Record):
    """The station now."""

    station: str
    capture_pid: int | None
    """None: capture does not run."""
    worker_pid: int | None
    online: bool | None
    """As the PLC sees it; None: not asked, the worker or its PLC port does not run."""
    fault_code: int | None
    offline_by_operator: OperatorOffline | None
    """None: no operator has taken it off the line."""
    waiting: Waiting
    counts: dict[Evaluation, int]
    """All verdicts in the journal."""
    last: tuple[Verdict, ...]
    """Newest first."""
    challenge: ChallengeRun | None
    """The last one of the log; None: none yet."""
    shadow: ShadowReport | None
    """What the second model said, with the newest differences; None: there is none."""
    disk_free_bytes: int
    disk_total_bytes: int


def status(settings: Settings) -> Status:
    """Return the station's status. Raises JournalError if there is a journal that cannot be read."""
    journal = settings.journal.path
    reader = JournalReader(journal) if journal.exists() else None
    worker_pid = locks.holder(journal.with_name(journal.name + ".lock"))
    online, fault_code = _plc(settings) if worker_pid else (None, None)
    usage = shutil.disk_usage(_existing(settings.capture.spool))
    return Status(
        station=settings.station.name,
        capture_pid=locks.holder(settings.capture.spool / SPOOL_LOCK),
        worker_pid=worker_pid,
        online=online,
        fault_code=fault_code,
        offline_by_operator=order_of(journal),
        waiting=_waiting(settings),
        counts=reader.counts() if reader else dict.fromkeys(Evaluation, 0),
        last=tuple(reader.last(LAST_VERDICTS)) if reader else (),
        challenge=last_run(log_path(journal)),
        shadow=_shadow(settings),
        disk_free_bytes=usage.free,
        disk_total_bytes=usage.total,
    )


def shadow_report(settings: Settings) -> ShadowReport:
    """Return what the second model said beside the active one. Raises JournalError."""
    path = shadow_path(settings.journal.path)
    try:
        truths = {job_id: one.evaluation for job_id, one in overrides(settings.journal.path).items()}
        return report_of(read_lines(path), truths)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}.", "Look at its rights and the disk.") from error


def _shadow(settings: Settings) -> ShadowReport | None:
    if settings.shadow is None:
        return None
    found = shadow_report(settings)
    return msgspec.structs.replace(found, differences=found.differences[:LAST_DIFFERENCES])


def _waiting(settings: Settings) -> Waiting:
    capture = settings.capture
    return Waiting(
        hot_folder=_entries(capture.hot_folder), spool=_entries(capture.spool), quarantine=_entries(capture.quarantine)
    )


def _entries(folder: Path) -> int | None:
    """Return how many visible files or job folders are in `folder`."""
    try:
        return sum(not entry.name.startswith(".") for entry in folder.iterdir())
    except OSError:
        return None


def _plc(settings: Settings) -> tuple[bool | None, int | None]:
    modbus = settings.outputs.modbus_server
    if modbus.enabled:
        with contextlib.suppress(StationError), PlcClient(modbus.host, modbus.port) as plc:
            shown = plc.status()
            return bool(shown["Online"]), shown["FaultCode"]
    return None, None


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
