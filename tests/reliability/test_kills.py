"""kill -9 of every process at random and at every fail point: nothing lost, nothing judged twice, order kept."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from station.failpoints import POINTS
from tests.reliability.results import count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig, percentile
from tests.waiting import wait_until

KINDS = (GOOD, GOOD, BROKEN, EMPTY, BROKEN)
MOST_WAITING = 12
ONCE_A_PROCESS = {"capture-started", "epoch-begun", "engine-loaded"}
LAST_HIT = count(1, 3)
VISITS = [
    (process, point, hit)
    for process, points in POINTS.items()
    for point in points
    for hit in range(1, 2 if point in ONCE_A_PROCESS else LAST_HIT + 1)
][:: count(4, 1)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["capture", "worker", "engine"])
def test_kill_9_at_a_random_moment(victim: str, server: ForkServer, memory: Path) -> None:
    trials = count(8, 200, 3000)
    chance = random.Random(f"{victim} {trials}")
    began_s = time.monotonic()
    with Rig(server, memory) as rig:
        rig.start()
        for trial in range(trials):
            for _ in range(chance.randrange(1, 4)):
                rig.deliver(KINDS[len(rig.delivered) % len(KINDS)])
            time.sleep(chance.uniform(0, 0.15))
            if victim == "engine":
                for pid in rig.engine_pids():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            else:
                rig.kill(victim)
                rig.start(victim)
            wait_until(lambda: len(rig.delivered) - rig.judged() < MOST_WAITING, 180)
            if trial % 50 == 49:
                rig.check()
        rig.check()
        ready = rig.ready_times_s.get(victim, [0.0])
        times = (
            {}
            if victim == "engine"
            else {"ready_p50_s": percentile(ready, 0.5), "ready_p99_s": percentile(ready, 0.99)}
        )
        record(
            f"kill -9 of {victim} at random",
            trials,
            "0 lost, 0 double, order kept",
            pictures=len(rig.delivered),
            lost=0,
            double=0,
            **{name: round(value, 3) for name, value in times.items()},
            took_s=round(time.monotonic() - began_s),
        )


@pytest.mark.timeout(3600)
def test_kill_9_at_every_fail_point(server: ForkServer, memory: Path) -> None:
    began_s = time.monotonic()
    with Rig(server, memory) as rig:
        rig.start()
        for process, point, hit in VISITS:
            victim = "worker" if process == "engine" else process
            proof = memory / f"{point}-{hit}"
            rig.kill(victim)
            service_point = f"{point}:{hit}:{proof}"
            rig.start(victim, point=service_point)
            end_s = time.monotonic() + 120
            while not proof.exists():
                assert time.monotonic() < end_s, f"nothing came to {point} {hit} times\n{rig.logs}"
                if len(rig.delivered) - rig.judged() < MOST_WAITING:
                    rig.deliver(KINDS[len(rig.delivered) % len(KINDS)])
                time.sleep(0.01)
            if process != "engine":
                assert rig.wait_end(rig.services.pop(victim).pid) == -signal.SIGKILL, point
                rig.start(victim)
            rig.settle()
            problems = rig.problems() if point in ONCE_A_PROCESS or hit == LAST_HIT else []
            assert not problems, f"{point}:{hit}: {problems[:10]}\n{rig.logs}"
        rig.check()
        record(
            "kill -9 at every fail point",
            len(VISITS),
            "0 lost, 0 double, order kept, every point reached",
            points=sum(map(len, POINTS.values())),
            pictures=len(rig.delivered),
            lost=0,
            double=0,
            took_s=round(time.monotonic() - began_s),
        )
