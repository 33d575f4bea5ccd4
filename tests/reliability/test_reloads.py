"""Reloads in a row, as systemd makes them: check, end of the worker, start; capture follows. Pictures flow meanwhile.

Each brings in another config.yaml. Each verdict must name the one that was in force, in order, and none may be missing.
"""

import json
import signal
import time
from itertools import groupby
from pathlib import Path

import pytest

from station.settings_file import load_settings
from tests.reliability.results import count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, RESTART_S, ForkServer, Rig, percentile
from tests.running_station import station
from tests.waiting import wait_until

KINDS = (GOOD, BROKEN, EMPTY)
MOST_WAITING = 6


def reconfigure(rig: Rig, number: int) -> str:
    """Write another valid config.yaml in one step and return its hash."""
    form = json.loads(rig.config.read_text())
    form["capture"]["rescan_s"] = 1 + number / 1000
    new = rig.config.with_name("new.yaml")
    new.write_text(json.dumps(form))
    new.replace(rig.config)
    return load_settings(rig.config).config_sha256


def deliver(rig: Rig) -> bool:
    """Keep some pictures waiting."""
    while len(rig.delivered) - rig.judged() < MOST_WAITING:
        rig.deliver(KINDS[len(rig.delivered) % len(KINDS)])
    return True


def reload(rig: Rig) -> float:
    """Do what ExecReload and Restart=always do; return for how many seconds the PLC saw no station that judges."""
    checked = station(["check", "--files", "--config", rig.config], 60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    began_s = time.monotonic()
    assert rig.kill("worker", signal.SIGTERM) == 0
    time.sleep(RESTART_S)
    rig.start("worker")
    wait_until(rig.is_online, 60)
    offline_s = time.monotonic() - began_s
    wait_until(lambda: rig.revive(after_s=0.0), 60)  # capture: refused, as it has the configuration of before
    rig.await_ready("capture")
    return offline_s


@pytest.mark.timeout(1200)
def test_reloads_in_a_row_lose_nothing_and_judge_nothing_twice(server: ForkServer, memory: Path) -> None:
    trials = count(2, 20, 100)
    began_s = time.monotonic()
    offline_s = []
    with Rig(server, memory) as rig:
        rig.start()
        known = [load_settings(rig.config).config_sha256]
        for number in range(trials):
            deliver(rig)
            known.append(reconfigure(rig, number + 1))
            offline_s.append(reload(rig))
            seen = rig.judged()
            wait_until(lambda: deliver(rig) and rig.judged() > seen, 60)  # noqa: B023
        rig.check()
        in_force = [sha256 for sha256, _ in groupby(verdict.config_sha256 for verdict in rig.verdicts())]
        assert in_force == known, "a verdict was made with another configuration than the one in force"
        record(
            "valid reloads in a row, pictures flowing",
            trials,
            "0 lost, 0 double, order kept, each verdict with the configuration in force",
            pictures=len(rig.delivered),
            lost=0,
            double=0,
            plc_offline_p50_s=round(percentile(offline_s, 0.5), 2),
            plc_offline_max_s=round(max(offline_s), 2),
            took_s=round(time.monotonic() - began_s),
        )
