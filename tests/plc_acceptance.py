"""The long runs of `make plc-acceptance`: each promise to the PLC with its number, written as a table.

Usage: python -m tests.plc_acceptance [--cycles 1000] [--results 100000] [--limit-s 3600] [--out FILE]
The property test has its own long form: STATION_PLC_STEPS=100000 pytest tests/unit/outputs/test_plc_safety.py.
"""

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import yaml
from pymodbus.client import ModbusTcpClient

from station.outputs import handshake
from station.outputs.handshake import Handshake, TriggerTaken
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.plc_control import Control
from station.records import Evaluation, Reason, TriggerRef, Verdict
from station.worker.pairing import Pairing, State
from tests.plc_line import KINDS, running_line
from tests.ports import free_port
from tests.running_station import environment
from tests.verdicts import make_job, make_verdict

MS = 1_000_000
ROOT = Path(__file__).parents[1]


def pairing_run(results: int, seed: int) -> tuple[int, int, int]:
    """Return (shown, late, wrong) of parts at random spacing and an engine that takes 0 to 2 x its deadline.

    In numbers, not in time: the pure handshake and pairing as the worker drives them.
    """
    rng = random.Random(seed)
    window_ms, deadline_ms = 50, 400
    pairing = Pairing(window_ms)
    now = handshake.beaten(Handshake(triggered=True), ready=True, now_ns=0)
    now, _ = handshake.written(now, Control(plc_heartbeat=1, trigger_enable=True), 0)
    picture_of: dict[int, TriggerRef] = {}
    answers: list[tuple[int, int, TriggerRef]] = []
    now_ms = number = shown = late = wrong = 0
    while number < results:
        number += 1
        now_ms += rng.randrange(window_ms + 1, 600)
        for due_ms, seq, trigger in sorted(answers):
            now = _time_passes(pairing, now, min(due_ms, now_ms))
            if due_ms <= now_ms:
                answers.remove((due_ms, seq, trigger))
                late += pairing.due_ns(trigger) is None
                now = handshake.judged(now, make_verdict_fast(seq, Evaluation.OK, trigger))
                pairing.answered(trigger)
                result = now.state.result
                if result is not None and result.seq == seq:
                    shown += 1
                    wrong += result.trigger != picture_of[seq]
        now = _time_passes(pairing, now, now_ms)
        trigger_id = number % 0xFFFF + 1
        for pressed in (True, False):
            control = Control(plc_heartbeat=1, trigger_enable=True, trigger=pressed, trigger_id=trigger_id)
            now, orders = handshake.written(now, control, now_ms * MS)
            for order in orders:
                if not isinstance(order, TriggerTaken):
                    continue
                pairing.trigger(order.trigger, now_ms * MS, (now_ms + deadline_ms) * MS)
                fate = pairing.picture(f"job-{number}", f"{number:064x}", (now_ms + rng.randrange(window_ms)) * MS)
                assert fate == order.trigger
                picture_of[number] = order.trigger
                answers.append((now_ms + window_ms + rng.randrange(2 * deadline_ms), number, order.trigger))
    return shown, late, wrong


def _time_passes(pairing: Pairing, now: Handshake, now_ms: int) -> Handshake:
    for pair in pairing.closed(now_ms * MS):
        assert pair.state is State.PAIRED
    for trigger in pairing.reopened(now_ms * MS):
        now = handshake.window_closed(now, trigger.acquisition_id)
    for pair in pairing.unanswered(now_ms * MS):
        now = handshake.judged(now, make_verdict_fast(0, Evaluation.UNDEFINED, pair.trigger))
    return now


_TEMPLATES = {evaluation: make_verdict(1, evaluation, reason=Reason.NONE) for evaluation in Evaluation}


def make_verdict_fast(seq: int, evaluation: Evaluation, trigger: TriggerRef | None) -> Verdict:
    """Return a verdict for `trigger`."""
    return msgspec.structs.replace(_TEMPLATES[evaluation], seq=seq, trigger=trigger)


POLL = """
import sys, time
from pymodbus.client import ModbusTcpClient
plc, seen = ModbusTcpClient("127.0.0.1", port=int(sys.argv[1])), -1
plc.connect()
while seen != int(sys.argv[2]):
    value = plc.read_input_registers(8, count=1).registers[0]
    if value != seen:
        seen = value
        print(seen, time.monotonic_ns(), flush=True)
"""


def latency_ms(count: int) -> list[float]:
    """Return, sorted, the times from `send` until another process that polls has read the verdict."""
    output = ModbusServerOutput("127.0.0.1", port := free_port())
    output.start()
    job = make_job(make_verdict())
    command = [sys.executable, "-c", POLL, str(port), str(count)]
    sent_ns = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as plc:
        assert plc.stdout
        plc.stdout.readline()
        output.heartbeat(ready=True, last_seq=0)
        for seq in range(1, count + 1):
            time.sleep(0.004)
            sent_ns[seq] = time.monotonic_ns()
            output.send(make_verdict_fast(seq, Evaluation.NOT_OK, None), job)
            if seq % 25 == 0:
                output.heartbeat(ready=True, last_seq=seq)
        seen = [tuple(map(int, line.split())) for line in plc.stdout]
    output.close()
    return sorted((read_ns - sent_ns[seq]) / 1e6 for seq, read_ns in seen if seq)


