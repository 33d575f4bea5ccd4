"""The engine's process: `python -m station.engine.child SOCKET_FD PARENT_PID`, started by the worker only.

In: frames of `station.engine.frames` on a socket that was inherited; out: frames on the same socket. One thread. It
gets pixels, never files of a camera, and has no network. An EngineError is told to the worker; anything unexpected ends
the process (exit code not 0) and the worker starts a fresh one. It ends when the worker ends, however that happens.
"""

import contextlib
import ctypes
import errno
import logging
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from station import failpoints
from station.engine import frames
from station.engine.base import Answer, Engine, Question
from station.engine.no_network import give_up_network
from station.engine.scripted import ScriptedEngine, script_from_environment
from station.errors import EngineError, StationError

NICE = 5
"""Priority of a model's computing: below capture and worker, whose few milliseconds the PLC waits for."""
LOST = re.compile(
    r"\b(CUDA|ROCm|HIP|SYCL|Vulkan)\b.*\berror\b|device ?lost|out of (device )?memory|bad_alloc"
    r"|(failed to|cannot|unable to) allocate",
    re.IGNORECASE,
)
"""What llama.cpp's log says when a GPU or the memory fails it. Often it aborts then: there is no other word of it."""
_RECEIVE_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


def main(socket_fd: int, parent_pid: int) -> int:
    """Serve one worker until it hangs up. Returns the exit code: 0 hung up, 1 the engine could not be loaded."""
    _die_with(parent_pid)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s engine: %(message)s")
    # Ctrl-C in a terminal reaches the whole process group; the worker decides when its engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=socket_fd) as link:
        logging.getLogger().addHandler(_TellGpuLost(link))
        asks = _frames_of(link)
        load = next(asks, None)
        if not isinstance(load, frames.Load):
            return 0
        try:
            give_up_network()  # before any model file is opened
            engine = _build(load.spec)
            _prepare(link, engine, load.question)
            for ask in asks:
                if isinstance(ask, frames.Prepare):
                    _prepare(link, engine, ask.question)
                    continue
                failpoints.hit("engine-asked")
                link.sendall(frames.encode(_answer(engine, ask)))
                failpoints.hit("engine-answered")
        except StationError as error:
            link.sendall(frames.encode(frames.Refused(job_id=None, detail=str(error))))
            return 1
        except (MemoryError, OSError) as error:
            if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
                link.sendall(frames.encode(frames.GpuLost(detail=f"No memory: {error}")))
            raise
        engine.close()
    return 0


class _TellGpuLost(logging.Handler):
    """Tells the worker at once, once: the line may be the last thing before llama.cpp ends the process."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__(logging.WARNING)
        self._link = link
        self._has_told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._has_told and LOST.search(text := record.getMessage()):
            self._has_told = True
            self._link.sendall(frames.encode(frames.GpuLost(detail=text)))


def _prepare(link: socket.socket, engine: Engine, question: Question) -> None:
    """Make the engine ready for this question, and say so. Raises EngineError."""
    engine.prepare(question)
    failpoints.hit("engine-loaded")
    link.sendall(frames.encode(frames.Loaded(model=engine.model(), is_simulated=engine.is_simulated)))


def _build(spec: frames.EngineSpec) -> Engine:
    """Load the engine that `spec` names. Raises EngineError."""
    if spec.kind == "scripted":
        return ScriptedEngine(script_from_environment())
    if spec.kind == "llama":
        # Imported only here: a station with the scripted engine needs no llama.cpp.
        from station.engine.llama import LlamaEngine  # noqa: PLC0415

        _become_last() if spec.is_shadow else os.nice(NICE)
        return LlamaEngine(manifest=Path(spec.manifest_path), threads=spec.threads, gpu_layers=spec.gpu_layers)
    raise EngineError(f"There is no engine of kind {spec.kind!r}.", "Use llama or scripted (config.yaml, engine.kind).")


def _become_last() -> None:
    """Compute only where a core is idle, and be the first to be killed when memory runs out."""
    with contextlib.suppress(OSError):  # some containers allow neither
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _answer(engine: Engine, ask: frames.Frame) -> frames.Answered | frames.Refused:
    if not isinstance(ask, frames.Ask):
        raise TypeError(f"the worker sent {type(ask).__name__}, expected Ask")
    try:
        answers = engine.ask(ask.queries)
        _refuse_nonsense(ask, answers)
        return frames.Answered(job_id=ask.job_id, answers=answers)
    except EngineError as error:
        return frames.Refused(job_id=ask.job_id, detail=str(error))


def _refuse_nonsense(ask: frames.Ask, answers: tuple[Answer, ...]) -> None:
    """Raise EngineError unless there is one answer to each query, in order, with numbers (no NaN) as probabilities."""
    if [answer.query_id for answer in answers] != [query.query_id for query in ask.queries]:
        raise EngineError(f"The engine gave {len(answers)} answers that do not fit the {len(ask.queries)} queries.")
    for answer in answers:
        if not all(math.isfinite(choice.mass) for choice in answer.choices):
            raise EngineError(f"The engine answered {answer.query_id} with a probability that is no number.")


def _frames_of(link: socket.socket) -> Iterator[frames.Frame]:
    """Yield what the worker sends until it hangs up."""
    reader = frames.FrameReader()
    while data := link.recv(_RECEIVE_BYTES):
        yield from reader.feed(data)


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the worker dies, even in the middle of a decode."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("The worker ended before its engine started.")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
