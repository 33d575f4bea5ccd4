"""Runs challenges: which probe or sample comes next, what came of it, and whether the station may say OK.

Steps are handed out one at a time and only when the caller has nothing else to do, so a part waits for no more than the
one that is with the engine. The clock is passed in, CLOCK_MONOTONIC nanoseconds. Called from the worker's one thread;
it writes one line to the log at the end of each run.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from station.challenge import (
    SAMPLE_LIMIT_S,
    ChallengeRun,
    Standing,
    Step,
    bar_of,
)
from station.challenge_file import Sample, problem_of, wanted_of
from station.complaints import Complaints
from station.durable_file import append_line
from station.guards import Probe
from station.judge import judge
from station.recipe import Recipe
from station.records import Evaluation, Failure, Job, ModelRef, RegionReport
from station.worker.pending import Check

logger = logging.getLogger(__name__)

LINE = "line"
"""Cause of the few probes now and then; they can fail the station, never bring it back."""
LINE_EVERY_PARTS = 100
EVIDENCE = "evidence"
"""Cause of the look for the reason of a rejection; so many in a row without one fail the station."""
MOST_UNFOUNDED = 3

LiveProbes = Callable[[Job, int], Sequence[Probe]]
"""A part that was OK and how often before -> probes made of its frame."""
EvidenceProbes = Callable[[Job, Sequence[RegionReport]], Sequence[Probe]]
"""A part that was not OK and what was found -> probes of the reason."""


class Material(NamedTuple):
    """What a recipe's model is challenged with."""

    probes: Sequence[Probe]
    samples: Sequence[Sample]
    live: LiveProbes
    evidence: EvidenceProbes = lambda _job, _regions: ()


class _Said(NamedTuple):
    """What was said of a sample."""

    evaluation: Evaluation
    regions: Sequence[RegionReport]


