"""A triggered worker in this process with real sockets, a PLC simulator on it, and a camera that sends jobs."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zmq

from station import messages
from station.engine.frames import EngineSpec
from station.guards import Wanted
from station.outputs.base import Output
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.plc_rules import Part, Program
from station.plc_simulator import SCAN_S, Misbehaviour, PlcSimulator
from station.records import Job, Verdict
from station.supervisor_notify import ServiceNotifier
from station.worker.challenger import Challenger, Material
from station.worker.engine_host import EngineHost
from station.worker.journal import Journal
from station.worker.queue import JobQueue
from station.worker.service import WorkerService
from station.worker.triggers import Triggers
from tests.ports import free_port
from tests.waiting import wait_until
from tests.worker_parts import IDENTITY, RECIPE_SHA256, FakeInspection, fake_judge, make_job, make_probe, make_recipe


class Shown:
    """An output that keeps what it is shown."""

    name = "shown"

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.ready = False
        self.beats_ns: list[int] = []

    def start(self) -> None:
        pass

    def send(self, verdict: Verdict, job: Job) -> None:  # noqa: ARG002
        self.verdicts.append(verdict)

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002
        self.ready = ready
        self.beats_ns.append(time.monotonic_ns())

    def go_safe(self) -> None:
        pass

    def close(self) -> None:
        pass


class TriggeredStation:
    """A worker that waits for triggers; `camera` is what capture would send."""

    def __init__(
        self,
        folder: Path,
        *,
        picture_window_ms: int = 150,
        deadline_ms: int = 5_000,
        outputs: tuple[Output, ...] = (),
        probe: Wanted | None = None,
    ) -> None:
        """`probe`: what the one probe of its challenges must come to (it comes to OK); None: it is not challenged."""
        self.port = free_port()
        self.shown = Shown()
        self._folder = folder
        self._window_ms = picture_window_ms
        self._deadline_ms = deadline_ms
        self._more = outputs
        self._probe = probe
        self._context = zmq.Context()
        self._stop = threading.Event()

    @contextmanager
    def running(
        self, may_be_ready: Callable[[], bool] = lambda: True, until: Callable[[WorkerService], bool] | None = None
    ) -> Iterator[None]:
        """Run the worker to the end of the block, which begins when the engine is ready, or `until` holds."""
        endpoint = f"ipc://{self._folder}/jobs.ipc"
        recipe = make_recipe(self._deadline_ms)
        probes = [make_probe(recipe, wanted=self._probe)] if self._probe else []
        self.challenger = (
            Challenger(recipe, Material(probes, (), lambda _job, _turn: ()), self._folder / "challenges.jsonl")
            if probes
            else None
        )
        self.output = ModbusServerOutput("127.0.0.1", self.port, triggered=True, recipe_sha256=RECIPE_SHA256)
        self._queue = JobQueue(self._context, endpoint, credit=16, identity=IDENTITY)
        service = WorkerService(
            station="test",
            config_sha256="12" * 32,
            recipe=recipe,
            inspection=FakeInspection(),
            judge=fake_judge,
            queue=self._queue,
            engine=EngineHost(EngineSpec(kind="scripted", manifest_path="", threads=0, gpu_layers=0), kill_ms=2_000),
            journal=Journal(self._folder / "journal.sqlite"),
            outputs=(self.output, *self._more, self.shown),
            notifier=ServiceNotifier(),
            triggers=Triggers(self.output, self._window_ms, recipe),
            challenger=self.challenger,
            may_be_ready=may_be_ready,
        )
        thread = threading.Thread(target=service.run, args=(self._stop,))
        self._stop.clear()
        thread.start()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.linger = 0
        self._dealer.connect(endpoint)
        try:
            is_up = until or (lambda worker: bool(self._is_up(worker, may_be_ready)))
            wait_until(lambda: is_up(service))
            yield
        finally:
            self._stop.set()
            thread.join()
            self._context.destroy(linger=0)

    def _is_up(self, worker: WorkerService, may_be_ready: Callable[[], bool]) -> object:
        return self.shown.ready or (worker._engine.is_ready and (self._probe or not may_be_ready()))

    def picture(self, name: str, captured_ns: int | None = None, *, sha256: str | None = None) -> None:
        """Send a picture as capture does: told of at once, then its job. The name says what the engine answers."""
        job = make_job(name)
        image = msgspec.structs.replace(job.image, sha256=sha256 or uuid.uuid4().hex * 2)
        captured_ns = time.monotonic_ns() if captured_ns is None else captured_ns
        job = msgspec.structs.replace(job, image=image, captured_ns=captured_ns)
        sighting = messages.Sighting(job_id=name, sha256=image.sha256, captured_ns=captured_ns)
        self._dealer.send(messages.encode(sighting))
        self._dealer.send(messages.encode(messages.JobMessage(session=self._queue.session, job=job)))

    def plc(
        self, *, window_ms: int = 4_000, misbehaviour: Misbehaviour = Misbehaviour.NONE, seed: int = 0, port: int = 0
    ) -> PlcSimulator:
        """Return a PLC whose camera sends a good picture for each trigger."""
        program = Program(window_ms=window_ms, accepts_simulated=True)
        return PlcSimulator("127.0.0.1", port or self.port, program, self._fire, misbehaviour=misbehaviour, seed=seed)

    def _fire(self, part: int) -> None:
        self.picture(f"part-{part}-{uuid.uuid4().hex[:8]}")


def scan_until(plc: PlcSimulator, bit: str, value: int = 1, part: Part | None = None) -> None:
    """Let the PLC scan until it reads this."""
    end_s = time.monotonic() + 10
    while plc.shown().get(bit) != value:
        assert time.monotonic() < end_s, f"{bit} is not {value}: {plc.shown()}"
        plc.scan(part)
        time.sleep(SCAN_S)
