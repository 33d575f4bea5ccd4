"""Pictures and engines that kill or hang, an orderly end under load, a second station, and how soon it is ready."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from station.records import Reason
from tests.reliability.changes import POISON
from tests.reliability.results import check_time, count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig, percentile, visible
from tests.running_station import END_S, environment
from tests.waiting import wait_until


@pytest.mark.timeout(600)
def test_a_picture_that_kills_capture_is_quarantined_after_two_attempts(server: ForkServer, memory: Path) -> None:
    trials = count(1, 20)
    with Rig(server, memory) as rig:
        rig.start("worker")
        for _ in range(trials):
            rig.deliver(GOOD)
            poisoned = rig.deliver(GOOD, comment=POISON)
            after = rig.deliver(GOOD)
            for _attempt in range(2):
                rig.start("capture", change=("poison",))
                assert rig.wait_end(rig.services.pop("capture").pid) == -signal.SIGSEGV
            rig.start("capture", change=("poison",))
            rig.settle()
            verdicts = {verdict.image.name: verdict for verdict in rig.verdicts()}
            assert verdicts[poisoned].reason is Reason.IMAGE_UNREADABLE
            assert "2 times" in verdicts[poisoned].detail
            assert verdicts[after].reason is Reason.NONE
            rig.kill("capture")
        assert not rig.problems()
    record("picture that kills capture", trials, "quarantined after 2 attempts, the next one judged", attempts=2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["crash_on_ask", "hang_on_ask"])
def test_an_engine_that_dies_or_hangs_costs_no_picture(fault: str, server: ForkServer, memory: Path) -> None:
    trials = count(1, 10)
    script = memory / "script.json"
    limit_ms = 1500
    with Rig(server, memory, engine={"kill_ms": 1000}) as rig:
        recipe = memory / "recipe" / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("deadline_ms: 5000", f"deadline_ms: {limit_ms}"))
        for _ in range(trials):
            script.write_text(json.dumps({fault: list(range(1, 100))}))
            rig.start(script=script)
            bad = rig.deliver(GOOD)
            after = rig.deliver(EMPTY)
            rig.settle()
            script.write_text("{}")
            wait_until(rig.engine_pids, 10)
            verdicts = {verdict.image.name: verdict for verdict in rig.verdicts()}
            assert verdicts[bad].reason in {Reason.ENGINE_FAILED, Reason.DEADLINE_PASSED, Reason.NO_MODEL}
            assert verdicts[bad].ms.total - verdicts[bad].ms.capture < limit_ms + 500
            assert verdicts[after].reason is Reason.PART_NOT_FOUND
            for name in ("capture", "worker"):
                rig.kill(name)
        assert not rig.problems()
    what = "dies over a picture" if fault == "crash_on_ask" else "hangs"
    record(f"engine that {what}", trials, "UNDEFINED by the deadline, the next one judged", deadline_ms=limit_ms)


@pytest.mark.timeout(600)
def test_an_engine_that_is_stopped_while_it_decodes_costs_no_picture(server: ForkServer, memory: Path) -> None:
    """SIGSTOP: what a hung driver looks like. It is killed, the next engine is ready soon, nothing is OK meanwhile."""
    trials = count(1, 10, 50)
    limit_ms, load_ms = 1000, 500
    chance = random.Random(trials)
    script = memory / "script.json"
    script.write_text(json.dumps({"delay_ms": 400, "load_ms": load_ms}))
    back_s = []
    with Rig(server, memory, engine={"kill_ms": 1000}) as rig:
        recipe = memory / "recipe" / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("deadline_ms: 5000", f"deadline_ms: {limit_ms}"))
        rig.start(script=script)
        for _ in range(trials):
            wait_until(rig.is_online, 30)
            (engine,) = rig.engine_pids()
            stopped = rig.deliver(GOOD)
            wait_until(lambda: not list(visible(rig.hot)), 20)
            time.sleep(chance.uniform(0, 0.1))
            os.kill(engine, signal.SIGSTOP)
            rig.settle()
            verdict = rig.verdicts()[-1]
            assert verdict.image.name == stopped
            assert verdict.reason is Reason.DEADLINE_PASSED
            assert verdict.ms.total - verdict.ms.capture < limit_ms + 500
            wait_until(lambda: engine not in rig.engine_pids(), 30)  # noqa: B023
            gone_s = time.monotonic()
            wait_until(rig.is_online, 30)
            back_s.append(time.monotonic() - gone_s)
            rig.deliver(GOOD)  # an answer in between: else the pauses before a restart grow
            rig.settle()
        rig.check()
    record(
        "SIGSTOP of the engine while it decodes",
        trials,
        "UNDEFINED by the deadline, engine back <= model load + 2 s, no OK",
        deadline_ms=limit_ms,
        load_s=load_ms / 1000,
        back_s=round(max(back_s), 2),
    )


@pytest.mark.timeout(1200)
def test_sigterm_under_load_ends_in_peace(server: ForkServer, memory: Path) -> None:
    trials = count(1, 50)
    times_s = []
    with Rig(server, memory) as rig:
        for _ in range(trials):
            rig.start()
            for number in range(6):
                rig.deliver((GOOD, BROKEN, EMPTY)[number % 3])
            wait_until(lambda: rig.judged() > len(rig.delivered) - 6, 30)
            for name in ("worker", "capture"):
                began_s = time.monotonic()
                assert rig.kill(name, signal.SIGTERM) == 0
                times_s.append(time.monotonic() - began_s)
        rig.start()
        rig.check()
    check_time(percentile(times_s, 0.99), 5)
    record("SIGTERM under load", 2 * trials, "exit 0 in <= 5 s p99, 0 lost", p99_s=round(percentile(times_s, 0.99), 2))


@pytest.mark.timeout(600)
def test_a_second_station_is_refused_and_the_first_goes_on(server: ForkServer, memory: Path) -> None:
    with Rig(server, memory) as rig:
        rig.start()
        for name in ("capture", "worker"):
            command = [sys.executable, "-m", "station", name, "--config", str(rig.config)]
            second = subprocess.run(
                command, capture_output=True, text=True, timeout=END_S, check=False, env=environment()
            )
            assert second.returncode == 1
            assert "used by another" in second.stderr or "in use by another" in second.stderr, second.stderr
        rig.deliver(GOOD)
        rig.check()
    record("second instance", 2, "refused, exit 1; the first goes on", refused=2)


@pytest.mark.timeout(1200)
def test_ready_again_soon_after_a_kill(server: ForkServer, tmp_path: Path) -> None:
    """Whole processes with interpreter and imports, on the disk, as systemd starts them."""
    trials = count(1, 20)
    times_s: dict[str, list[float]] = {"capture": [], "worker": []}
    with Rig(server, tmp_path) as rig:
        rig.start()
        for number in range(20):
            rig.deliver((GOOD, BROKEN)[number % 2])
        rig.settle()
        for _ in range(trials):
            for name, times in times_s.items():
                rig.kill(name)
                told = environment() | {"NOTIFY_SOCKET": rig.notify_path(name)}
                rig.drain(name)
                began_s = time.monotonic()
                command = [sys.executable, "-m", "station", name, "--config", str(rig.config)]
                with (tmp_path / f"{name}.log").open("ab") as log:
                    process = subprocess.Popen(command, stderr=log, env=told)
                try:
                    rig.await_ready(name)
                    times.append(time.monotonic() - began_s)
                finally:
                    process.kill()
                    process.wait()
                rig.start(name)
        rig.check()
    for name, times in times_s.items():
        record(
            f"READY of {name} after kill -9, whole process",
            trials,
            "<= 3 s p99 without model load",
            p50_s=round(percentile(times, 0.5), 2),
            p99_s=round(percentile(times, 0.99), 2),
        )