class Challenger:
    """The challenges of the recipe in force."""

    def __init__(
        self, recipe: Recipe, material: Material, log: Path, *, every_min: int = 0, known: Iterable[Sample] = ()
    ) -> None:
        """`every_min` 0: none on schedule. `known`: samples of other recipes, which are no parts either."""
        self._recipe, self._material = recipe, material
        self._samples = {sample.sha256: sample for sample in (*known, *material.samples)}
        self._log, self._every_ns = log, every_min * 60_000_000_000
        self._complaints = Complaints(logger)
        self._todo: deque[Check] = deque()
        self._out: Check | None = None
        self._out_until_ns: int | None = None
        self._steps: list[Step] = []
        self._cause = ""
        self._began_utc = ""
        self._next_ns: int | None = None
        self._engine_starts = 0
        self._model = ModelRef(name="none", sha256="")
        self._parts = 0
        self._turns = 0
        self._frame: Job | None = None
        self._rejected: tuple[Job, Sequence[RegionReport]] | None = None
        self._unfounded = 0
        self.standing = Standing.NOT_ASKED
        self.last: ChallengeRun | None = None
        """The last run that counts: a whole one, or a failed one of the line."""
        self._told: list[Callable[[ChallengeRun], None]] = []

    @property
    def bar(self) -> Failure | None:
        """Why nothing may be said OK now."""
        return bar_of(self.standing, self.last)

    @property
    def is_running(self) -> bool:
        """True while steps are left."""
        return bool(self._todo) or self._out is not None

    def sample(self, sha256: str) -> Sample | None:
        """Return the sample with these bytes, None for a picture of a part."""
        return self._samples.get(sha256)

    def came(self, sample: Sample) -> None:
        """Take in that a sample came from the hot folder; from here its deadline is a job's."""
        if sample is self._out:
            self._out_until_ns = None

    def loaded(self, engine_starts: int, model: ModelRef, now_ns: int) -> None:
        """Take in that the engine is loaded; whenever it is a new process everything is asked anew."""
        if engine_starts != self._engine_starts:
            self._engine_starts, self._model = engine_starts, model
            self.standing = Standing.DUE
            self.begin("start", now_ns)

    def use(self, recipe: Recipe, material: Material, now_ns: int) -> None:
        """Take in that another recipe is in force: it must pass before anything is OK."""
        self._recipe, self._material, self._frame, self._rejected = recipe, material, None, None
        self._unfounded = 0
        if self.standing is not Standing.NOT_ASKED:
            self.standing = Standing.DUE
            self.begin("recipe", now_ns)

    def begin(self, cause: str, now_ns: int, told: Callable[[ChallengeRun], None] | None = None) -> None:
        """Begin a whole challenge; one that runs is dropped and begun anew. `told` hears of its end."""
        if told:
            self._told.append(told)
        self._start(cause, (*self._material.probes, *self._material.samples))
        self._next_ns = now_ns + self._every_ns if self._every_ns else None

    def part_was_ok(self, job: Job) -> None:
        """Count a part of the line; now and then its frame is kept, to be probed when there is time."""
        self._parts += 1
        if self._parts >= LINE_EVERY_PARTS:
            self._parts, self._turns, self._frame = 0, self._turns + 1, job

    def part_was_not_ok(self, job: Job, regions: Sequence[RegionReport]) -> None:
        """Keep the newest part that was rejected, to look for the reason when there is time."""
        self._rejected = job, regions

    def next_due_ns(self) -> int | None:
        """Return when `step` has something to do by itself."""
        return min((due for due in (self._next_ns, self._out_until_ns) if due is not None), default=None)

    def overdue(self, now_ns: int) -> None:
        """Give up a sample that does not come; begin what the schedule wants."""
        if self._out and self._out_until_ns is not None and now_ns >= self._out_until_ns:
            self._end(self._out, f"did not come from the hot folder in {SAMPLE_LIMIT_S} s: does capture run?", 0.0)
        if self._next_ns is not None and now_ns >= self._next_ns and not self.is_running:
            self.begin("schedule", now_ns)

    def step(self) -> Check | None:
        """Return what is to be asked or put into the hot folder now; call `sent` when that is done."""
        if self._frame and not self.is_running:
            frame, self._frame = self._frame, None
            self._start(LINE, self._material.live(frame, self._turns))
        if self._rejected and not self.is_running:
            rejected, self._rejected = self._rejected, None
            self._start(EVIDENCE, self._material.evidence(*rejected))
        return self._todo[0] if self._todo and self._out is None else None

    def sent(self, now_ns: int) -> None:
        """Take in that the step is on its way."""
        self._out = self._todo.popleft()
        self._out_until_ns = now_ns + SAMPLE_LIMIT_S * 1_000_000_000 if isinstance(self._out, Sample) else None

    def answered(
        self, check: Check, job: Job, regions: tuple[RegionReport, ...] | None, trouble: Failure | None, ms: float
    ) -> None:
        """Take in what came of a step. A sample that nobody waits for is forgotten."""
        if check is not self._out:
            return
        if isinstance(check, Probe):
            self._end(check, check.problem(regions, trouble), ms, check.found(regions or ()))
            return
        judgement = judge(self._recipe, job, regions, trouble, None)
        said = _Said(judgement.evaluation, regions or ())
        self._end(check, problem_of(check, said, judgement.detail), ms)

    def _start(self, cause: str, checks: Sequence[Check]) -> None:
        self._todo, self._out, self._out_until_ns, self._steps = deque(checks), None, None, []
        self._cause, self._began_utc = cause, _now()

    def _end(self, check: Check, problem: str, ms: float, found: str = "") -> None:
        guard, wanted = (check.guard, check.wanted) if isinstance(check, Probe) else ("G16", wanted_of(check))
        self._steps.append(Step(name=check.name, guard=guard, wanted=wanted, problem=problem, ms=ms, found=found))
        self._out, self._out_until_ns = None, None
        if not self._todo:
            self._conclude()

    def _conclude(self) -> None:
        run = ChallengeRun(
            cause=self._cause,
            recipe=self._recipe.file.recipe,
            recipe_sha256=self._recipe.sha256,
            model=self._model,
            started_utc=self._began_utc,
            ended_utc=_now(),
            steps=tuple(self._steps),
        )
        if run.cause == EVIDENCE:
            self._weigh(run)
        elif not run.is_passed:
            self._fail(run)
        elif run.cause != LINE:
            self.standing, self.last = Standing.PASSED, run
            logger.info("The challenge (%s) passed: %d steps.", run.cause, len(run.steps))
        if run.cause not in {LINE, EVIDENCE}:
            told, self._told = self._told, []
            for tell in told:
                tell(run)
        try:
            append_line(self._log, run)
        except OSError as error:
            self._complaints.say("log", f"{self._log} cannot be written: {error.strerror or error}.")

    def _fail(self, run: ChallengeRun) -> None:
        self.standing, self.last = Standing.FAILED, run
        logger.error("The challenge (%s) failed, nothing is OK: %s", run.cause, "; ".join(run.problems))

    def _weigh(self, run: ChallengeRun) -> None:
        """Take in whether a rejection had a reason. One part may be odd; several in a row are a model that is."""
        self._unfounded = 0 if run.is_passed else self._unfounded + 1
        if self._unfounded >= MOST_UNFOUNDED:
            self._unfounded = 0
            self._fail(run)
        elif self._unfounded:
            logger.warning("A rejection without reason: %s", "; ".join(run.problems))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
