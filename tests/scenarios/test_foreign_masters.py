"""Modbus masters that know nothing of the station drive a whole inspection: Debian's mbpoll and pyModbusTCP.

Registers are written here as numbers, as a PLC programmer reads them in docs/plc-map.md.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from station.engine.scripted import SCRIPT_VARIABLE, Script
from tests.triggered_station import TriggeredStation
from tests.waiting import wait_until

tcp = pytest.importorskip("pyModbusTCP.client", reason="pyModbusTCP is not installed (dev extra)")

READY, ACK, RECEIVED, VALID, OK, NG = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 7, 1 << 8
ENABLE, TRIGGER, RESULTS_ACK, BUFFER, SET_USER_DATA = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 7
USER_DATA_ACK = 1 << 14

Read = Callable[[], list[int]]
Write = Callable[[int, list[int]], None]


class Mbpoll:
    """A new process for each request."""

    def __init__(self, port: int) -> None:
        self._options = ["-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", "-q"]

    def read(self) -> list[int]:
        """Read the 64 input registers."""
        done = self._run("-t", "3", "-r", "0", "-c", "64", "127.0.0.1")
        return [int(value) for value in re.findall(r"^\[\d+\]:\s+(\d+)", done, re.MULTILINE)]

    def write(self, first: int, values: list[int]) -> None:
        """Write holding registers."""
        self._run("-t", "4", "-r", str(first), "127.0.0.1", *map(str, values))

    def close(self) -> None:
        pass

    def _run(self, *arguments: str) -> str:
        options = [option for option in self._options if option != "-q" or "-c" not in arguments]
        command = ["mbpoll", *options, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


class PyModbusTcp:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._client = tcp.ModbusClient("127.0.0.1", port, unit_id=7, auto_open=True)

    def read(self) -> list[int]:
        """Read the mirror: a PLC that knows only function code 3."""
        words = self._client.read_holding_registers(1000, 64)
        assert words, self._client.last_error_as_txt
        return list(words)

    def write(self, first: int, values: list[int]) -> None:
        """Write holding registers."""
        assert self._client.write_multiple_registers(first, values), self._client.last_error_as_txt

    def close(self) -> None:
        self._client.close()


@pytest.fixture(params=[Mbpoll, PyModbusTcp])
def master(request: pytest.FixtureRequest, station: TriggeredStation) -> Iterator[Mbpoll | PyModbusTcp]:
    if request.param is Mbpoll and not shutil.which("mbpoll"):
        pytest.skip("mbpoll is not installed: apt install mbpoll")
    master = request.param(station.port)
    yield master
    master.close()


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TriggeredStation]:
    script = tmp_path / "script.json"
    monkeypatch.setenv(SCRIPT_VARIABLE, str(script))
    script.write_bytes(msgspec.json.encode(Script(answers={"second": ("defective", "bent")})))
    station = TriggeredStation(tmp_path, picture_window_ms=200)
    with station.running():
        yield station


def test_a_foreign_master_drives_a_whole_inspection(master: Mbpoll | PyModbusTcp, station: TriggeredStation) -> None:
    beats = iter(range(1, 1000))

    def until(wanted: int, unwanted: int = 0) -> list[int]:
        def look() -> list[int] | None:
            master.write(1, [next(beats)])  # the PLC's heartbeat
            words = master.read()
            return words if words[0] & wanted == wanted and not words[0] & unwanted else None

        return wait_until(look) or []

    master.write(0, [ENABLE | BUFFER])
    for number, (picture, passes) in enumerate((("first", True), ("second", False)), start=1):
        until(READY)
        master.write(8, [0x534E, 0x2D30, 0x3030 + number, 0])
        master.write(0, [ENABLE | BUFFER | SET_USER_DATA])
        words = until(USER_DATA_ACK)
        assert words[40:44] == [0x534E, 0x2D30, 0x3030 + number, 0]
        master.write(0, [ENABLE | BUFFER])
        until(0, unwanted=USER_DATA_ACK)
        master.write(4, [100 + number])
        master.write(0, [ENABLE | BUFFER | TRIGGER])
        words = until(ACK, unwanted=READY)
        assert words[7] == number
        station.picture(picture)
        master.write(0, [ENABLE | BUFFER])
        until(RECEIVED, unwanted=ACK)
        words = until(VALID)
        assert bool(words[0] & OK) is passes
        assert bool(words[0] & NG) is not passes
        assert (words[9], words[8], words[62], words[63]) == (100 + number, number, number, words[0] ^ 0xFFFF)
        assert words[40:44] == [0x534E, 0x2D30, 0x3030 + number, 0]
        master.write(0, [ENABLE | BUFFER | RESULTS_ACK])
        until(0, unwanted=VALID)
        master.write(0, [ENABLE | BUFFER])
    assert [verdict.part_id for verdict in station.shown.verdicts] == ["SN-001", "SN-002"]
