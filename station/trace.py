"""`station trace ID`: all that is known of a job, a part or a picture. Only looks.

In: Settings and a job id, part id or picture name. Out: `Trace`s, oldest first: the verdict with its report,
probabilities, times, model and hashes; what the PLC was told; and the files that are kept. A picture without a verdict
yet is found in the spool.
"""

from pathlib import Path

from station.capture.picture_file import shown_name
from station.journal_reader import JournalReader
from station.outputs import plc_state, plc_words
from station.overrides import Override, overrides
from station.records import Record, Verdict
from station.settings import Settings

OF_A_RESULT = (
    "ResultsValid",
    "OK",
    "NG",
    "NotDecidable",
    "Simulated",
    "Fault",
    "FaultCode",
    "InspectionId",
    "ResultEvaluation",
    "ResultState",
    "ReasonCode",
    "PinsInspected",
    "PinsNG",
    "FirstNGPin",
)
"""Fields of the PLC's status block that follow from the verdict alone."""


class Trace(Record):
    """One job."""

    job_id: str
    verdict: Verdict | None
    """None: not judged yet."""
    plc: dict[str, int]
    """The result fields of the PLC's status block for this verdict; empty without one."""
    override: Override | None
    """What a person says of it; None: nobody did."""
    files: tuple[Path, ...]
    """Where the picture is now, and what was kept beside it."""
    removed_utc: str | None
    """When retention deleted it from the archive; None: it did not."""


def trace(settings: Settings, text: str) -> list[Trace]:
    """Return every job whose job id, part id or picture name is `text`. Raises JournalError."""
    text = shown_name(text)
    journal = settings.journal.path
    reader = JournalReader(journal) if journal.exists() else None
    judged = [_judged(settings, reader, verdict) for verdict in reader.find(text)] if reader else []
    known = {found.job_id for found in judged}
    return judged + [waiting for waiting in _waiting(settings, text) if waiting.job_id not in known]


def _judged(settings: Settings, journal: JournalReader, verdict: Verdict) -> Trace:
    shown = plc_state.after_verdict(plc_state.after_turn(plc_state.PlcState(), ready=True), verdict)
    fields = plc_words.decode(plc_words.encode(shown))
    told = {name: fields[name] for name in OF_A_RESULT}
    return Trace(
        job_id=verdict.job_id,
        verdict=verdict,
        plc=told,
        override=overrides(settings.journal.path).get(verdict.job_id),
        files=_files(settings, verdict.job_id),
        removed_utc=journal.removed_utc(verdict.job_id),
    )


def _files(settings: Settings, job_id: str) -> tuple[Path, ...]:
    """Return all files kept of a job: archive and quarantine have a folder of its name, the archive one level down."""
    folders = [settings.capture.spool / job_id, settings.capture.quarantine / job_id]
    archive = settings.outputs.archive.folder
    if archive.is_dir():
        folders += [day / job_id for day in sorted(archive.iterdir())]
    return tuple(file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file())


def _shown_names(folder: Path) -> list[str]:
    return [shown_name(file.name) for file in folder.iterdir()]


def _waiting(settings: Settings, text: str) -> list[Trace]:
    """Return the claimed pictures of this job id or name that have no verdict yet."""
    spool = settings.capture.spool
    folders = [folder for folder in sorted(spool.iterdir()) if folder.is_dir()] if spool.is_dir() else []
    found = [folder for folder in folders if text in {folder.name, *_shown_names(folder)}]
    return [
        Trace(
            job_id=folder.name,
            verdict=None,
            plc={},
            override=None,
            files=_files(settings, folder.name),
            removed_utc=None,
        )
        for folder in found
    ]
