"""A whole triggered station as processes, with a PLC on a cable that can be cut and a worker that is killed.

`Line.cycle` runs one part through while something goes wrong at a step of the PLC's program, and checks what the PLC
did against the journal: no part acted on twice, none passed without a completed OK of its own picture. The PLC reaches
the station through a proxy, or by a real cable into another network namespace.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from station.journal_reader import JournalReader
from station.outputs.plc_rules import HEARTBEAT_TIMEOUT_MS, Acted, Part, Program, Step
from station.plc_simulator import SCAN_S, PlcSimulator
from station.records import Evaluation
from station.settings_file import load_settings
from tests.network_namespace import Namespace
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import environment, write_config
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_until

KINDS = ("kill", "hang", "plc restarts", "slow", "none")
PROXY_KINDS = ("black hole", "reset", "half open", "garbage")
CABLE_KINDS = ("cable pulled here", "cable pulled there")
STEPS = (Step.SERIAL, Step.TRIGGER, Step.RESULT, Step.ACK)
WINDOW_MS = 1_500
HANG_S = 1.0


@dataclass
class Line:
    """The line and what was counted on it."""

    folder: Path
    random: random.Random
    proxy: TcpProxy | None
    cable: Namespace | None
    plc: PlcSimulator
    worker: subprocess.Popen[bytes]
    cycles: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each kind went wrong, and at which step."""
    accepted: int = 0
    rejected: int = 0
    seen_lost_ms: list[float] = field(default_factory=list)
    """From the fault until the PLC's rules could pass nothing any more."""
    _wrong_s: float | None = None
    """When it went wrong; None: it did not, or the PLC has seen it."""
    _must_be_seen: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can go wrong on this line."""
        return (*KINDS, *(PROXY_KINDS if self.proxy else ()), *(CABLE_KINDS if self.cable else ()))

    def cycle(self, kind: str, step: Step = Step.RESULT) -> Acted:
        """Run one part; `kind` goes wrong when the program has come to `step`, a little later in half of the cases."""
        self.cycles[kind, step.name] += 1
        wait_s = self.random.choice((0, self.random.uniform(0, 0.3)))
        acted: Acted | None = None
        begun_s: float | None = None
        is_done = kind in {"none", "slow"}
        end_s = time.monotonic() + 60
        while not (acted and is_done and not self._must_be_seen):
            assert time.monotonic() < end_s, self._state(kind, step)
            acted = self.plc.scan(None if acted else Part()) or acted
            if begun_s is None and (self.plc.program.step is step or acted):
                begun_s = time.monotonic()
            if not is_done and begun_s is not None and time.monotonic() >= begun_s + wait_s:
                is_done = True
                self._go_wrong(kind)
            self._look_for_loss(kind)
            time.sleep(SCAN_S if kind != "slow" else self.random.choice((SCAN_S, 0.1, 0.3)))
        self._repair(kind)
        self._check(acted)
        return acted

    def _state(self, kind: str, step: Step) -> str:
        log = (self.folder / "worker.log").read_text()[-2000:]
        now = f"{self.plc.program.step.name} {self.plc.shown()}, worker {self.worker.poll()}"
        return f"no decision: {kind} at {step.name}: {now}\n{log}"

    def settle(self) -> None:
        """Scan until the PLC and the station are ready for the next part.

        The PLC must have left the last part behind: a worker that hangs now would hang before this part's trigger, and
        nobody would wake it.
        """
        end_s = time.monotonic() + 20
        while self.plc.program.step is not Step.IDLE or not self.plc.shown().get("TriggerReady"):
            assert time.monotonic() < end_s, f"not ready: {self.plc.program.step.name} {self.plc.shown()}"
            self.plc.scan(None)
            time.sleep(SCAN_S)

    def _go_wrong(self, kind: str) -> None:
        self._wrong_s = time.monotonic()
        self._must_be_seen = kind in {"kill", "hang", "black hole", *CABLE_KINDS}
        match kind:
            case "kill":
                self.worker.send_signal(signal.SIGKILL)
                self.worker.wait()
            case "hang":
                self.worker.send_signal(signal.SIGSTOP)
            case "plc restarts":
                fresh = Program(window_ms=WINDOW_MS, accepts_simulated=True)
                self.plc.program = msgspec.structs.replace(fresh, last_trigger_id=self.plc.program.last_trigger_id)
        if self.proxy:
            self._network_goes_wrong(self.proxy, kind)
        if self.cable and kind in CABLE_KINDS:
            (self.cable.unplug_here if kind.endswith("here") else self.cable.unplug_there)()
            self._wrong_s = time.monotonic()  # the command takes a while until it acts

    @staticmethod
    def _network_goes_wrong(proxy: TcpProxy, kind: str) -> None:
        if kind == "black hole":
            proxy.is_cut = True
        elif kind == "reset":
            proxy.reset()
        elif kind == "half open":
            proxy.half_open()
        elif kind == "garbage":
            proxy.garble()

    def _look_for_loss(self, kind: str) -> None:
        """Note when nothing can pass any more after the fault; a worker that was killed is started then."""
        now_ms = time.monotonic_ns() // 1_000_000
        could_pass = self.plc.words is not None and now_ms - self.plc.program.beat_ms < HEARTBEAT_TIMEOUT_MS
        if self._wrong_s is None or not self._must_be_seen or could_pass:
            return
        self.seen_lost_ms.append((time.monotonic() - self._wrong_s) * 1000)
        self._wrong_s, self._must_be_seen = None, False
        if kind == "kill":
            self.worker = start_worker(self.folder, self.cable)

    def _repair(self, kind: str) -> None:
        if kind == "hang":
            time.sleep(self.random.uniform(0, HANG_S))
            self.worker.send_signal(signal.SIGCONT)
        if self.proxy:
            self.proxy.is_cut = False
        if self.cable:
            self.cable.plug()

    def _check(self, acted: Acted) -> None:
        ids = [act.trigger_id for act in self.plc.acts]
        assert len(ids) == len(set(ids)), f"acted twice: {ids}"
        if not acted.accepted:
            self.rejected += 1
            return
        self.accepted += 1
        last = JournalReader(self.folder / "journal.sqlite").last(20)
        own = [verdict for verdict in last if verdict.trigger and verdict.trigger.trigger_id == acted.trigger_id]
        assert [verdict.evaluation for verdict in own] == [Evaluation.OK], own
        assert own[0].image.name == f"part-{acted.trigger_id}.png", own


def start_worker(folder: Path, cable: Namespace | None = None) -> subprocess.Popen[bytes]:
    """Start `station worker`, beyond the cable if there is one."""
    return _start("worker", folder, cable.inside if cable else ())


def _start(verb: str, folder: Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    command = [*prefix, sys.executable, "-m", "station", verb, "--config", str(folder / "config.yaml")]
    with (folder / f"{verb}.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log, env=environment())


class Camera:
    """Puts a picture into the hot folder at once, each of a part at another place; the next one is drawn meanwhile."""

    def __init__(self, hot: Path, artist: ThreadPoolExecutor) -> None:
        self._hot = hot
        self._artist = artist
        self._next = artist.submit(self._drawn, 0)

    def fire(self, part: int) -> None:
        """Deliver `part-N.png`."""
        hidden = self._hot / f".part-{part}.png"
        hidden.write_bytes(self._next.result())
        hidden.rename(self._hot / f"part-{part}.png")
        self._next = self._artist.submit(self._drawn, part + 1)

    @staticmethod
    def _drawn(number: int) -> bytes:
        pose = Pose(shift_x=number % 17 - 8, shift_y=number // 17 % 17 - 8, rotation_deg=number // 289 / 100)
        return encoded(draw_part(pose), ".png")


@contextmanager
def running_line(folder: Path, seed: int, cable: Namespace | None = None) -> Iterator[Line]:
    """Start capture and worker, and a PLC behind a proxy or a cable; each picture is of a part at another place."""
    port = load_settings(write_config(folder)).outputs.modbus_server.port
    host = cable.host if cable else "127.0.0.1"
    server = {"host": host, "port": port, "mode": "triggered", "picture_window_ms": 200}
    write_config(
        folder, outputs={"modbus_server": server, "publisher": {"enabled": False}, "archive": {"folder": "archive"}}
    )
    with ExitStack() as stack:
        camera = Camera(folder / "hot", stack.enter_context(ThreadPoolExecutor(1)))
        capture = _start("capture", folder)
        stack.callback(_end, lambda: capture)
        proxy = None if cable else stack.enter_context(TcpProxy(port))
        program = Program(window_ms=WINDOW_MS, accepts_simulated=True)
        plc = stack.enter_context(PlcSimulator(host, proxy.port if proxy else port, program, camera.fire))
        line = Line(folder, random.Random(seed), proxy, cable, plc, start_worker(folder, cable))
        stack.callback(_end, lambda: line.worker)
        wait_until(lambda: plc.scan(None) is None and plc.shown().get("TriggerReady"), 30)
        yield line


def _end(process: Callable[[], subprocess.Popen[bytes]]) -> None:
    process().send_signal(signal.SIGCONT)  # it may be stopped
    process().terminate()
    process().wait(15)
