"""A changed config.yaml, as systemd brings it in: checked, then both services start again; no picture is lost.

The test stands for systemd: it runs ExecReload of the worker's unit, and starts again what ends, except with code 2.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from station import locks
from station.errors import JournalError
from station.journal_reader import JournalReader
from station.records import Verdict
from station.settings_file import load_settings
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import END_S, ROOT, environment, station, write_config
from tests.waiting import wait_until

GOOD = encoded(draw_part(Pose(shift_x=4)), ".png")
LOCKS = {"worker": "journal.sqlite.lock", "capture": "spool/.lock"}


class Supervised:
    """Both services, each started again when it ends with another code than 2, until `stop`."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self._stopping = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [threading.Thread(target=self._keep, args=(service,)) for service in LOCKS]
        for thread in self._threads:
            thread.start()

    def _keep(self, service: str) -> None:
        command = [sys.executable, "-m", "station", service, "--config", str(self.config)]
        with self.config.with_name(f"{service}.log").open("wb") as log:
            while not self._stopping.is_set():
                self._running[service] = process = subprocess.Popen(command, stderr=log, env=environment())
                if process.wait() == 2:
                    return

    def log(self, service: str) -> str:
        return self.config.with_name(f"{service}.log").read_text()

    def pid(self, service: str) -> int:
        return wait_until(lambda: locks.holder(self.config.parent / LOCKS[service]) or 0, 20)

    def reload(self) -> int:
        """Run the lines ExecReload of the worker's unit, each while the one before has succeeded."""
        unit = (ROOT / "systemd/station-worker.service").read_text()
        code = 0
        for line in re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE):
            command = line.replace("/opt/station/venv/bin/station", f"{sys.executable} -m station")
            command = command.replace("/etc/station/config.yaml", str(self.config))
            command = command.replace("$MAINPID", str(self.pid("worker")))
            code = code or subprocess.run(command.split(), env=environment(), timeout=END_S, check=False).returncode
        return code

    def stop(self) -> None:
        self._stopping.set()
        while any(thread.is_alive() for thread in self._threads):
            for process in list(self._running.values()):
                process.terminate()
            for thread in self._threads:
                thread.join(0.1)


def rewrite(config: Path, **changes: Any) -> str:
    """Replace config.yaml in one step and return its new hash."""
    new = config.with_name("new.yaml")
    new.write_text(json.dumps(json.loads(config.read_text()) | changes))
    new.replace(config)
    return load_settings(config).config_sha256


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(write_config(tmp_path))
    yield supervised
    supervised.stop()


def judge(supervised: Supervised, *names: str) -> list[str]:
    """Deliver pictures and return the hash of the configuration in their verdicts."""
    for name in names:
        hidden = supervised.config.parent / "hot" / f".{name}"
        hidden.write_bytes(GOOD)
        hidden.rename(hidden.with_name(name))
    journal = JournalReader(supervised.config.parent / "journal.sqlite")

    def judged() -> list[Verdict]:
        try:
            found = [verdict for name in names for verdict in journal.find(name)]
        except JournalError:
            return []  # a worker that has just begun
        return found if len(found) >= len(names) else []

    return [verdict.config_sha256 for verdict in wait_until(judged, 20)]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_right_configuration_is_brought_in_and_a_wrong_one_never(supervised: Supervised) -> None:
    config = supervised.config
    first = load_settings(config).config_sha256
    assert judge(supervised, "a.png") == [first]
    worker, whole = supervised.pid("worker"), config.read_text()

    for wrong in (whole[: len(whole) // 2], whole.replace('"kind": "scripted"', '"kind": "guess"'), "", "\0"):
        config.write_text(wrong)
        assert supervised.reload() == 2
    config.write_text(whole.replace("recipe/recipe.yaml", "recipe/missing.yaml"))
    assert supervised.reload() == 2
    assert judge(supervised, "b.png") == [first]
    assert supervised.pid("worker") == worker

    config.write_text(whole)
    second = rewrite(config, queue={"endpoint": "ipc://jobs.ipc", "credit": 4})
    assert supervised.reload() == 0
    assert judge(supervised, "c.png", "d.png") == [second, second]
    assert supervised.pid("worker") != worker
    assert f"this capture is of station test-station, configuration {first[:12]}" in supervised.log("capture")
    assert json.loads(station(["fsck", "--json", "--config", config]).stdout)["holds"]
