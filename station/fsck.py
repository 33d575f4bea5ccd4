"""`station fsck`: do the stores agree with each other? Only looks; the station may run meanwhile.

In: Settings. Out: a `Report`, one line for each rule of `station.invariants`. A picture moves from the spool to the
archive or quarantine, never back, and only after its verdict: the stores are read in that order and what seems wrong
is looked at again, so that a move under our eyes breaks no rule.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from station import locks
from station.capture.job_id import captured_at
from station.capture.picture_file import read_path
from station.capture.spool import ORIGINAL, REASON_NAME
from station.errors import StationError
from station.invariants import INVARIANTS, Facts, Judged, Picture
from station.journal_reader import JournalReader
from station.recipe_file import load_recipe
from station.records import IN_QUARANTINE, Evaluation, Record, Verdict
from station.settings import Settings
from station.status import SPOOL_LOCK

OPEN_BEYOND_DEADLINE_S = 30
"""Capture sends a job again 10 s after its deadline; a restart takes some seconds more."""
SHOWN = 20
"""So many things that break a rule are named; all are counted."""

_Held = dict[str, tuple[Picture, ...]]


class Checked(Record):
    """One rule."""

    name: str
    says: str
    broken: int
    """How many things break it."""
    found: tuple[str, ...]
    """The first of them."""


class Report(Record):
    """What `station fsck` found."""

    holds: bool
    """Every rule."""
    accepted: int
    open: int
    judged: int
    evaluations: dict[Evaluation, int]
    archived: int
    quarantined: int
    taken_away: int
    """Judged pictures that a person has taken out of archive or quarantine, or retention has deleted."""
    by_retention: int
    """Those of them that retention has deleted."""
    epochs: int
    hashed: bool
    rules: tuple[Checked, ...]


def fsck(settings: Settings, hashed: bool = False) -> Report:
    """Return the report; `hashed`: read every picture and compare its hash. Raises JournalError, ConfigurationError."""
    stores = _Stores(settings, hashed)
    facts = stores.facts()
    rules = tuple(
        Checked(name=rule.name, says=rule.says, broken=len(found), found=tuple(found[:SHOWN]))
        for rule in INVARIANTS
        for found in [list(rule.broken(facts))]
    )
    return Report(
        holds=not any(rule.broken for rule in rules),
        accepted=len({*facts.spool, *facts.archive, *facts.quarantine} | facts.taken_away),
        open=len(facts.spool.keys() - facts.verdicts.keys()),
        judged=len(facts.verdicts),
        evaluations=dict(Counter(verdict.evaluation for verdict in facts.verdicts.values())),
        archived=len(facts.archive),
        quarantined=len(facts.quarantine),
        taken_away=len(facts.taken_away),
        by_retention=len(facts.taken_away & stores.removed),
        epochs=len(facts.epochs),
        hashed=hashed,
        rules=rules,
    )


@dataclass
class _Stores:
    """Reads the stores of one station."""

    settings: Settings
    hashed: bool

    def __post_init__(self) -> None:
        self._strays: list[str] = []
        self.removed: frozenset[str] = frozenset()

    def facts(self) -> Facts:
        journal = self._journal()
        verdicts = {verdict.job_id: _judged(verdict) for verdict in journal.all()} if journal else {}
        spool = self._below(self.settings.capture.spool)
        archive = self._archive()
        quarantine = self._below(self.settings.capture.quarantine, REASON_NAME)
        # Moved or judged while we read:
        spool = {job: held for job, held in spool.items() if self._is_still_there(job, archive, quarantine)}
        for job_id in (archive.keys() | quarantine.keys()) - verdicts.keys():
            if journal and (verdict := journal.of_job(job_id)):
                verdicts[job_id] = _judged(verdict)
        self.removed = journal.removed() if journal else frozenset()
        missing = verdicts.keys() - spool.keys() - archive.keys() - quarantine.keys()
        return Facts(
            now_utc=datetime.now(UTC),
            open_limit=timedelta(milliseconds=load_recipe(self.settings.recipe).file.deadline_ms)
            + timedelta(seconds=OPEN_BEYOND_DEADLINE_S),
            both_run=self._both_run(),
            verdicts=verdicts,
            epochs=journal.epochs() if journal else (),
            journal_problems=journal.problems() if journal else (),
            spool=spool,
            archive=archive,
            quarantine=quarantine,
            captured_utc={job_id: captured_at(job_id) for job_id in spool},
            strays=tuple(self._strays),
            taken_away=frozenset(job_id for job_id in missing if self._is_taken_away(job_id, verdicts[job_id])),
        )

    def _journal(self) -> JournalReader | None:
        path = self.settings.journal.path
        return JournalReader(path) if path.exists() else None

    def _both_run(self) -> bool:
        path = self.settings.journal.path
        places = (self.settings.capture.spool / SPOOL_LOCK, path.with_name(path.name + ".lock"))
        return all(locks.holder(place) for place in places)

    def _is_still_there(self, job_id: str, archive: _Held, quarantine: _Held) -> bool:
        if job_id not in archive and job_id not in quarantine:
            return True
        return any(_visible(self.settings.capture.spool / job_id))

    def _is_taken_away(self, job_id: str, verdict: Judged) -> bool:
        if job_id in self.removed:
            return True
        if verdict.reason in IN_QUARANTINE:
            return not (self.settings.capture.quarantine / job_id).exists()
        return not (self.settings.outputs.archive.folder / captured_at(job_id).date().isoformat()).exists()

    def _archive(self) -> _Held:
        found: _Held = {}
        for day in _visible(self.settings.outputs.archive.folder):
            for job in _visible(day):
                if pictures := tuple(self._pictures(job / ORIGINAL)):
                    found[job.name] = pictures
        return found

    def _below(self, store: Path, note: str = "") -> _Held:
        """Return the pictures in each job folder of the spool or the quarantine; `note` is a file that is none."""
        found: _Held = {}
        for folder in _visible(store):
            try:
                captured_at(folder.name)
            except ValueError:
                self._strays.append(str(folder))
                continue
            if pictures := tuple(self._pictures(folder, note)):
                found[folder.name] = pictures
        return found

    def _pictures(self, folder: Path, note: str = "") -> Iterator[Picture]:
        files = _visible(folder)
        # Beside a picture that has the note's own name the note has another one.
        note = min((file.name for file in files if note and file.name in {note, "_" + note}), default="")
        for file in files:
            if file.name == note:
                continue
            try:
                sha256 = read_path(file, 0).image.sha256 if self.hashed else ""
                yield Picture(file.name, file.lstat().st_size, sha256)
            except FileNotFoundError:
                continue  # moved on; it is found where it went
            except OSError:
                yield Picture(file.name, -1, "unreadable")


def _judged(verdict: Verdict) -> Judged:
    regions = verdict.regions
    return Judged(
        epoch=verdict.epoch,
        seq=verdict.seq,
        evaluation=verdict.evaluation,
        result_state=verdict.result_state,
        reason=verdict.reason,
        all_regions_ok=bool(regions) and all(region.evaluation is Evaluation.OK for region in regions),
        image=Picture(verdict.image.name, verdict.image.size_bytes, verdict.image.sha256),
        created_utc=datetime.fromisoformat(verdict.created_utc),
    )


def _visible(folder: Path) -> list[Path]:
    """Return what is in the folder, hidden names left out; nothing if it is not there. Raises StationError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StationError(f"{folder} cannot be read: {error.strerror}.", "Run it as the station's user.") from error
