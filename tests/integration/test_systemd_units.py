"""The systemd units: well formed, and the services say what the units wait for. Runs without systemd as process 1."""

import configparser
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.opcua.credentials import make_certificate
from station.settings_file import load_settings
from station.supervisor_notify import ALIVE_EVERY_S
from tests.opcua_station import write_opcua_config
from tests.running_station import END_S, environment, write_config
from tests.waiting import wait_until

FOLDER = Path(__file__).parents[2] / "systemd"
SERVICES = ("capture", "worker")
UNITS = (*SERVICES, "opcua")
MAX_EXPOSURE = 15
"""Of 100, which is 1.5 of 10, as `systemd-analyze security` rates a unit; an unhardened one has more than 90."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt install systemd"
)


def unit(service: str) -> configparser.SectionProxy:
    """Return section [Service] of a unit; of a key that is given twice the last one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / f"station-{service}.service")
    return parser["Service"]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for source in (*FOLDER.glob("*.service"), *FOLDER.glob("*.target")):
        # The program of the units is not installed here.
        text = source.read_text().replace("/opt/station/venv/bin/station", shutil.which("true") or "/bin/true")
        (tmp_path / source.name).write_text(text)
    verified = analyze("verify", "--man=no", *sorted(tmp_path.iterdir()))
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("service", UNITS)
def test_the_units_give_away_little(service: str) -> None:
    rated = analyze("security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", FOLDER / f"station-{service}.service")
    assert rated.returncode == 0, rated.stdout


def test_the_example_configuration_fits_the_units() -> None:
    settings = load_settings(FOLDER / "config.yaml")
    capture = settings.capture
    written = [capture.hot_folder, capture.spool, capture.quarantine]
    written += [settings.outputs.archive.folder, settings.journal.path]
    socket_path = Path(settings.queue.endpoint.removeprefix("ipc://"))
    for service in SERVICES:
        state, run = unit(service)["StateDirectory"], unit(service)["RuntimeDirectory"]
        assert all(path.is_relative_to(f"/var/lib/{state}") for path in written)
        assert socket_path.is_relative_to(f"/run/{run}")
        assert unit(service)["ExecStart"].endswith(f"station {service} --config /etc/station/config.yaml")
    assert f"d {capture.hot_folder} " in (FOLDER / "tmpfiles.d/station.conf").read_text()


class Supervisor:
    """The socket that systemd gives a service."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0)

    def has_heard(self, line: str) -> bool:
        """Take in what was said since and return whether `line` was ever among it."""
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return line in self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    listening = Supervisor(tmp_path)
    yield listening
    listening.close()


@pytest.mark.parametrize("service", UNITS)
def test_a_service_tells_systemd_that_it_is_ready_and_alive_and_stops_in_peace(
    service: str, tmp_path: Path, supervisor: Supervisor
) -> None:
    config = write_opcua_config(tmp_path)
    make_certificate(tmp_path / "opcua", "test-station", "127.0.0.1")
    command = [sys.executable, "-m", "station", service, "--config", str(config)]
    told = environment() | {"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": "10000000"}
    log = tmp_path / "log"
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr, env=told) as process:
        try:
            wait_until(lambda: supervisor.has_heard("READY=1") or process.poll() is not None, 20)
            wait_until(lambda: supervisor.has_heard("WATCHDOG=1"), 5)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(END_S)
    assert code == 0, log.read_text()
    assert supervisor.has_heard("STOPPING=1")
    assert any(line.startswith("STATUS=") for line in supervisor.heard)


@pytest.mark.parametrize("service", UNITS)
def test_the_watchdog_waits_for_several_beats(service: str) -> None:
    assert float(unit(service)["WatchdogSec"]) >= 10 * ALIVE_EVERY_S


def test_an_opcua_server_without_keys_or_that_is_not_wanted_is_not_restarted(tmp_path: Path) -> None:
    for config, hint in (
        (write_opcua_config(tmp_path / "no-keys"), "station opcua-keys"),
        (write_config(tmp_path / "not-wanted"), "outputs.opcua.enabled is false"),
    ):
        command = [sys.executable, "-m", "station", "opcua", "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=END_S, check=False, env=environment())
        assert str(ended.returncode) == unit("opcua")["RestartPreventExitStatus"], ended.stderr
        assert hint in ended.stderr


def test_a_wrong_configuration_ends_a_service_with_the_code_that_the_units_do_not_restart(tmp_path: Path) -> None:
    config = write_config(tmp_path, nonsense=1)
    for service in SERVICES:
        command = [sys.executable, "-m", "station", service, "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, timeout=END_S, check=False, env=environment())
        assert str(ended.returncode) == unit(service)["RestartPreventExitStatus"], ended.stderr
