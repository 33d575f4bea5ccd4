"""The steps of a challenge between the parts of the line: a probe to the engine, a sample through capture.

A step in each turn of the worker's loop, in its one thread, taken only when no part is there and none is about to come.
"""

from station.challenge_file import Sample
from station.worker.challenger import Challenger
from station.worker.engine_host import EngineHost
from station.worker.jobs import Jobs
from station.worker.pending import Check
from station.worker.queue import JobQueue
from station.worker.triggers import Triggers


class ChallengeSteps:
    """Takes the challenger's steps. `challenger` None: there is no model to challenge, who asks for it is told so."""

    def __init__(
        self,
        challenger: Challenger | None,
        *,
        queue: JobQueue,
        engine: EngineHost,
        jobs: Jobs,
        triggers: Triggers | None,
    ) -> None:
        self._challenger = challenger
        self._queue = queue
        self._engine = engine
        self._jobs = jobs
        self._triggers = triggers

    def turn(self, now_ns: int) -> None:
        """Hear who asks for a challenge, and take its next step if no part would wait for it."""
        for peer in self._queue.take_askers():
            self._hear_asker(peer, now_ns)
        challenger = self._challenger
        if challenger is None:
            return
        if self._engine.is_ready:
            challenger.loaded(self._engine.starts, self._engine.model, now_ns)
        challenger.overdue(now_ns)
        is_part_due = self._triggers is not None and self._triggers.next_due_ns() is not None
        if self._jobs.is_idle and not is_part_due and (step := challenger.step()):
            self._take(challenger, step, now_ns)

    def _hear_asker(self, peer: bytes, now_ns: int) -> None:
        if self._challenger is None or not self._engine.is_ready:
            self._queue.tell_asker(peer, None)
        else:
            self._challenger.begin("person", now_ns, lambda run: self._queue.tell_asker(peer, run))

    def _take(self, challenger: Challenger, step: Check, now_ns: int) -> None:
        if isinstance(step, Sample):
            if self._queue.put_sample(step.sha256):
                challenger.sent(now_ns)
            return
        challenger.sent(now_ns)
        self._jobs.add_probe(step, now_ns)
