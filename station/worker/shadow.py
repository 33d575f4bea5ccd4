"""Judges parts with a second model, the shadow, when their verdicts are out and the line is quiet.

In: each part with its verdict; out: lines of shadow.jsonl. No verdict and no output hears of it. Its engine is a child
of its own, stopped as soon as a part is there or about to come, and going on when none is; parts that come faster than
it judges are dropped and counted. What goes wrong here ends the shadow, never the worker. Used from the worker's one
thread; the clock is passed in, CLOCK_MONOTONIC nanoseconds.
"""

import logging
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from station.complaints import Complaints
from station.engine.base import Query, Question
from station.errors import ConfigurationError
from station.judge import judge
from station.manifest import load_manifest
from station.measurement import with_measures
from station.memory import shortage
from station.recipe import Recipe
from station.records import Evaluation, Job, RegionReport, Verdict
from station.shadow import ShadowDropped, ShadowJudged, ShadowLine, ShadowState
from station.shadow_file import append_line
from station.worker.changeover import InspectionRules
from station.worker.engine_host import EngineHost, EngineState, Outcome
from station.worker.pending import Pending

logger = logging.getLogger(__name__)

KEPT_PARTS = 8
"""Parts that may wait for the shadow; their pictures are kept in memory so long."""
MAX_STARTS = 3
"""An engine that was started so often without an answer is given up until the worker's next start."""


class _Part(NamedTuple):
    """A part that has its verdict, with what the model was asked about it."""

    job: Job
    queries: tuple[Query, ...]
    verdict: Verdict


class Shadow:
    """The second model of one station."""

    def __init__(self, manifest: Path, engine: EngineHost, log: Path) -> None:
        """`engine`: of its own, not started. `log`: shadow.jsonl."""
        self._manifest, self._engine, self._log = manifest, engine, log
        self._waiting: deque[_Part] = deque()
        self._asked: _Part | None = None
        self._dropped = 0
        self._starts_before = 0
        self._is_started = False
        self.problem = ""
        """Why it does not judge any more; empty: it does."""
        self.complaints = Complaints(logger)

    def part_was_judged(self, pending: Pending, verdict: Verdict) -> None:
        """Take in a part whose verdict is out and acknowledged; one without answers of the model is left out."""
        if self.problem or not pending.queries or not verdict.regions:
            return
        self._waiting.append(_Part(pending.job, pending.queries, verdict))
        if len(self._waiting) > KEPT_PARTS:
            self._waiting.popleft()
            self._dropped += 1

    def give_way(self, now_ns: int) -> None:
        """Stop computing at once: a part is there."""
        self._engine.pause(now_ns)

    def turn(self, now_ns: int, recipe: Recipe, inspection: InspectionRules, *, is_quiet: bool) -> None:
        """Go on where it was stopped, if no part would wait for it. `recipe`, `inspection`: those in force."""
        if self.problem:
            return
        if not is_quiet:
            self._engine.pause(now_ns)
            return
        self._engine.go_on(now_ns)
        if not self._is_started:
            self._start(inspection.question, now_ns)
        for outcome in self._engine.poll(now_ns):
            self._take(outcome, recipe, inspection)
        if self._engine.state is EngineState.DEAD and self._engine.starts - self._starts_before >= MAX_STARTS:
            self._give_up(self._engine.reason)
        self._ask_next(recipe, inspection, now_ns)

    def watched(self) -> list[tuple[int, bool]]:
        """Return what the worker's loop is to wait on beside its own."""
        watched = self._engine.watched()
        return [watched] if watched else []

    def next_due_ns(self) -> int | None:
        """Return when `turn` has something to do by itself."""
        return None if self.problem else self._engine.next_due_ns()

    def close(self) -> None:
        """End the child; may be called in any state."""
        self._dropped += len(self._waiting) + (self._asked is not None)
        self._waiting.clear()
        self._tell_dropped()
        self._engine.close()

    def _start(self, question: Question, now_ns: int) -> None:
        self._is_started = True
        try:
            manifest = load_manifest(self._manifest)
        except ConfigurationError as error:
            self._give_up(error.problems[0])
            return
        if problem := shortage(manifest):
            self._give_up(problem)
            return
        self._engine.start(question, now_ns)
        self._write(ShadowState(str(self._manifest), "", _now()))

    def _ask_next(self, recipe: Recipe, inspection: InspectionRules, now_ns: int) -> None:
        while self._waiting and self._engine.state is EngineState.READY:
            if self._waiting[0].job.recipe_sha256 != recipe.sha256:
                self._waiting.popleft()
                self._dropped += 1
                continue
            self._engine.prepare(inspection.question, now_ns)
            if self._engine.state is EngineState.READY:
                self._asked = self._waiting.popleft()
                self._engine.submit(self._asked.job.job_id, self._asked.queries, now_ns)

    def _take(self, outcome: Outcome, recipe: Recipe, inspection: InspectionRules) -> None:
        part, self._asked = self._asked, None
        if part is None or outcome.answers is None or part.job.recipe_sha256 != recipe.sha256:
            self._dropped += part is not None
            if outcome.answers is None:
                self.complaints.say("shadow", f"The shadow did not judge job {outcome.job_id}: {outcome.detail}")
            return
        self._starts_before = self._engine.starts
        try:
            regions = with_measures(inspection.regions(outcome.answers, outcome.ms), part.job, recipe.file.measurement)
            line = self._line(recipe, part, regions, outcome.ms)
        except Exception:  # noqa: BLE001 - outermost guard of a part: the shadow must not end the worker
            self._dropped += 1
            self.complaints.say("shadow", f"The shadow's answers about job {outcome.job_id}", traceback=True)
            return
        self._tell_dropped()
        self._write(line)

    def _line(self, recipe: Recipe, part: _Part, regions: tuple[RegionReport, ...], ms: float) -> ShadowJudged:
        verdict = part.verdict
        return ShadowJudged(
            job_id=part.job.job_id,
            recipe_sha256=recipe.sha256,
            active=verdict.model,
            shadow=self._engine.model,
            active_said=judge(recipe, part.job, verdict.regions, None, None).evaluation,
            shadow_said=judge(recipe, part.job, regions, None, None).evaluation,
            active_bad=_bad(verdict.regions),
            shadow_bad=_bad(regions),
            ms=round(ms, 1),
            judged_utc=_now(),
        )

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        logger.error("The shadow %s does not judge until the worker's next start: %s", self._manifest, problem)
        self._write(ShadowState(str(self._manifest), problem, _now()))
        self._waiting.clear()  # its engine is not there any more: nothing to wait for in the worker's loop

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._write(ShadowDropped(self._dropped))
            self._dropped = 0

    def _write(self, line: ShadowLine) -> None:
        try:
            append_line(self._log, line)
        except OSError as error:
            self.complaints.say("file", f"{self._log} cannot be written: {error.strerror or error}.")


def _bad(regions: tuple[RegionReport, ...]) -> tuple[str, ...]:
    """Return the places that are NOT_OK: pins, or regions that were asked as a whole."""
    pins = [f"{region.region_id}/{pin.pin_id}" for region in regions for pin in region.pins
            if pin.evaluation is Evaluation.NOT_OK]  # fmt: skip
    return tuple(pins or (region.region_id for region in regions if region.evaluation is Evaluation.NOT_OK))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
