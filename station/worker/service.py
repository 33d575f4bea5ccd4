"""The worker: jobs in, verdicts out, each exactly once and before its deadline.

In: jobs from the queue; out: verdicts to the journal, then to the outputs, then an ack to capture. One process, one
thread, one loop, which also makes the heartbeat: when the loop hangs, the PLC and systemd see it. The engine runs in
a child process. What goes wrong with a job becomes its verdict, never OK. When the journal cannot be written the
worker ends: the outputs are safe and every job without ack is sent again by capture.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from station import failpoints
from station.challenge import Standing
from station.challenge_file import Sample
from station.complaints import Complaints
from station.curve import Door
from station.disk import DiskRoom
from station.guards import Probe
from station.judge import Judgement
from station.measurement import with_measures
from station.messages import ack
from station.outputs.base import Output
from station.outputs.plc_orders import CommandCode, CommandGiven
from station.recipe import Recipe
from station.records import Evaluation, Failure, Job, Reason, RegionReport, ResultState, Verdict
from station.supervisor_notify import ServiceNotifier
from station.worker.challenger import Challenger
from station.worker.changeover import Changeover, InspectionRules, Turn
from station.worker.deadlines import Deadlines
from station.worker.engine_host import EngineHost, EngineState, Outcome
from station.worker.fanout import Fanout
from station.worker.journal import Journal
from station.worker.pairing import Pair
from station.worker.pending import Check, Pending
from station.worker.queue import JobQueue, Received
from station.worker.triggers import Triggers

logger = logging.getLogger(__name__)

HEARTBEAT_MS = 100
MAX_DEATHS = 2
"""A job over which the engine died so often is not asked about again."""


Judge = Callable[[Recipe, Job, tuple[RegionReport, ...] | None, Failure | None], Judgement]
"""`station.judge.judge`."""


class _Held(NamedTuple):
    """What is known of a part whose verdict must wait until its picture window is over."""

    pending: Pending
    regions: tuple[RegionReport, ...] | None
    trouble: Failure | None
    inference_ms: float | None


class WorkerService:
    """The worker of one station. Gets its parts closed; `run` opens and closes them."""

    def __init__(
        self,
        *,
        station: str,
        config_sha256: str,
        recipe: Recipe,
        inspection: InspectionRules,
        judge: Judge,
        queue: JobQueue,
        engine: EngineHost,
        journal: Journal,
        outputs: Sequence[Output],
        notifier: ServiceNotifier,
        triggers: Triggers | None = None,
        changeover: Changeover | None = None,
        door: Door | None = None,
        challenger: Challenger | None = None,
        may_be_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`triggers` None: no PLC. `door` None: nobody knocks. `challenger` None: there is no model to challenge.

        `changeover` None: the PLC cannot have another recipe.
        """
        self._station = station
        self._config_sha256 = config_sha256
        self._recipe = recipe
        self._inspection = inspection
        self._judge = judge
        self._queue = queue
        self._engine = engine
        self._journal = journal
        self._room = DiskRoom(journal.path.parent)
        self._outputs = Fanout(outputs)
        self._notifier = notifier
        self._triggers = triggers
        self._changeover = changeover
        self._challenger = challenger
        self._told: Standing | None = None
        self._door = door
        self._may_be_ready = may_be_ready
        self._held: dict[str, _Held] = {}
        self._deadlines = Deadlines()
        self._pending: dict[str, Pending] = {}  # oldest first
        self._heartbeat_ns = 0
        self.complaints = Complaints(logger)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; jobs without verdict stay with capture. Raises StationError if it cannot go on."""
        try:
            self._open()
            while not stop.is_set():
                self._turn()
        finally:
            self._close()

    def _open(self) -> None:
        self._journal.open()
        if self._changeover:
            self._changeover.open()
        self._queue.tell_recipe(self._recipe.sha256)
        if self._door:
            self._door.open()
        self._outputs.start()
        self._engine.start(self._inspection.question, time.monotonic_ns())
        self._queue.open()
        self._notifier.ready()
        logger.info("Worker of station %s runs, epoch %d.", self._station, self._journal.epoch)

    def _close(self) -> None:
        """Show the safe state first, then end everything; works however far `_open` came."""
        self._notifier.stopping()
        self._outputs.close()
        self._queue.close()
        self._engine.close()
        if self._door:
            self._door.close()
        self._journal.close()

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        watched = self._engine.watched()
        orders = [(descriptor, False) for descriptor in self._triggers.event_fds] if self._triggers else []
        self._queue.wait(self._wait_ms(), [*([watched] if watched else []), *orders])
        self._take_orders()  # before the pictures: a trigger comes before its picture
        received = self._queue.receive()
        self._see()
        for one in received:
            self._accept(one)
        self._answer_triggers()
        # Before anything that came after them: the engine may have answered a job of this very turn.
        self._conclude_unasked()
        self._conclude_late()
        for outcome in self._engine.poll(time.monotonic_ns()):
            self._take_outcome(outcome)
        self._ask_next()
        self._change_recipe(time.monotonic_ns())
        self._challenge(time.monotonic_ns())
        if self._door:
            self._door.service()
        self._beat()

    def _wait_ms(self) -> int:
        """Return how long nothing needs to be done, rounded up so that the loop does not spin."""
        triggers_ns = self._triggers.next_due_ns() if self._triggers else None
        challenge_ns = self._challenger.next_due_ns() if self._challenger else None
        dues_ns = (
            self._heartbeat_ns,
            self._deadlines.next_due_ns(),
            self._engine.next_due_ns(),
            triggers_ns,
            challenge_ns,
        )
        due_ns = min(due_ns for due_ns in dues_ns if due_ns is not None)
        return max(0, -((time.monotonic_ns() - due_ns) // 1_000_000))

    def _accept(self, received: Received) -> None:
        """Take a job in, behind those that came before it."""
        job = received.job
        failpoints.hit("job-taken")
        judged = self._journal.judged(job.job_id)
        if judged:
            self._queue.acknowledge(received.peer, ack(job.job_id, *judged))
            return
        known = self._pending.get(job.job_id) or (self._held[job.job_id].pending if job.job_id in self._held else None)
        if known:
            known.peer = received.peer  # capture restarted and sends it again
            return
        pending = Pending(received.peer, job, time.monotonic_ns())
        self._pending[job.job_id] = pending
        pending.check = self._sample_in(job)
        fate = self._triggers.fate(job) if self._triggers and not pending.check else None
        if isinstance(fate, Failure):
            pending.trouble = fate
            return
        pending.trigger = fate
        if job.failure:
            return
        is_of_before = self._changeover is not None and self._changeover.is_of_before(job)
        if job.recipe_sha256 != self._recipe.sha256 or is_of_before:
            pending.trouble = self._recipe_changed(job)
        else:
            self._await_engine(pending)

    def _await_engine(self, pending: Pending) -> None:
        """Prepare the queries, while the engine may still be busy with the job before."""
        try:
            check = pending.check
            pending.queries = check.queries if isinstance(check, Probe) else self._inspection.queries(pending.job)
        except Exception:  # noqa: BLE001 - outermost guard of a job
            pending.trouble = self._unexpected("asking about", pending.job)
            return
        due_ns = pending.received_ns + self._recipe.file.deadline_ms * 1_000_000
        trigger_due_ns = self._triggers.due_ns(pending.trigger) if self._triggers and pending.trigger else None
        self._deadlines.add(pending.job.job_id, min(due_ns, trigger_due_ns or due_ns))
        self._ask_next()

    def _conclude_unasked(self) -> None:
        """Conclude jobs without a question, each only when it is the oldest.

        Without a trigger the PLC knows a part by the order of the verdicts alone, so none may overtake another.
        """
        while (pending := next(iter(self._pending.values()), None)) and not pending.queries:
            del self._pending[pending.job.job_id]
            self._conclude(pending, None, pending.trouble)

    def _ask_next(self) -> None:
        """Give the oldest job that asks something to the engine if it is free."""
        pending = next((pending for pending in self._pending.values() if pending.queries), None)
        if pending and self._engine.state is EngineState.READY:
            pending.asked_ns = time.monotonic_ns()
            self._engine.submit(pending.job.job_id, pending.queries, pending.asked_ns)
            failpoints.hit("job-asked")

    def _conclude_late(self) -> None:
        """Give every job whose deadline has passed its verdict; an answer that still comes is dropped."""
        for job_id in self._deadlines.pop_due(time.monotonic_ns()):
            pending = self._pending.pop(job_id)
            self._conclude(pending, None, self._lateness(pending))
            self._conclude_unasked()

    def _lateness(self, pending: Pending) -> Failure:
        limit = f"within {self._recipe.file.deadline_ms} ms (recipe, deadline_ms)"
        if not self._engine.was_ready:
            why = self._engine.reason or "it is still being loaded."
            return Failure(reason=Reason.NO_MODEL, detail=f"No model was ready {limit}: {why}")
        why = self._engine.reason or f"the engine was {self._engine.state}{' with it' if pending.asked_ns else ''}."
        return Failure(reason=Reason.DEADLINE_PASSED, detail=f"No answer {limit}: {why}")

    def _recipe_changed(self, job: Job) -> Failure:
        mine = f"{self._recipe.file.recipe} {self._recipe.sha256[:12]}"
        detail = (
            f"The job was made with recipe {job.recipe} {job.recipe_sha256[:12]}, the worker has {mine}. The recipe was"
            " changed over this part; if not: restart capture and worker so that both read the same recipe."
            if job.recipe_sha256 != self._recipe.sha256
            else f"The picture was taken before recipe {mine} was in force."
        )
        return Failure(reason=Reason.RECIPE_CHANGED, detail=detail)

    def _take_outcome(self, outcome: Outcome) -> None:
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
        del self._pending[outcome.job_id]
        self._deadlines.remove(outcome.job_id)
        self._ask_next()  # before the disk and the outputs: the engine should not wait for them
        regions, trouble = self._read(pending, outcome)
        self._conclude(pending, regions, trouble, outcome.ms)
        self._conclude_unasked()

    def _read(self, pending: Pending, outcome: Outcome) -> tuple[tuple[RegionReport, ...], None] | tuple[None, Failure]:
        """Return what the engine's answers say, or why they say nothing."""
        if outcome.answers is None:
            tries = f" It ended {pending.deaths} times over this picture." if outcome.died else ""
            return None, Failure(reason=Reason.ENGINE_FAILED, detail=f"{outcome.detail}{tries}")
        try:
            rules = pending.check.inspection if isinstance(pending.check, Probe) else self._inspection
            return with_measures(rules.regions(outcome.answers, outcome.ms), pending.job), None
        except Exception:  # noqa: BLE001 - outermost guard of a job
            return None, self._unexpected("reading the answers about", pending.job)

    def _unexpected(self, doing: str, job: Job) -> Failure:
        """Return the trouble for an exception that nobody foresaw; call it in the handler."""
        message = f"Unexpected error while {doing} job {job.job_id}; please report it with the worker's log."
        self.complaints.say("unexpected error", message, traceback=True)
        return Failure(reason=Reason.ENGINE_FAILED, detail=message)

    def _conclude(
        self,
        pending: Pending,
        regions: tuple[RegionReport, ...] | None,
        trouble: Failure | None,
        inference_ms: float | None = None,
    ) -> None:
        """Judge, write to the journal, show, acknowledge: in this order. Raises JournalError."""
        job = pending.job
        if self._triggers and self._triggers.is_open(pending.trigger):
            self._held[job.job_id] = _Held(pending, regions, trouble, inference_ms)
            return
        if pending.check:
            self._end_check(pending, regions, trouble, inference_ms)
            return
        judgement = self._judged(job, regions, trouble)
        verdict = self._journal.append(
            Verdict(
                station=self._station,
                epoch=0,  # the journal gives both numbers
                seq=0,
                job_id=job.job_id,
                part_id=(pending.trigger.serial if pending.trigger else "") or job.part_id,
                image=job.image,
                recipe=self._recipe.file.recipe,
                evaluation=judgement.evaluation,
                result_state=judgement.result_state,
                reason=judgement.reason,
                detail=judgement.detail,
                is_simulated=self._engine.is_simulated,
                registration=job.registration,
                regions=regions or (),
                model=self._engine.model,
                recipe_sha256=self._recipe.sha256,
                config_sha256=self._config_sha256,
                ms=pending.timing(time.monotonic_ns(), inference_ms),
                created_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
                trigger=pending.trigger,
            )
        )
        self._outputs.send(verdict, job)
        if self._challenger and verdict.evaluation is Evaluation.OK:
            self._challenger.part_was_ok(job)
        failpoints.hit("outputs-sent")
        if self._triggers and pending.trigger:
            self._triggers.answered(pending.trigger)
        if not pending.peer:
            return  # no picture, nobody waits for an ack
        self._queue.acknowledge(pending.peer, ack(job.job_id, verdict.reason, verdict.detail))
        failpoints.hit("ack-sent")

    def _take_orders(self) -> None:
        """Take in what the PLC wants."""
        for command in self._triggers.commands() if self._triggers else ():
            self._carry_out(command)

    def _carry_out(self, command: CommandGiven) -> None:
        """Begin what the worker has to do with: another recipe, or a challenge."""
        if command.code is CommandCode.PREPARE_RECIPE:
            if self._changeover:
                self._changeover.begin(command.argument, time.monotonic_ns())
        elif self._challenger is None or not self._engine.is_ready:
            self._end_command(succeeded=False)
        else:
            self._challenger.begin("plc", time.monotonic_ns(), lambda run: self._end_command(succeeded=run.is_passed))

    def _change_recipe(self, now_ns: int) -> None:
        """Take a change of the recipe one step further."""
        if self._changeover is None or self._triggers is None:
            return
        is_idle = self._engine.state is EngineState.READY and not self._pending and not self._held
        match self._changeover.turn(now_ns, is_idle=is_idle, capture_sha256=self._queue.capture_sha256):
            case Turn.USE:
                self._recipe, self._inspection, material = self._changeover.in_use
                self._engine.prepare(self._inspection.question, now_ns)
                if self._challenger and material:
                    self._challenger.use(self._recipe, material, now_ns)
                self._triggers.use(self._recipe, self._changeover.number())
                self._queue.tell_recipe(self._recipe.sha256)
            case Turn.DONE:
                self._triggers.command_done(succeeded=True)
            case Turn.FAILED:
                self._triggers.command_done(succeeded=False)

    def _end_command(self, *, succeeded: bool) -> None:
        if self._triggers:
            self._triggers.command_done(succeeded=succeeded)

    def _challenge(self, now_ns: int) -> None:
        """Take the next step of a challenge when there is nothing else to do, so that no part waits for it."""
        for peer in self._queue.take_askers():
            self._hear_asker(peer, now_ns)
        if self._challenger is None:
            return
        if self._engine.is_ready:
            self._challenger.loaded(self._engine.starts, self._engine.model, now_ns)
        self._challenger.overdue(now_ns)
        if self._is_idle and (step := self._challenger.step()):
            self._take_step(self._challenger, step, now_ns)
        if self._triggers and self._challenger.standing is not self._told:
            self._told = self._challenger.standing
            self._triggers.challenged(self._told)

    @property
    def _is_idle(self) -> bool:
        """True when no part is here and none is about to come."""
        has_part = self._pending or self._held or (self._triggers and self._triggers.next_due_ns() is not None)
        return self._engine.state is EngineState.READY and not has_part

    def _hear_asker(self, peer: bytes, now_ns: int) -> None:
        if self._challenger is None or not self._engine.is_ready:
            self._queue.tell_asker(peer, None)
        else:
            self._challenger.begin("person", now_ns, lambda run: self._queue.tell_asker(peer, run))

    def _take_step(self, challenger: Challenger, step: Check, now_ns: int) -> None:
        """Ask the engine about a probe, or have capture put a sample into the hot folder."""
        if isinstance(step, Sample):
            if self._queue.put_sample(step.sha256):
                challenger.sent(now_ns)
            return
        challenger.sent(now_ns)
        pending = self._pending[step.job.job_id] = Pending(b"", step.job, now_ns, check=step)
        self._await_engine(pending)

    def _end_check(
        self, pending: Pending, regions: tuple[RegionReport, ...] | None, trouble: Failure | None, ms: float | None
    ) -> None:
        """Take in what came of a step. It has no verdict: neither the journal nor any output hears of it."""
        if self._challenger and pending.check:
            self._challenger.answered(pending.check, pending.job, regions, trouble, ms or 0.0)
        if pending.peer:
            self._queue.acknowledge(pending.peer, ack(pending.job.job_id, Reason.NONE, ""))

    def _sample_in(self, job: Job) -> Sample | None:
        """Return the challenge sample that came as this job, None when it is a part."""
        sample = self._challenger.sample(job.image.sha256) if self._challenger else None
        if sample and self._challenger:
            self._challenger.came(sample)
        return sample

    def _see(self) -> None:
        for sighting in self._queue.sightings():
            if self._challenger and self._challenger.sample(sighting.sha256):
                continue
            if self._triggers and not self._journal.judged(sighting.job_id):
                self._triggers.see(sighting)

    def _answer_triggers(self) -> None:
        """Reject what has no picture of its own; give the verdicts whose picture window is over."""
        if self._triggers is None:
            return
        for pair, job in self._triggers.turn(time.monotonic_ns()):
            self._drop_pictures_of(pair)
            self._conclude(Pending(b"", job, time.monotonic_ns(), trigger=pair.trigger), None, None)
        for held in list(self._held.values()):
            if not self._triggers.is_open(held.pending.trigger):
                del self._held[held.pending.job.job_id]
                self._conclude(*held)

    def _drop_pictures_of(self, pair: Pair) -> None:
        """Conclude the pictures of a trigger that gets another answer: they belong to nobody."""
        trouble = pair.trouble or Failure(
            reason=Reason.DEADLINE_PASSED, detail=f"Trigger {pair.trigger.trigger_id} had to be answered before."
        )
        dropped = [pending for pending in self._pending.values() if pending.trigger == pair.trigger]
        dropped += [held.pending for held in self._held.values() if held.pending.trigger == pair.trigger]
        for pending in dropped:
            self._pending.pop(pending.job.job_id, None)
            self._held.pop(pending.job.job_id, None)
            self._deadlines.remove(pending.job.job_id)
            pending.trigger = None
            self._conclude(pending, None, trouble)

    def _judged(self, job: Job, regions: tuple[RegionReport, ...] | None, trouble: Failure | None) -> Judgement:
        try:
            return self._judge(self._recipe, job, regions, trouble)
        except Exception:  # noqa: BLE001 - outermost guard of a job: else it would end every worker it is sent to
            failure = self._unexpected("judging", job)
            return Judgement(
                evaluation=Evaluation.UNDEFINED,
                result_state=ResultState.FAILED,
                reason=failure.reason,
                detail=failure.detail,
            )

    def _beat(self) -> None:
        """Tell outputs and systemd that this loop runs, every `HEARTBEAT_MS`."""
        now_ns = time.monotonic_ns()
        if now_ns < self._heartbeat_ns:
            return
        self._heartbeat_ns = now_ns + HEARTBEAT_MS * 1_000_000
        if problem := self._room.problem:
            self.complaints.say("disk", problem)
        passed = self._challenger is None or self._challenger.bar is None
        ready = self._engine.is_ready and self._may_be_ready() and not problem and passed
        if self._triggers:
            waiting_jobs = len(self._pending) + len(self._held)
            self._triggers.load_is(waiting_jobs, is_storage_low=self._room.is_low, is_disk_full=bool(problem))
        self._outputs.heartbeat(ready=ready, last_seq=self._journal.last_seq)
        self._notifier.alive()
        self._notifier.status(
            f"engine {self._engine.state}, {self._journal.last_seq} verdicts, {len(self._pending)} waiting."
            f" {problem or self._engine.reason}"
        )
