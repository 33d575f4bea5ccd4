"""A complete station of its own for a demonstration: folders in a temporary place, free ports, the two real services.

In: Settings, of which recipe, model and engine are kept. Out: verdicts as a subscriber gets them, and what a PLC reads.
All of it ends when the context manager is left. Raises StationError when a service ends by itself or does not answer.
"""

import json
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from station.errors import StationError
from station.plc_client import PlcClient
from station.processes import Processes
from station.records import Verdict
from station.settings import Settings
from station.settings_file import load_settings
from station.wiring import watch

START_S = 120
"""Longest time until the model is loaded."""
_LOOK_EVERY_S = 0.05
_SLICE_S = 1.0
"""How often to look whether the services still run, while waiting for a verdict."""


class DemoStation:
    """A running station; use as a context manager. `log` gets what the services say."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._like = settings
        self._log = log
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="station-demo-")))
            self.settings = load_settings(_write_config(self._like, folder))
            for needed in (self.settings.capture.hot_folder, folder / "camera"):
                needed.mkdir()
            self._camera = folder / "camera"
            log = stack.enter_context(self._log.open("wb"))
            self._processes = stack.enter_context(Processes(self.settings.config_path, log))
            self._watch = stack.enter_context(watch(self.settings, (0, 0), _SLICE_S))
            modbus = self.settings.outputs.modbus_server
            self.plc = stack.enter_context(PlcClient(modbus.host, modbus.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def wait_until_online(self) -> None:
        """Wait until the PLC sees a station that judges. Raises StationError."""
        end_s = time.monotonic() + START_S
        while not self._is_online():
            self._check_running()
            if time.monotonic() > end_s:
                raise StationError(f"The station is not online after {START_S} s.", self._see_log)
            time.sleep(_LOOK_EVERY_S)

    def drop(self, picture: Path) -> None:
        """Put a copy of the picture into the hot folder as a careful camera does: written elsewhere, then renamed."""
        copy = self._camera / picture.name
        shutil.copyfile(picture, copy)
        copy.rename(self.settings.capture.hot_folder / picture.name)

    def next_verdict(self, timeout_s: float) -> Verdict:
        """Return the next verdict of the stream. Raises StationError if there is none in time."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            self._check_running()
            for event in self._watch:
                if isinstance(event, Verdict):
                    return event
        raise StationError(f"No verdict within {timeout_s:.0f} s.", self._see_log)

    def stop_services(self) -> None:
        """End both services; what they wrote stays until the context manager is left."""
        self._processes.end()

    @property
    def _see_log(self) -> str:
        return f"What the services say is in {self._log}."

    def _is_online(self) -> bool:
        try:
            return bool(self.plc.status()["Online"])
        except StationError:
            return False  # the worker has not opened the port yet

    def _check_running(self) -> None:
        if ended := self._processes.ended():
            raise StationError(f"The {ended} ended by itself.", self._see_log)


def _write_config(like: Settings, folder: Path) -> Path:
    """Write a config.yaml (JSON is YAML) for the folder, like `like` in all but places and ports."""
    kept = like.model_dump(mode="json", include={"station", "recipe", "model", "capture", "engine"})
    places = {name: name for name in ("hot_folder", "spool", "quarantine")}
    plc_port, stream_port, snapshot_port = _free_ports(3)
    config = kept | {
        "capture": kept["capture"] | places,
        "queue": {"endpoint": "ipc://jobs.ipc", "credit": like.queue.credit},
        "journal": {"path": "journal.sqlite"},
        "outputs": {
            "modbus_server": {"host": "127.0.0.1", "port": plc_port},
            "publisher": {
                "endpoint": f"tcp://127.0.0.1:{stream_port}",
                "snapshot_endpoint": f"tcp://127.0.0.1:{snapshot_port}",
            },
            "archive": {"folder": "archive"},
        },
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False))
    return path


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now; held together while they are chosen, so that they differ."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]