@contextmanager
def real_station(folder: Path) -> Iterator[tuple[Path, int]]:
    """Run the shipped model on the shipped recipe, free running; yields hot folder and PLC port."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    port = free_port()
    config["recipe"] = str(ROOT / config["recipe"])
    config["model"] = str(ROOT / config["model"])
    config["queue"]["endpoint"] = "ipc://jobs.ipc"
    config["capture"] |= {"hot_folder": "hot", "spool": "spool", "quarantine": "quarantine"}
    config["journal"]["path"] = "journal.sqlite"
    config["outputs"]["modbus_server"]["port"] = port
    config["outputs"]["publisher"]["enabled"] = False
    config["outputs"]["archive"]["folder"] = "archive"
    (folder / "hot").mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "station", "run", "--config", str(folder / "config.yaml")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment())
    try:
        yield folder / "hot", port
    finally:
        process.terminate()
        process.wait(30)


def jitter_ms(seconds: float) -> tuple[list[float], int]:
    """Return, sorted, how far the intervals of Heartbeat are from 100 ms while the engine works; and the results."""
    pictures = sorted((ROOT / "calibration/demo").glob("*.png")) + sorted((ROOT / "calibration/demo").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as name, real_station(Path(name)) as (hot, port):
        plc = ModbusTcpClient("127.0.0.1", port=port)
        while not (plc.connect() and plc.read_input_registers(0, count=1).registers[0] & 1):  # type: ignore[no-untyped-call]
            time.sleep(0.1)
        changes, beat, dropped, count = [], -1, 0, 0
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            words = plc.read_input_registers(0, count=64).registers
            if words[2] != beat:
                beat = words[2]
                changes.append(time.monotonic())
            count = words[30] << 16 | words[31]
            if dropped < count + 4:
                hidden = hot / f".{dropped}"
                shutil.copyfile(pictures[dropped % len(pictures)], hidden)
                hidden.rename(hot / f"{dropped}{pictures[dropped % len(pictures)].suffix}")
                dropped += 1
            time.sleep(0.002)
        plc.close()  # type: ignore[no-untyped-call]
    intervals = [(after - before) * 1000 for before, after in itertools.pairwise(changes)]
    return sorted(abs(interval - 100) for interval in intervals[1:]), count


def line_run(cycles: int, limit_s: float, seed: int) -> str:
    """Return what a line in which things go wrong counted; AssertionError when a rule was broken."""
    end_s = time.monotonic() + limit_s
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, running_line(Path(name), seed) as line:
        for _ in range(cycles):
            if time.monotonic() > end_s:
                break
            line.settle()
            line.cycle(rng.choice(KINDS))
        lost = sorted(line.seen_lost_ms)
        done = ", ".join(f"{kind} {count}" for kind, count in line.cycles.items())
        return (
            f"{sum(line.cycles.values())} cycles ({done}): {line.accepted} accepted, {line.rejected} rejected,"
            f" 0 acts twice, 0 stale; loss seen after a kill within {lost[-1] if lost else 0:.0f} ms"
        )


def at(values: list[float], part: float) -> float:
    """Return the quantile of sorted values."""
    return values[min(len(values) - 1, int(part * len(values)))]


def main() -> None:
    """Run everything and print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--cycles", type=int, default=1000)
    options.add_argument("--results", type=int, default=100_000)
    options.add_argument("--limit-s", type=float, default=3600)
    options.add_argument("--jitter-s", type=float, default=60)
    options.add_argument("--only", choices=("pairing", "latency", "jitter", "line"))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    rows = []
    if chosen.only in {None, "pairing"}:
        shown, late, wrong = pairing_run(chosen.results, chosen.seed)
        rows.append(("results on the wrong trigger id", "0", f"{wrong} of {shown} shown, {late} late ones not shown"))
    if chosen.only in {None, "latency"}:
        taken = latency_ms(5000)
        p99 = f"p50 {at(taken, 0.5):.2f} ms, p99 {at(taken, 0.99):.2f} ms, max {taken[-1]:.2f} ms"
        rows.append(("verdict to registers, with the read", "<= 5 ms p99", p99))
    if chosen.only in {None, "jitter"}:
        off, count = jitter_ms(chosen.jitter_s)
        jitter = f"p50 {at(off, 0.5):.1f} ms, p99 {at(off, 0.99):.1f} ms, max {off[-1]:.1f} ms; {count} results"
        rows.append(("heartbeat jitter, engine at full load", "<= 50 ms", jitter))
    if chosen.only in {None, "line"}:
        rows.append(
            (
                "kill -9, cut, reset, slow PLC",
                "1,000 cycles, 0, 0",
                line_run(chosen.cycles, chosen.limit_s, chosen.seed),
            )
        )
    lines = ["| What | Goal | Measured |", "| --- | --- | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    sys.stdout.write("\n".join(lines) + "\n")
    if chosen.out:
        load = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
        chosen.out.write_text(f"# PLC acceptance ({load})\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
