"""The end of a job: judged, written to the journal, shown by the outputs, acknowledged to capture; in this order.

In: a job and what the engine said of it, or why it said nothing; out: one verdict. The verdict of a part whose picture
window is still open waits here, because a second picture would change it. A step of a challenge ends without verdict.
Used from the worker's one thread. Raises JournalError: then nothing was shown, and capture sends the job again.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from station import failpoints
from station.complaints import Complaints
from station.judge import Judgement
from station.messages import ack
from station.recipe import Recipe
from station.records import Evaluation, Failure, Job, Reason, RegionReport, ResultState, TriggerRef, Verdict
from station.worker.challenger import Challenger
from station.worker.changeover import InspectionRules
from station.worker.engine_host import EngineHost
from station.worker.fanout import Fanout
from station.worker.journal import Journal
from station.worker.pending import Pending
from station.worker.queue import JobQueue
from station.worker.shadow import Shadow
from station.worker.triggers import Triggers

logger = logging.getLogger(__name__)

Judge = Callable[[Recipe, Job, tuple[RegionReport, ...] | None, Failure | None], Judgement]
"""`station.judge.judge`."""


@dataclass
class InForce:
    """What parts are judged by now; the parts of the worker share one, and `plc_side` changes it."""

    recipe: Recipe
    inspection: InspectionRules


class Found(NamedTuple):
    """All that is known of a job when it comes to its end. Either `regions` or `trouble`, or the job's own failure."""

    pending: Pending
    regions: tuple[RegionReport, ...] | None
    trouble: Failure | None
    inference_ms: float | None = None


class Conclusion:
    """Makes verdicts, one for each job, and tells everybody."""

    def __init__(
        self,
        *,
        station: str,
        config_sha256: str,
        in_force: InForce,
        judge: Judge,
        queue: JobQueue,
        engine: EngineHost,
        journal: Journal,
        outputs: Fanout,
        triggers: Triggers | None,
        challenger: Challenger | None,
        shadow: Shadow | None,
    ) -> None:
        self._station = station
        self._config_sha256 = config_sha256
        self._in_force = in_force
        self._judge = judge
        self._queue = queue
        self._engine = engine
        self._journal = journal
        self._outputs = outputs
        self._triggers = triggers
        self._challenger = challenger
        self._shadow = shadow
        self._held: dict[str, Found] = {}
        self.complaints = Complaints(logger)

    @property
    def waiting(self) -> int:
        """How many verdicts wait for the end of their picture window."""
        return len(self._held)

    def held(self, job_id: str) -> Pending | None:
        """Return the job if its verdict waits here."""
        return self._held[job_id].pending if job_id in self._held else None

    def conclude(self, found: Found) -> None:
        """Give the job its verdict, now or when its picture window is over."""
        pending = found.pending
        if self._triggers and self._triggers.is_open(pending.trigger):
            self._held[pending.job.job_id] = found
        elif pending.check:
            self._end_check(found)
        else:
            self._tell(pending, self._journal.append(self._verdict(found)))

    def release(self) -> None:
        """Give the verdicts whose picture window is over."""
        for job_id, found in list(self._held.items()):
            if not (self._triggers and self._triggers.is_open(found.pending.trigger)):
                del self._held[job_id]
                self.conclude(found)

    def take_back(self, trigger: TriggerRef) -> list[Pending]:
        """Return the jobs of a trigger whose verdicts wait here, which then are forgotten here."""
        jobs = [found.pending for found in self._held.values() if found.pending.trigger == trigger]
        for pending in jobs:
            del self._held[pending.job.job_id]
        return jobs

    def unexpected(self, doing: str, job: Job) -> Failure:
        """Return the trouble for an exception that nobody foresaw; call it in the handler."""
        message = f"Unexpected error while {doing} job {job.job_id}; please report it with the worker's log."
        self.complaints.say("unexpected error", message, traceback=True)
        return Failure(reason=Reason.ENGINE_FAILED, detail=message)

    def _verdict(self, found: Found) -> Verdict:
        pending, job, recipe = found.pending, found.pending.job, self._in_force.recipe
        judgement = self._judged(job, found.regions, found.trouble)
        return Verdict(
            station=self._station,
            epoch=0,  # the journal gives both numbers
            seq=0,
            job_id=job.job_id,
            part_id=(pending.trigger.serial if pending.trigger else "") or job.part_id,
            image=job.image,
            recipe=recipe.file.recipe,
            evaluation=judgement.evaluation,
            result_state=judgement.result_state,
            reason=judgement.reason,
            detail=judgement.detail,
            is_simulated=self._engine.is_simulated,
            registration=job.registration,
            regions=found.regions or (),
            model=self._engine.model,
            recipe_sha256=recipe.sha256,
            config_sha256=self._config_sha256,
            ms=pending.timing(time.monotonic_ns(), found.inference_ms),
            created_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            trigger=pending.trigger,
        )

    def _judged(self, job: Job, regions: tuple[RegionReport, ...] | None, trouble: Failure | None) -> Judgement:
        try:
            return self._judge(self._in_force.recipe, job, regions, trouble)
        except Exception:  # noqa: BLE001 - outermost guard of a job: else it would end every worker it is sent to
            failure = self.unexpected("judging", job)
            return Judgement(
                evaluation=Evaluation.UNDEFINED,
                result_state=ResultState.FAILED,
                reason=failure.reason,
                detail=failure.detail,
            )

    def _tell(self, pending: Pending, verdict: Verdict) -> None:
        """Tell the outputs and capture of a verdict that the journal has."""
        self._outputs.send(verdict, pending.job)
        if self._challenger and verdict.evaluation is Evaluation.OK:
            self._challenger.part_was_ok(pending.job)
        if self._challenger and verdict.evaluation is Evaluation.NOT_OK:
            self._challenger.part_was_not_ok(pending.job, verdict.regions)
        failpoints.hit("outputs-sent")
        if self._triggers and pending.trigger:
            self._triggers.answered(pending.trigger)
        if not pending.peer:
            return  # no picture, nobody waits for an ack
        self._queue.acknowledge(pending.peer, ack(pending.job.job_id, verdict.reason, verdict.detail))
        failpoints.hit("ack-sent")
        if self._shadow:
            self._shadow.part_was_judged(pending, verdict)

    def _end_check(self, found: Found) -> None:
        """Take in what came of a step of a challenge: neither the journal nor any output hears of it."""
        pending = found.pending
        if self._challenger and pending.check:
            ms = found.inference_ms or 0.0
            self._challenger.answered(pending.check, pending.job, found.regions, found.trouble, ms)
        if pending.peer:
            self._queue.acknowledge(pending.peer, ack(pending.job.job_id, Reason.NONE, ""))
