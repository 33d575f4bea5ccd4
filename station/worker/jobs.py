"""The jobs that have no verdict yet, oldest first: taken, asked about one at a time, ended by answer or deadline.

In: jobs from the queue and outcomes of the engine; out: what was found, to `conclusion`. A job that needs no question
waits until it is the oldest: no verdict overtakes another. Used from the worker's one thread. Raises JournalError.
"""

import logging
import time

from station import failpoints
from station.complaints import Complaints
from station.guards import Probe
from station.measurement import with_measures
from station.messages import ack
from station.records import Failure, Job, Reason, RegionReport, TriggerRef
from station.worker.challenger import Challenger
from station.worker.changeover import Changeover
from station.worker.conclusion import Conclusion, Found, InForce
from station.worker.deadlines import Deadlines
from station.worker.engine_host import EngineHost, EngineState, Outcome
from station.worker.journal import Journal
from station.worker.pending import Pending
from station.worker.queue import JobQueue, Received
from station.worker.triggers import Triggers

logger = logging.getLogger(__name__)

MAX_DEATHS = 2
"""A job over which the engine died so often is not asked about again."""


class Jobs:
    """All jobs from their arrival to what was found."""

    def __init__(
        self,
        *,
        in_force: InForce,
        queue: JobQueue,
        engine: EngineHost,
        journal: Journal,
        conclusion: Conclusion,
        triggers: Triggers | None,
        changeover: Changeover | None,
        challenger: Challenger | None,
    ) -> None:
        self._in_force = in_force
        self._queue = queue
        self._engine = engine
        self._journal = journal
        self._conclusion = conclusion
        self._triggers = triggers
        self._changeover = changeover
        self._challenger = challenger
        self._deadlines = Deadlines()
        self._pending: dict[str, Pending] = {}  # oldest first
        self.complaints = Complaints(logger)

    @property
    def waiting(self) -> int:
        """How many there are."""
        return len(self._pending)

    @property
    def is_idle(self) -> bool:
        """True when no part is under way and the engine is free."""
        return self._engine.state is EngineState.READY and not self._pending and not self._conclusion.waiting

    def next_due_ns(self) -> int | None:
        """Return the earliest deadline, None when there is none."""
        return self._deadlines.next_due_ns()

    def accept(self, received: Received) -> None:
        """Take a job in, behind those that came before it; one that is known only gets its ack."""
        job = received.job
        failpoints.hit("job-taken")
        judged = self._journal.judged(job.job_id)
        if judged:
            self._queue.acknowledge(received.peer, ack(job.job_id, *judged))
            return
        known = self._pending.get(job.job_id) or self._conclusion.held(job.job_id)
        if known:
            known.peer = received.peer  # capture restarted and sends it again
            return
        pending = self._pending[job.job_id] = Pending(received.peer, job, time.monotonic_ns())
        self._find_out(pending)
        if not (pending.trouble or job.failure):
            self._await_engine(pending)

    def add_probe(self, probe: Probe, now_ns: int) -> None:
        """Ask about a probe of a challenge as about a part."""
        pending = self._pending[probe.job.job_id] = Pending(b"", probe.job, now_ns, check=probe)
        self._await_engine(pending)

    def take_back(self, trigger: TriggerRef) -> list[Pending]:
        """Return the jobs of a trigger, which then are forgotten here."""
        jobs = [pending for pending in self._pending.values() if pending.trigger == trigger]
        for pending in jobs:
            del self._pending[pending.job.job_id]
            self._deadlines.remove(pending.job.job_id)
        return jobs

    def conclude_unasked(self) -> None:
        """Conclude jobs without a question, each only when it is the oldest.

        Without a trigger the PLC knows a part by the order of the verdicts alone, so none may overtake another.
        """
        while (pending := next(iter(self._pending.values()), None)) and not pending.queries:
            del self._pending[pending.job.job_id]
            self._conclusion.conclude(Found(pending, None, pending.trouble))

    def conclude_late(self) -> None:
        """Give every job whose deadline has passed its verdict; an answer that still comes is dropped."""
        for job_id in self._deadlines.pop_due(time.monotonic_ns()):
            pending = self._pending.pop(job_id)
            self._conclusion.conclude(Found(pending, None, self._lateness(pending)))
            self.conclude_unasked()

    def ask_next(self) -> None:
        """Give the oldest job that asks something to the engine if it is free."""
        pending = next((pending for pending in self._pending.values() if pending.queries), None)
        if pending and self._engine.state is EngineState.READY:
            pending.asked_ns = time.monotonic_ns()
            self._engine.submit(pending.job.job_id, pending.doubts or pending.queries, pending.asked_ns)
            failpoints.hit("job-asked")

    def take_outcome(self, outcome: Outcome) -> None:
        """Conclude the job that the engine came to an end with, or keep it for a second try."""
        failpoints.hit("answer-taken")
        pending = self._pending.get(outcome.job_id)
        if pending is None:
            self.complaints.say("late answer", f"The engine was too late for job {outcome.job_id}.")
            return
        pending.deaths += outcome.died
        if outcome.died and pending.deaths < MAX_DEATHS:
            pending.asked_ns = None  # asked again once the engine is back, if the deadline allows
            return
        if self._has_doubts(pending, outcome):
            self.ask_next()
            return
        del self._pending[outcome.job_id]
        self._deadlines.remove(outcome.job_id)
        self.ask_next()  # before the disk and the outputs: the engine should not wait for them
        regions, trouble = self._read(pending, outcome)
        self._conclusion.conclude(Found(pending, regions, trouble, pending.first_ms + outcome.ms))
        self.conclude_unasked()

    def _has_doubts(self, pending: Pending, outcome: Outcome) -> bool:
        """Find out whether a part's answers must be asked about once more; then they are kept until that is done."""
        if outcome.answers is None or pending.doubts or isinstance(pending.check, Probe):
            return False
        try:
            pending.doubts = self._in_force.inspection.doubts(pending.job, outcome.answers)
        except Exception:  # noqa: BLE001 - outermost guard of a job; reading the answers meets it again and says so
            return False
        if pending.doubts:
            pending.answers, pending.first_ms = outcome.answers, outcome.ms
        return bool(pending.doubts)

    def _find_out(self, pending: Pending) -> None:
        """Find out whether it is a sample of a challenge, whose trigger it answers, and what speaks against it."""
        job = pending.job
        sample = self._challenger.sample(job.image.sha256) if self._challenger else None
        if sample and self._challenger:
            self._challenger.came(sample)
            pending.check = sample
        fate = self._triggers.fate(job) if self._triggers and not sample else None
        if isinstance(fate, Failure):
            pending.trouble = fate
            return
        pending.trigger = fate
        is_of_before = self._changeover is not None and self._changeover.is_of_before(job)
        if not job.failure and (job.recipe_sha256 != self._in_force.recipe.sha256 or is_of_before):
            pending.trouble = self._recipe_changed(job)

    def _await_engine(self, pending: Pending) -> None:
        """Prepare the queries, while the engine may still be busy with the job before."""
        check = pending.check
        try:
            inspection = self._in_force.inspection
            pending.queries = check.queries if isinstance(check, Probe) else inspection.queries(pending.job)
        except Exception:  # noqa: BLE001 - outermost guard of a job
            pending.trouble = self._conclusion.unexpected("asking about", pending.job)
            return
        due_ns = pending.received_ns + self._in_force.recipe.file.deadline_ms * 1_000_000
        trigger_due_ns = self._triggers.due_ns(pending.trigger) if self._triggers and pending.trigger else None
        self._deadlines.add(pending.job.job_id, min(due_ns, trigger_due_ns or due_ns))
        self.ask_next()

    def _read(self, pending: Pending, outcome: Outcome) -> tuple[tuple[RegionReport, ...], None] | tuple[None, Failure]:
        """Return what the engine's answers say, or why they say nothing."""
        if outcome.answers is None:
            tries = f" It ended {pending.deaths} times over this picture." if outcome.died else ""
            return None, Failure(reason=Reason.ENGINE_FAILED, detail=f"{outcome.detail}{tries}")
        try:
            rules = pending.check.inspection if isinstance(pending.check, Probe) else self._in_force.inspection
            answers = outcome.answers
            if pending.doubts:
                answers = self._in_force.inspection.settled(pending.answers, answers)
            limits = self._in_force.recipe.file.measurement
            return with_measures(rules.regions(answers, pending.first_ms + outcome.ms), pending.job, limits), None
        except Exception:  # noqa: BLE001 - outermost guard of a job
            return None, self._conclusion.unexpected("reading the answers about", pending.job)

    def _lateness(self, pending: Pending) -> Failure:
        limit = f"within {self._in_force.recipe.file.deadline_ms} ms (recipe, deadline_ms)"
        if not self._engine.was_ready:
            why = self._engine.reason or self._engine.last_failure or "it is still being loaded."
            return Failure(reason=Reason.NO_MODEL, detail=f"No model was ready {limit}: {why}")
        why = self._engine.reason or f"the engine was {self._engine.state}{' with it' if pending.asked_ns else ''}."
        return Failure(reason=Reason.DEADLINE_PASSED, detail=f"No answer {limit}: {why}")

    def _recipe_changed(self, job: Job) -> Failure:
        recipe = self._in_force.recipe
        mine = f"{recipe.file.recipe} {recipe.sha256[:12]}"
        detail = (
            f"The job was made with recipe {job.recipe} {job.recipe_sha256[:12]}, the worker has {mine}. The recipe was"
            " changed over this part; if not: restart capture and worker so that both read the same recipe."
            if job.recipe_sha256 != recipe.sha256
            else f"The picture was taken before recipe {mine} was in force."
        )
        return Failure(reason=Reason.RECIPE_CHANGED, detail=detail)
