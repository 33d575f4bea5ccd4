"""A real station as processes, for scenarios: `station run` on folders below a test's own, with the scripted engine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from station import locks
from station.engine.scripted import SCRIPT_VARIABLE
from station.errors import StationError
from station.plc_client import PlcClient
from station.settings import Settings
from station.settings_file import load_settings
from tests.pictures import write_recipe
from tests.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
START_S = 20
END_S = 15


def write_config(folder: Path, **changes: Any) -> Path:
    """Write the test recipe and a config.yaml with free ports into `folder`; keywords replace whole sections."""
    write_recipe(folder / "recipe")
    (folder / "hot").mkdir(exist_ok=True)
    config: dict[str, Any] = {
        "station": {"name": "test-station"},
        "recipe": "recipe/recipe.yaml",
        "model": "no-model/manifest.json",
        "capture": {"hot_folder": "hot", "spool": "spool", "quarantine": "quarantine"},
        "queue": {"endpoint": "ipc://jobs.ipc"},
        "engine": {"kind": "scripted"},
        "journal": {"path": "journal.sqlite"},
        "outputs": {
            "modbus_server": {"port": free_port()},
            "publisher": {
                "endpoint": f"tcp://127.0.0.1:{free_port()}",
                "snapshot_endpoint": f"tcp://127.0.0.1:{free_port()}",
            },
            "archive": {"folder": "archive", "free_percent": 0},  # tests keep what they count, however full the disk
        },
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config | changes, indent=2))
    return path


def station(
    arguments: Sequence[str | Path], timeout_s: float = END_S, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "station", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment(), **options
    )


def environment(script: Path | None = None) -> dict[str, str]:
    """Return the environment for the station's processes; `script` is for the scripted engine."""
    script_of = {SCRIPT_VARIABLE: str(script)} if script else {}
    return os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | script_of


class RunningStation:
    """`station run`; a context manager. On the way out it must end with `expected_code`."""

    def __init__(
        self,
        config: Path,
        script: Path | None = None,
        until: Callable[[dict[str, int]], bool] = lambda plc: bool(plc["Online"]),
        start_s: float = START_S,
    ) -> None:
        """`until`: what the PLC must see before the test goes on, within `start_s`."""
        self._start_s = start_s
        self._config = config
        self._until = until
        self._log = config.with_name("station.log").open("wb")
        self._environment = environment(script)
        self.expected_code = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "station", "run", "--config", str(self._config)]
        self.process = subprocess.Popen(command, stderr=self._log, env=self._environment)
        try:
            wait_until(self._is_there, self._start_s)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        code = self.end()
        if kind is None:
            assert code == self.expected_code, self.log

    def end(self) -> int:
        """Press Ctrl-C, so to speak, and return the exit code."""
        self.process.send_signal(signal.SIGINT)  # does nothing to a process that has ended
        code = self.process.wait(END_S)
        self._log.close()
        return code

    @property
    def settings(self) -> Settings:
        """Its configuration."""
        return load_settings(self._config)

    @property
    def log(self) -> str:
        """What both services have said."""
        return self._config.with_name("station.log").read_text()

    def drop(self, name: str, content: bytes) -> None:
        """Put a picture into the hot folder, complete at once."""
        hidden = self.settings.capture.hot_folder / f".{name}"
        hidden.write_bytes(content)
        hidden.rename(hidden.with_name(name))

    def pid_of(self, lock: str) -> int:
        """Return the process that holds a lock file below the station's folder."""
        return wait_until(lambda: locks.holder(self._config.parent / lock) or 0)

    def plc(self) -> dict[str, int]:
        """Return the registers as a PLC reads them."""
        with PlcClient("127.0.0.1", self.settings.outputs.modbus_server.port) as plc:
            return plc.status()

    def _is_there(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self._until(self.plc())
        except StationError:
            return False
