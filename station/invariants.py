"""What must hold of the station's stores at every moment, as a table. Pure: facts in, broken rules out.

`station.fsck` reads spool, archive, quarantine and journal into `Facts`; an `Invariant` yields one line for each thing
that breaks it. Stores have one writer each (ARCHITECTURE.md), so what is broken here was broken by a fault or by hand.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from station.records import IN_QUARANTINE, Evaluation, Reason, ResultState


class Picture(NamedTuple):
    """A kept picture file."""

    name: str
    size_bytes: int
    sha256: str
    """Hex; empty: it was not hashed."""


class Judged(NamedTuple):
    """What the journal says of one job."""

    epoch: int
    seq: int
    evaluation: Evaluation
    result_state: ResultState
    reason: Reason
    all_regions_ok: bool
    """There is at least one region, and every one is OK."""
    image: Picture
    created_utc: datetime


@dataclass(frozen=True)
class Facts:
    """What was found in the stores. Pictures and folders are named by job id."""

    now_utc: datetime
    open_limit: timedelta
    """Longest time from a picture's turn to its verdict: deadline, sending again and a restart."""
    both_run: bool
    """Capture and worker run, so that every turn comes."""
    verdicts: Mapping[str, Judged]
    epochs: tuple[int, ...]
    """Ascending."""
    journal_problems: tuple[str, ...] = ()
    """What the database says against itself."""
    spool: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)
    archive: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)
    quarantine: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)
    captured_utc: Mapping[str, datetime] = field(default_factory=dict)
    """Of the jobs in the spool."""
    strays: tuple[str, ...] = ()
    """What lies in a store and is no job."""
    taken_away: frozenset[str] = frozenset()
    """Judged jobs whose day in the archive, or folder in the quarantine, a person has taken away whole."""

    @property
    def places(self) -> dict[str, Mapping[str, tuple[Picture, ...]]]:
        """The three stores of pictures by name."""
        return {"spool": self.spool, "archive": self.archive, "quarantine": self.quarantine}


class Invariant(NamedTuple):
    """A rule and how to find what breaks it."""

    name: str
    says: str
    broken: Callable[[Facts], Iterator[str]]


def _one_place(facts: Facts) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for place, jobs in facts.places.items():
        for job_id, pictures in jobs.items():
            found.setdefault(job_id, []).extend([place] * len(pictures))
    for job_id in sorted({*facts.verdicts, *found} - facts.taken_away):
        places = found.get(job_id, [])
        if len(places) != 1:
            yield f"{job_id}: its picture is in {' and '.join(places) or 'none of them'}"
    yield from (f"{stray} is not a job" for stray in facts.strays)


def _same_picture(facts: Facts) -> Iterator[str]:
    for place, jobs in facts.places.items():
        for job_id, pictures in jobs.items():
            verdict = facts.verdicts.get(job_id)
            for picture in pictures if verdict else ():
                image = verdict.image if verdict else picture
                hash_differs = picture.sha256 and picture.sha256 != image.sha256
                # What could not be read at all has a verdict about nothing.
                if image.size_bytes and (picture.size_bytes != image.size_bytes or hash_differs):
                    yield f"{job_id}: the picture in the {place} is not the one that was judged"


def _right_place(facts: Facts) -> Iterator[str]:
    for place in ("archive", "quarantine"):
        for job_id in facts.places[place]:
            verdict = facts.verdicts.get(job_id)
            if verdict and (verdict.reason in IN_QUARANTINE) != (place == "quarantine"):
                yield f"{job_id}: {verdict.reason.name.lower()}, but its picture is in the {place}"


def _verdict_first(facts: Facts) -> Iterator[str]:
    for place in ("archive", "quarantine"):
        yield from (
            f"{job} is in the {place} and has no verdict" for job in facts.places[place].keys() - facts.verdicts
        )


def _one_verdict(facts: Facts) -> Iterator[str]:
    yield from facts.journal_problems


def _sequence(facts: Facts) -> Iterator[str]:
    for before, epoch in zip((0, *facts.epochs), facts.epochs, strict=False):
        if epoch != before + 1:
            yield f"epoch {epoch} follows epoch {before}"
    given: dict[int, list[int]] = {}
    for verdict in facts.verdicts.values():
        given.setdefault(verdict.epoch, []).append(verdict.seq)
    for epoch, seqs in sorted(given.items()):
        if epoch not in facts.epochs:
            yield f"epoch {epoch} has verdicts and never began"
        wrong = next((n for n, seq in enumerate(sorted(seqs), start=1) if n != seq), None)
        if wrong is not None:
            yield f"epoch {epoch}: seq {wrong} is missing or given twice"


def _proven_ok(facts: Facts) -> Iterator[str]:
    for job_id, verdict in facts.verdicts.items():
        is_proven = (
            verdict.all_regions_ok
            and verdict.result_state is ResultState.COMPLETED
            and verdict.reason is Reason.NONE
            and verdict.image.size_bytes > 0
        )
        if verdict.evaluation is Evaluation.OK and not is_proven:
            yield f"{job_id} is OK without proof"


def _in_time(facts: Facts) -> Iterator[str]:
    """An open picture is late if a younger one was judged long ago, or its turn was long ago and nothing was judged."""
    last_utc = max((verdict.created_utc for verdict in facts.verdicts.values()), default=None)
    judged = [
        job_id for job_id, verdict in facts.verdicts.items() if facts.now_utc - verdict.created_utc > facts.open_limit
    ]
    youngest_judged = max(judged, default="")
    for job_id in sorted(facts.spool.keys() - facts.verdicts.keys()):
        captured = facts.captured_utc[job_id]
        turn_utc = max(captured, last_utc) if last_utc else captured
        stands_still = facts.both_run and facts.now_utc - turn_utc > facts.open_limit
        if job_id < youngest_judged or stands_still:
            yield f"{job_id} is open since {captured.isoformat(timespec='seconds')}"


def _counters(facts: Facts) -> Iterator[str]:
    evaluations = Counter(verdict.evaluation for verdict in facts.verdicts.values())
    waiting = len(facts.spool.keys() - facts.verdicts.keys())
    accepted = len({*facts.spool, *facts.archive, *facts.quarantine} | facts.taken_away)
    if waiting + sum(evaluations.values()) != accepted:
        yield f"{accepted} pictures accepted, but {waiting} open and {sum(evaluations.values())} judged"


INVARIANTS = (
    Invariant("one place", "each accepted picture is in exactly one of spool, archive and quarantine", _one_place),
    Invariant("same picture", "each kept picture is the one its verdict is about", _same_picture),
    Invariant("right place", "unreadable pictures are in the quarantine, all others in the archive", _right_place),
    Invariant("verdict first", "no picture leaves the spool without a verdict", _verdict_first),
    Invariant("one verdict", "a job has one verdict, which nobody can change", _one_verdict),
    Invariant("sequence", "seq counts 1, 2, 3... in each epoch, and so do the epochs", _sequence),
    Invariant("proven OK", "an OK ran to its end and has regions, all of them OK", _proven_ok),
    Invariant("in time", "nothing is open past its deadline", _in_time),
    Invariant("counters", "accepted pictures are those open and those judged", _counters),
)
