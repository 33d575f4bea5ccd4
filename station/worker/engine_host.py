"""Keeps an engine running in a child process: starts it, hands it one job at a time, kills it when it is stuck.

In: `start` with the recipe's question, `submit` with a job's queries; out: `Outcome`s from `poll`. Runs in the
worker's one thread and never blocks. llama.cpp ends its process on failed asserts and a decode cannot be interrupted,
so a dead or late child is killed and a fresh one loads the model again, after ever longer pauses. What becomes of the
job that it had is the service's affair: it gets an Outcome that says `died`.
"""

import enum
import logging

from station.engine import frames
from station.engine.base import Answer, Query, Question
from station.errors import EngineError
from station.records import ModelRef, Record
from station.worker.engine_process import EngineProcess

logger = logging.getLogger(__name__)

RESTART_AFTER_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pause before the 1st, 2nd... restart without an answer in between; the last one for ever."""
LOAD_LIMIT_S = 900
"""A child that has not loaded by then is stuck: a large model on a slow disk takes minutes, not quarters of an hour."""
_END_S = 1.0
"""How long a child that is idle gets to end by itself."""
_REAP_EVERY_NS = 10_000_000
"""How often to look for the end of a killed child."""

NO_MODEL = ModelRef(name="none", sha256="")
"""What judged while no engine was ever loaded."""


class EngineState(enum.StrEnum):
    """What the engine is doing."""

    LOADING = "LOADING"
    READY = "READY"
    BUSY = "BUSY"
    DEAD = "DEAD"
    """No child runs; one is started after a pause."""


class Outcome(Record):
    """What came of one submitted job. Either `answers` or `detail`."""

    job_id: str
    answers: tuple[Answer, ...] | None
    detail: str
    """Why there are no answers."""
    died: bool
    """True when the child ended or was killed over this job."""
    ms: float
    """Since it was submitted."""


class EngineHost:
    """Supervisor of the child that runs the engine of `spec`. `kill_ms`: longest time for one ask."""

    def __init__(self, spec: frames.EngineSpec, kill_ms: int) -> None:
        self._spec = spec
        self._name = "Shadow" if spec.is_shadow else "Engine"
        self._kill_ns = kill_ms * 1_000_000
        self._load: frames.Load | None = None
        self._process: EngineProcess | None = None
        self._outcomes: list[Outcome] = []
        self._job_id = ""
        self._since_ns = 0
        self._restart_ns: int | None = None
        self._paused_ns: int | None = None
        self._failures = 0
        self.state = EngineState.DEAD
        self.reason = "not started"
        """Why the engine is DEAD, for the operator; empty when it is not."""
        self.last_failure = ""
        """Why it was DEAD last, also while it is loaded again; empty once it has answered."""
        self.is_gpu_lost = False
        """A child has reported a lost GPU or no memory, and none has answered since."""
        self.model = NO_MODEL
        """The release that is loaded, or was last."""
        self.is_simulated = spec.kind == "scripted"
        self.was_ready = False
        """True once an engine has been loaded since `start`."""
        self.starts = 0
        """How many children were started."""

    @property
    def is_ready(self) -> bool:
        """True when the engine is loaded: READY or BUSY."""
        return self.state in {EngineState.READY, EngineState.BUSY}

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._process.pid if self._process else None

    def start(self, question: Question, now_ns: int) -> None:
        """Start the first child; every child loads the engine and prepares `question`."""
        self._load = frames.Load(spec=self._spec, question=question)
        self._spawn(self._load, now_ns)

    def prepare(self, question: Question, now_ns: int) -> None:
        """Ask `question` from now on, also after a restart. LOADING until the child, which must be READY, can."""
        if self._process is None or self._load is None or self.state is not EngineState.READY:
            raise EngineError(f"Another question was given to an engine that is {self.state}.")
        if question != self._load.question:
            self._load = frames.Load(spec=self._spec, question=question)
            self.state, self._since_ns = EngineState.LOADING, now_ns
            self._process.send(frames.Prepare(question=question))

    def submit(self, job_id: str, queries: tuple[Query, ...], now_ns: int) -> None:
        """Ask the engine, which must be READY. An Outcome follows, whatever happens."""
        if self._process is None or self.state is not EngineState.READY:
            raise EngineError(f"Job {job_id} was given to an engine that is {self.state}.")
        self.state, self._job_id, self._since_ns = EngineState.BUSY, job_id, now_ns
        self._process.send(frames.Ask(job_id=job_id, queries=queries))

    def pause(self, now_ns: int) -> None:
        """Have the child stand still, whatever it does; no time limit runs until `go_on`, and `poll` does nothing."""
        if self._paused_ns is None:
            self._paused_ns = now_ns
            if self._process is not None and self.state is not EngineState.DEAD:
                self._process.stop()

    def go_on(self, now_ns: int) -> None:
        """End a pause, if there is one."""
        if self._paused_ns is not None:
            self._since_ns += now_ns - self._paused_ns
            self._paused_ns = None
            if self._process is not None and self.state is not EngineState.DEAD:
                self._process.go_on()

    def watched(self) -> tuple[int, bool] | None:
        """Return (file descriptor, wants to write) to wait on before `poll`; None when there is nothing to wait for."""
        if self._process is None or self.state is EngineState.DEAD or self._paused_ns is not None:
            return None
        return self._process.descriptor, self._process.wants_write

    def next_due_ns(self) -> int | None:
        """Return when `poll` is needed even if the descriptor is quiet."""
        if self.state is EngineState.READY or self._paused_ns is not None:
            return None
        return self._restart_ns if self.state is EngineState.DEAD else self._limit_ns()

    def poll(self, now_ns: int) -> list[Outcome]:
        """Exchange frames, kill what is stuck, restart what is dead. Returns the jobs that came to an end."""
        if self._paused_ns is not None:
            return []
        if self._process is None or self.state is EngineState.DEAD:
            self._restart_when_due(now_ns)
        else:
            self._exchange(self._process, now_ns)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """End the child and wait for it. May be called in any state."""
        if self._process is not None:
            self._process.hang_up()
            is_idle = self.state is EngineState.READY and self._paused_ns is None
            if not is_idle or not self._process.wait(_END_S):
                self._process.kill()
            if not self._process.wait(_END_S):
                logger.error("The engine's process %d does not end, not even killed.", self._process.pid)
            self._process = None
        self._become_dead("stopped", None)

    def _exchange(self, process: EngineProcess, now_ns: int) -> None:
        try:
            for frame in process.transfer():
                self._take(frame, now_ns)
        except EngineError as error:
            # What it says about a failed load is the better reason than that it ended afterwards.
            self._fail(process, self.reason or str(error), now_ns)
            return
        if self.state is not EngineState.READY and now_ns >= self._limit_ns():
            reason = f"The engine was killed: {self.state} for {(now_ns - self._since_ns) / 1e9:.1f} s."
            self._fail(process, reason, now_ns)

    def _take(self, frame: frames.Frame, now_ns: int) -> None:
        """Act on what the child says. Raises EngineError when it is out of turn."""
        match frame:
            case frames.Loaded() if self.state is EngineState.LOADING:
                self.state, self.was_ready = EngineState.READY, True
                self.model, self.is_simulated = frame.model, frame.is_simulated
                logger.info("%s ready after %.1f s: %s.", self._name, (now_ns - self._since_ns) / 1e9, self.model.name)
            case frames.Refused(job_id=None) if self.state is EngineState.LOADING:
                self.reason = frame.detail
            case frames.Answered(job_id=self._job_id) if self.state is EngineState.BUSY:
                self.state, self._failures, self.last_failure = EngineState.READY, 0, ""
                self.is_gpu_lost = False
                self._finish(frame.answers, "", died=False, now_ns=now_ns)
            case frames.GpuLost():
                self.is_gpu_lost = True
                logger.error("The engine lost its GPU, or memory is short: %s", frame.detail)
            case frames.Refused(job_id=self._job_id) if self.state is EngineState.BUSY:
                self.state = EngineState.READY
                self._finish(None, frame.detail, died=False, now_ns=now_ns)
            case _:
                raise EngineError(f"The engine's process said {type(frame).__name__} out of turn.")

    def _finish(self, answers: tuple[Answer, ...] | None, detail: str, *, died: bool, now_ns: int) -> None:
        ms = (now_ns - self._since_ns) / 1e6
        self._outcomes.append(Outcome(job_id=self._job_id, answers=answers, detail=detail, died=died, ms=ms))

    def _fail(self, process: EngineProcess, reason: str, now_ns: int) -> None:
        """Kill the child, tell the job it had, and plan the restart."""
        process.kill()
        if self.state is EngineState.BUSY:
            self._finish(None, reason, died=True, now_ns=now_ns)
        self._plan_restart(reason, now_ns)

    def _plan_restart(self, reason: str, now_ns: int) -> None:
        pause_s = RESTART_AFTER_S[min(self._failures, len(RESTART_AFTER_S) - 1)]
        self._failures += 1
        self.last_failure = reason
        self._become_dead(reason, now_ns + int(pause_s * 1e9))
        logger.error("%s lost, restart %d in %.1f s: %s", self._name, self._failures, pause_s, reason)

    def _become_dead(self, reason: str, restart_ns: int | None) -> None:
        self.state, self.reason, self._restart_ns = EngineState.DEAD, reason, restart_ns

    def _restart_when_due(self, now_ns: int) -> None:
        if self._load is None or self._restart_ns is None or now_ns < self._restart_ns:
            return
        if self._process is not None:
            code = self._process.exit_code()
            if code is None:
                # A killed child may hang on in the GPU driver; two models at once would not fit in memory.
                self._restart_ns = now_ns + _REAP_EVERY_NS
                return
            logger.info("The engine's process %d ended with code %d.", self._process.pid, code)
        self._spawn(self._load, now_ns)

    def _spawn(self, load: frames.Load, now_ns: int) -> None:
        try:
            self._process = EngineProcess()
        except OSError as error:
            self._process = None
            self._plan_restart(f"The engine's process cannot be started: {error}.", now_ns)
            return
        self.state, self.reason, self._since_ns = EngineState.LOADING, "", now_ns
        self.starts += 1
        self._process.send(load)

    def _limit_ns(self) -> int:
        limit_ns = LOAD_LIMIT_S * 1_000_000_000 if self.state is EngineState.LOADING else self._kill_ns
        return self._since_ns + limit_ns
