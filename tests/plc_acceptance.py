"""The long runs of `make plc-acceptance`: each promise to the PLC with its number, written as a table.

Usage: python -m tests.plc_acceptance [--only property|pairing|line|cable|load] [--out FILE]; --help has the numbers.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from station.outputs import handshake
from station.outputs.handshake_state import Handshake
from station.outputs.plc_control import Control
from station.outputs.plc_orders import TriggerTaken
from station.outputs.plc_state import BEAT_MS
from station.records import Evaluation, Reason, TriggerRef, Verdict
from station.worker.pairing import Pairing, State
from tests import network_namespace
from tests.bench import plc_load
from tests.network_namespace import Namespace
from tests.plc_line import STEPS, running_line
from tests.verdicts import make_verdict

MS = 1_000_000


def property_run(steps: int) -> tuple[str, str, str]:
    """Return the row of the property test with so many steps; CalledProcessError when it found a sequence."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/unit/outputs/test_plc_safety.py", "--timeout", "7200"]
    subprocess.run(command, check=True, env=os.environ | {"STATION_PLC_STEPS": str(steps)}, stdout=sys.stderr)
    return "sequences that pass a part not proven good", "0 in 100,000 steps", f"0 in {steps:,} steps"


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


def line_run(cycles: int, limit_s: float, seed: int, *, with_cable: bool) -> list[tuple[str, str, str]]:
    """Return the rows of a line on which every kind of fault comes at every step; AssertionError: a rule was broken."""
    end_s = time.monotonic() + limit_s
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cable = stack.enter_context(Namespace()) if with_cable else None
        line = stack.enter_context(running_line(folder, seed, cable))
        everything = [(kind, step) for kind in line.kinds for step in STEPS]
        for number in range(cycles):
            if time.monotonic() > end_s:
                break
            if number % len(everything) == 0:
                line.random.shuffle(everything)
            line.settle()
            line.cycle(*everything[number % len(everything)])
            if number % 20 == 0:
                sys.stderr.write(f"{number} cycles, {line.accepted} accepted\n")
        lost = sorted(line.seen_lost_ms)
        where = "by a cable that is pulled" if with_cable else "through a proxy"
        done = f"{line.cycles.total()} cycles, each at each step {min(line.cycles.values())} times or more"
        judged = f"{line.accepted} accepted, {line.rejected} rejected, 0 twice, 0 stale"
        seen = f"p50 {plc_load.at(lost, 0.5):.0f} ms, max {lost[-1]:.0f} ms of {len(lost)}"
        return [
            (f"{', '.join(line.kinds)}, {where}", "0 acts twice, 0 stale", f"{done}: {judged}"),
            (f"PLC sees the loss, {where}", f"<= {3 * BEAT_MS} ms, three beats", seen),
        ]


def main() -> None:
    """Run everything and print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=120_000)
    options.add_argument("--cycles", type=int, default=1000)
    options.add_argument("--results", type=int, default=100_000)
    options.add_argument("--limit-s", type=float, default=3600)
    options.add_argument("--load-s", type=float, default=120)
    options.add_argument("--only", choices=("property", "pairing", "line", "cable", "load"))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    rows = []
    if chosen.only in {None, "property"}:
        rows.append(property_run(chosen.steps))
    if chosen.only in {None, "pairing"}:
        shown, late, wrong = pairing_run(chosen.results, chosen.seed)
        rows.append(("results on the wrong trigger id", "0", f"{wrong} of {shown} shown, {late} late ones not shown"))
    if chosen.only in {None, "line"}:
        rows += line_run(chosen.cycles, chosen.limit_s, chosen.seed, with_cable=False)
    if chosen.only in {None, "cable"} and not (problem := network_namespace.why_not()):
        rows += line_run(chosen.cycles // 2, chosen.limit_s / 2, chosen.seed, with_cable=True)
    elif chosen.only in {None, "cable"}:
        rows.append(("faults at each step, by cable", "0 acts twice, 0 stale", f"not run: {problem}"))
    lines = ["| What | Goal | Measured |", "| --- | --- | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    if chosen.only in {None, "load"}:
        lines += ["", plc_load.HEADING + plc_load.rows(plc_load.watch(chosen.load_s))]
    sys.stdout.write("\n".join(lines) + "\n")
    if chosen.out:
        load = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
        chosen.out.write_text(f"# PLC acceptance ({load})\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
