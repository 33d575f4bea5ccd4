"""What the PLC wants of the worker besides verdicts: triggers answered in time, another recipe, a challenge, a model.

A step in each turn of the worker's loop, in its one thread; nothing here waits. Built only where a PLC can give
triggers or commands. Raises JournalError.
"""

import time
from collections.abc import Iterable

from station.challenge import ChallengeRun, Standing
from station.messages import Sighting
from station.outputs.plc_orders import CommandCode, CommandGiven, Refusal
from station.records import Failure, Reason
from station.worker.challenger import Challenger
from station.worker.changeover import Changeover, Turn
from station.worker.conclusion import Conclusion, Found, InForce
from station.worker.engine_host import EngineHost
from station.worker.jobs import Jobs
from station.worker.journal import Journal
from station.worker.model_change import ModelChange
from station.worker.pairing import Pair
from station.worker.pending import Pending
from station.worker.queue import JobQueue
from station.worker.triggers import Triggers


class PlcSide:
    """Carries out what the PLC orders.

    `changeover` None: no other recipe; `challenger` None: no model to challenge; `model_change` None: no other model.
    """

    def __init__(
        self,
        *,
        triggers: Triggers,
        in_force: InForce,
        queue: JobQueue,
        engine: EngineHost,
        journal: Journal,
        jobs: Jobs,
        conclusion: Conclusion,
        changeover: Changeover | None,
        challenger: Challenger | None,
        model_change: ModelChange | None,
    ) -> None:
        self._triggers = triggers
        self._in_force = in_force
        self._queue = queue
        self._engine = engine
        self._journal = journal
        self._jobs = jobs
        self._conclusion = conclusion
        self._changeover = changeover
        self._challenger = challenger
        self._model_change = model_change
        self._told: Standing | None = None

    def take_orders(self) -> None:
        """Take in what the PLC wants; before the pictures, because a trigger comes before its picture."""
        for command in self._triggers.commands():
            self._carry_out(command)

    def see(self, sightings: Iterable[Sighting]) -> None:
        """Take in which pictures capture has, before their jobs come."""
        for sighting in sightings:
            is_sample = self._challenger is not None and self._challenger.sample(sighting.sha256) is not None
            if not is_sample and not self._journal.judged(sighting.job_id):
                self._triggers.see(sighting)

    def answer_triggers(self) -> None:
        """Reject what has no picture of its own; give the verdicts whose picture window is over."""
        for pair, job in self._triggers.turn(time.monotonic_ns()):
            self._drop_pictures_of(pair)
            pending = Pending(b"", job, time.monotonic_ns(), trigger=pair.trigger)
            self._conclusion.conclude(Found(pending, None, None))
        self._conclusion.release()

    def change_recipe(self, now_ns: int) -> None:
        """Take a change of the recipe one step further."""
        if self._changeover is None:
            return
        capture_sha256 = self._queue.capture_sha256
        match self._changeover.turn(now_ns, is_idle=self._jobs.is_idle, capture_sha256=capture_sha256):
            case Turn.USE:
                self._use(self._changeover, now_ns)
            case Turn.DONE:
                self._triggers.command_done()
            case Turn.FAILED:
                self._triggers.command_done(Refusal.RECIPE_NOT_FOLLOWED)

    def change_model(self, now_ns: int) -> None:
        """Take a change of the model one step further. Raises RestartError when the worker must start anew for it."""
        if self._model_change and (ended := self._model_change.turn(now_ns)):
            self._triggers.command_done(ended.refusal)

    def tell_standing(self) -> None:
        """Tell the PLC where the station stands with its challenges, when that has changed."""
        if self._challenger and self._challenger.standing is not self._told:
            self._told = self._challenger.standing
            self._triggers.challenged(self._told)

    def _carry_out(self, command: CommandGiven) -> None:
        now_ns = time.monotonic_ns()
        match command.code:
            case CommandCode.PREPARE_RECIPE if self._changeover:
                self._changeover.begin(command.argument, now_ns)
            case CommandCode.PROMOTE_MODEL | CommandCode.ROLLBACK_MODEL if self._model_change:
                self._model_change.begin(command.code)
            case CommandCode.RUN_GOLDEN_CHECK if self._challenger and self._engine.is_ready:
                self._challenger.begin("plc", now_ns, self._challenge_ended)
            case CommandCode.PREPARE_RECIPE:
                self._triggers.command_done(Refusal.UNKNOWN_RECIPE)
            case _:
                self._triggers.command_done(Refusal.NO_MODEL)

    def _challenge_ended(self, run: ChallengeRun) -> None:
        self._triggers.command_done(None if run.is_passed else Refusal.CHALLENGE_FAILED)

    def _use(self, changeover: Changeover, now_ns: int) -> None:
        """Judge by another recipe from now on; engine and capture follow."""
        recipe, inspection, material = changeover.in_use
        self._in_force.recipe, self._in_force.inspection = recipe, inspection
        self._engine.prepare(inspection.question, now_ns)
        if self._challenger and material:
            self._challenger.use(recipe, material, now_ns)
        self._triggers.use(recipe, changeover.number())
        self._queue.tell_recipe(recipe.sha256)

    def _drop_pictures_of(self, pair: Pair) -> None:
        """Conclude the pictures of a trigger that gets another answer: they belong to nobody."""
        trouble = pair.trouble or Failure(
            reason=Reason.DEADLINE_PASSED, detail=f"Trigger {pair.trigger.trigger_id} had to be answered before."
        )
        for pending in (*self._jobs.take_back(pair.trigger), *self._conclusion.take_back(pair.trigger)):
            pending.trigger = None
            self._conclusion.conclude(Found(pending, None, trouble))
