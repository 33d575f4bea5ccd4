"""A whole triggered station as processes, with a PLC on a cable that can be cut and a worker that is killed.

`Line.cycle` runs one part through while something goes wrong at a random moment, and checks what the PLC did against
the journal: no part acted on twice, none passed without a completed OK of its own picture.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from station.journal_reader import JournalReader
from station.outputs.plc_rules import HEARTBEAT_TIMEOUT_MS, Acted, Part, Program
from station.plc_simulator import SCAN_S, PlcSimulator
from station.records import Evaluation
from station.settings_file import load_settings
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import environment, write_config
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_until

KINDS = ("kill", "cut", "reset", "slow", "none")
WINDOW_MS = 1_500


@dataclass
class Line:
    """The line and what was counted on it."""

    folder: Path
    random: random.Random
    proxy: TcpProxy
    plc: PlcSimulator
    worker: subprocess.Popen[bytes]
    hot: Path
    cycles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    accepted: int = 0
    rejected: int = 0
    seen_lost_ms: list[float] = field(default_factory=list)
    """From the kill until the PLC's rules could pass nothing any more."""
    _killed_s: float | None = None

    def cycle(self, kind: str) -> Acted:
        """Run one part; `kind` goes wrong at a random moment of it, or just after."""
        self.cycles[kind] += 1
        wrong_s = time.monotonic() + self.random.uniform(0, 0.6)
        acted: Acted | None = None
        is_done = kind in {"none", "slow"}
        for _ in range(4000):
            acted = self.plc.scan(None if acted else Part()) or acted
            if not is_done and time.monotonic() >= wrong_s:
                is_done = True
                self._go_wrong(kind)
            self._look_for_loss()
            if acted and is_done and self._killed_s is None:
                break
            time.sleep(SCAN_S if kind != "slow" else self.random.choice((SCAN_S, 0.1, 0.3)))
        assert acted, f"no decision: {self.plc.program.step.name} {self.plc.shown()}"
        self.proxy.is_cut = False
        self._check(acted)
        return acted

    def settle(self) -> None:
        """Scan until the PLC and the station are ready for the next part."""
        end_s = time.monotonic() + 20
        while not self.plc.shown().get("TriggerReady"):
            assert time.monotonic() < end_s, f"not ready: {self.plc.program.step.name} {self.plc.shown()}"
            self.plc.scan(None)
            time.sleep(SCAN_S)

    def _go_wrong(self, kind: str) -> None:
        if kind == "cut":
            self.proxy.is_cut = True
        elif kind == "reset":
            self.proxy.reset()
        elif kind == "kill":
            self.worker.send_signal(signal.SIGKILL)
            self._killed_s = time.monotonic()
            self.worker.wait()

    def _look_for_loss(self) -> None:
        """After a kill: note when nothing can pass any more, then start the worker again."""
        now_ms = time.monotonic_ns() // 1_000_000
        could_pass = self.plc.words is not None and now_ms - self.plc.program.beat_ms < HEARTBEAT_TIMEOUT_MS
        if self._killed_s is not None and not could_pass:
            self.seen_lost_ms.append((time.monotonic() - self._killed_s) * 1000)
            self._killed_s = None
            self.worker = start_worker(self.folder)

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


def start_worker(folder: Path) -> subprocess.Popen[bytes]:
    """Start `station worker`."""
    return _start("worker", folder)


def _start(verb: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "station", verb, "--config", str(folder / "config.yaml")]
    with (folder / f"{verb}.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log, env=environment())


@contextmanager
def running_line(folder: Path, seed: int) -> Iterator[Line]:
    """Start capture and worker, and a PLC behind a proxy; every second picture is taken of a part at another place."""
    config = load_settings(write_config(folder))
    port = config.outputs.modbus_server.port
    server = {"port": port, "mode": "triggered", "picture_window_ms": 150, "allow": ["127.0.0.1"]}
    write_config(
        folder, outputs={"modbus_server": server, "publisher": {"enabled": False}, "archive": {"folder": "archive"}}
    )
    rng = random.Random(seed)
    hot = folder / "hot"

    def fire(part: int) -> None:
        shift = Pose(shift_x=part % 17 - 8, shift_y=part // 17 % 17 - 8, rotation_deg=part // 289 / 100)
        hidden = hot / f".part-{part}.png"
        hidden.write_bytes(encoded(draw_part(shift), ".png"))
        hidden.rename(hot / f"part-{part}.png")

    capture = _start("capture", folder)
    with TcpProxy(port) as proxy:
        program = Program(window_ms=WINDOW_MS, accepts_simulated=True)
        with PlcSimulator("127.0.0.1", proxy.port, program, fire) as plc:
            line = Line(folder, rng, proxy, plc, start_worker(folder), hot)
            try:
                wait_until(lambda: plc.scan(None) is None and plc.shown().get("TriggerReady"), 20)
                yield line
            finally:
                for process in (line.worker, capture):
                    process.terminate()
                    process.wait(15)
