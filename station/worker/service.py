"""The worker: jobs in, verdicts out, each exactly once and before its deadline.

In: jobs from the queue; out: verdicts to the journal, then to the outputs, then an ack to capture. One process, one
thread, one loop, which also makes the heartbeat: when the loop hangs, the PLC and systemd see it. The engine runs in
a child process. What goes wrong with a job becomes its verdict, never OK. When the journal cannot be written the
worker ends: the outputs are safe and every job without ack is sent again by capture. Here: start, end and the order of
things in a turn; what is done with a job is in `jobs` and `conclusion`, what the PLC wants in `plc_side`.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from station.complaints import Complaints
from station.curve import Door
from station.disk import DiskRoom
from station.operator_offline import OperatorOffline, order_of
from station.outputs.base import Output
from station.outputs.plc_state import Condition, FaultCode
from station.recipe import Recipe
from station.supervisor_notify import ServiceNotifier
from station.worker.challenge_steps import ChallengeSteps
from station.worker.challenger import Challenger
from station.worker.changeover import Changeover, InspectionRules
from station.worker.conclusion import Conclusion, InForce, Judge
from station.worker.engine_host import EngineHost
from station.worker.fanout import Fanout
from station.worker.jobs import Jobs
from station.worker.journal import Journal
from station.worker.model_change import ModelChange
from station.worker.plc_side import PlcSide
from station.worker.queue import JobQueue
from station.worker.shadow import Shadow
from station.worker.triggers import Triggers

logger = logging.getLogger(__name__)

HEARTBEAT_MS = 100


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
        model_change: ModelChange | None = None,
        shadow: Shadow | None = None,
        may_be_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`triggers` None: no PLC. `door` None: nobody knocks. `challenger` None: there is no model to challenge.

        `changeover` None: the PLC cannot have another recipe; `model_change` None: nor another model. `shadow` None: no
        second model.
        """
        self._station = station
        self._in_force = InForce(recipe, inspection)
        self._queue = queue
        self._engine = engine
        self._journal = journal
        self._room = DiskRoom(journal.path.parent)
        self._outputs = Fanout(outputs)
        self._notifier = notifier
        self._triggers = triggers
        self._changeover = changeover
        self._challenger = challenger
        self._shadow = shadow
        self._door = door
        self._may_be_ready = may_be_ready
        self._heartbeat_ns = 0
        self._offline_order: OperatorOffline | None = None
        self.complaints = Complaints(logger)
        self._conclusion = Conclusion(
            station=station,
            config_sha256=config_sha256,
            in_force=self._in_force,
            judge=judge,
            queue=queue,
            engine=engine,
            journal=journal,
            outputs=self._outputs,
            triggers=triggers,
            challenger=challenger,
            shadow=shadow,
        )
        self._jobs = Jobs(
            in_force=self._in_force,
            queue=queue,
            engine=engine,
            journal=journal,
            conclusion=self._conclusion,
            triggers=triggers,
            changeover=changeover,
            challenger=challenger,
        )
        self._challenge = ChallengeSteps(challenger, queue=queue, engine=engine, jobs=self._jobs, triggers=triggers)
        self._plc = self._made_plc_side(triggers, model_change) if triggers else None

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; jobs without verdict stay with capture. Raises StationError if it cannot go on."""
        try:
            self._open()
            while not stop.is_set():
                self._turn()
        finally:
            self._close()

    def _made_plc_side(self, triggers: Triggers, model_change: ModelChange | None) -> PlcSide:
        return PlcSide(
            triggers=triggers,
            in_force=self._in_force,
            queue=self._queue,
            engine=self._engine,
            journal=self._journal,
            jobs=self._jobs,
            conclusion=self._conclusion,
            changeover=self._changeover,
            challenger=self._challenger,
            model_change=model_change,
        )

    def _open(self) -> None:
        self._journal.open()
        if self._changeover:
            self._changeover.open()
        self._queue.tell_recipe(self._in_force.recipe.sha256)
        if self._door:
            self._door.open()
        self._outputs.start()
        self._engine.start(self._in_force.inspection.question, time.monotonic_ns())
        self._queue.open()
        self._notifier.ready()
        logger.info("Worker of station %s runs, epoch %d.", self._station, self._journal.epoch)

    def _close(self) -> None:
        """Show the safe state first, then end everything; works however far `_open` came."""
        self._notifier.stopping()
        self._outputs.close()
        self._queue.close()
        if self._shadow:
            self._shadow.close()
        self._engine.close()
        if self._door:
            self._door.close()
        self._journal.close()

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        watched = self._engine.watched()
        orders = [(descriptor, False) for descriptor in self._triggers.event_fds] if self._triggers else []
        of_shadow = self._shadow.watched() if self._shadow else []
        self._queue.wait(self._wait_ms(), [*([watched] if watched else []), *of_shadow, *orders])
        if self._plc:
            self._plc.take_orders()
        received = self._queue.receive()
        sightings = self._queue.sightings()
        if self._shadow and (received or sightings):
            self._shadow.give_way(time.monotonic_ns())
        if self._plc:
            self._plc.see(sightings)
        for one in received:
            self._jobs.accept(one)
        if self._plc:
            self._plc.answer_triggers()
        # Before anything that came after them: the engine may have answered a job of this very turn.
        self._jobs.conclude_unasked()
        self._jobs.conclude_late()
        for outcome in self._engine.poll(time.monotonic_ns()):
            self._jobs.take_outcome(outcome)
        self._jobs.ask_next()
        self._do_between_parts(time.monotonic_ns())
        self._beat()

    def _do_between_parts(self, now_ns: int) -> None:
        """Take what no part waits for one step further."""
        if self._plc:
            self._plc.change_recipe(now_ns)
            self._plc.change_model(now_ns)
        self._challenge.turn(now_ns)
        if self._plc:
            self._plc.tell_standing()
        if self._door:
            self._door.service()
        if self._shadow:
            in_force = self._in_force
            self._shadow.turn(now_ns, in_force.recipe, in_force.inspection, is_quiet=self._is_quiet)

    @property
    def _is_quiet(self) -> bool:
        """True when no part is there or about to come, and no challenge runs."""
        is_part_due = self._triggers is not None and self._triggers.next_due_ns() is not None
        is_challenged = self._challenger is not None and self._challenger.is_running
        return self._jobs.is_idle and not is_part_due and not is_challenged

    def _wait_ms(self) -> int:
        """Return how long nothing needs to be done, rounded up so that the loop does not spin."""
        dues_ns = (
            self._heartbeat_ns,
            self._jobs.next_due_ns(),
            self._engine.next_due_ns(),
            self._triggers.next_due_ns() if self._triggers else None,
            self._challenger.next_due_ns() if self._challenger else None,
            self._shadow.next_due_ns() if self._shadow else None,
        )
        due_ns = min(due_ns for due_ns in dues_ns if due_ns is not None)
        return max(0, -((time.monotonic_ns() - due_ns) // 1_000_000))

    def _is_set_offline(self) -> bool:
        """Return whether an operator wants the station off the line, and say when that changes."""
        order = order_of(self._journal.path)
        if order != self._offline_order:
            logger.warning("Off the line: %s.", order.text if order else "no longer, an operator gave it back")
            self._offline_order = order
        return order is not None

    def _condition(self, *, is_disk_full: bool, is_set_offline: bool) -> Condition:
        return Condition(
            waiting_jobs=self._jobs.waiting + self._conclusion.waiting,
            is_storage_low=self._room.is_low,
            is_disk_full=is_disk_full,
            is_folder_unreachable=bool(self._queue.hot_folder_problem),
            is_set_offline=is_set_offline,
            engine_fault=_engine_fault(self._engine),
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
        condition = self._condition(is_disk_full=bool(problem), is_set_offline=self._is_set_offline())
        is_kept_off = condition.is_disk_full or condition.is_folder_unreachable or condition.is_set_offline
        ready = self._engine.is_ready and self._may_be_ready() and passed and not is_kept_off
        if self._triggers:
            self._triggers.condition_is(condition)
        self._outputs.heartbeat(ready=ready, last_seq=self._journal.last_seq)
        self._notifier.alive()
        self._notifier.status(
            f"engine {self._engine.state}, {self._journal.last_seq} verdicts, {self._jobs.waiting} waiting."
            f" {problem or self._queue.hot_folder_problem or self._engine.reason}"
        )


def _engine_fault(engine: EngineHost) -> FaultCode:
    """Return what the PLC is told of an engine that failed, until it has answered again."""
    if engine.is_gpu_lost:
        return FaultCode.GPU_LOST_OR_NO_MEMORY
    if not engine.last_failure:
        return FaultCode.NONE
    return FaultCode.ENGINE_FAILED if engine.was_ready else FaultCode.NO_MODEL
