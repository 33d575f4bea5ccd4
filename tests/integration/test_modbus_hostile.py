"""What a network can do to the Modbus server: refused, logged now and then, and the heartbeat goes on."""

import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from pymodbus.client import ModbusTcpClient

from station.outputs import modbus_guard
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.plc_state import BEAT_MS
from tests.ports import free_port
from tests.waiting import wait_until


class Beating:
    """A server whose worker beats each 20 ms, and a PLC that watches it."""

    def __init__(self, **options: object) -> None:
        self.port = free_port()
        self.output = ModbusServerOutput("127.0.0.1", self.port, **options)  # type: ignore[arg-type]
        self.output.start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(0.02):
            self.output.heartbeat(ready=True, last_seq=0)

    def stop_beating(self) -> None:
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        self.stop_beating()
        self.output.close()


@pytest.fixture
def server() -> Iterator[Beating]:
    server = Beating()
    yield server
    server.close()


@pytest.fixture
def plc(server: Beating) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=server.port, timeout=1, retries=0)
    assert client.connect()  # type: ignore[no-untyped-call]
    yield client
    client.close()  # type: ignore[no-untyped-call]


STILL_MS = 500
"""A heartbeat each 200 ms must not stand still for so long."""


def stood_still_ms(plc: ModbusTcpClient) -> float:
    """Return the longest time that the heartbeat stood still, of somewhat more than `STILL_MS`."""
    started_s = changed_s = time.monotonic()
    longest_s, beat = 0.0, -1
    while (now_s := time.monotonic()) < started_s + 1.2 * STILL_MS / 1000:
        now = plc.read_input_registers(2, count=1).registers[0]
        longest_s = max(longest_s, now_s - changed_s)
        if now != beat:
            beat, changed_s = now, now_s
    return longest_s * 1000


def answer_to(port: int, data: bytes) -> bytes:
    """Return what comes back; empty when the connection is closed, or nothing comes for a while."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as one:
        one.sendall(data)
        try:
            return one.recv(300)
        except (TimeoutError, ConnectionResetError):
            return b""


def frame(pdu: bytes, protocol: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">HHHB", 1, protocol, len(pdu) + 1 if length is None else length, 1) + pdu


HOSTILE = {
    "garbage": b"GET / HTTP/1.1\r\n\r\n" * 20,
    "zeros": bytes(4000),
    "ones": b"\xff" * 4000,
    "unknown function": frame(b"\x63\x00\x00"),
    "empty": frame(b""),
    "only a function": frame(b"\x03"),
    "too many registers": frame(struct.pack(">BHH", 3, 0, 2000)),
    "undefined registers": frame(struct.pack(">BHH", 4, 5000, 1)),
    "undefined write": frame(struct.pack(">BHHBH", 16, 200, 1, 2, 7)),
    "write to status": frame(struct.pack(">BHHBH", 16, 1000, 1, 2, 0x80)),
    "wrong byte count": frame(struct.pack(">BHHBH", 16, 0, 5, 2, 7)),
    "declared longer than sent": frame(struct.pack(">BHH", 3, 0, 1), length=250),
    "length 65535": frame(struct.pack(">BHH", 3, 0, 1), length=65535),
    "wrong protocol": frame(struct.pack(">BHH", 3, 0, 1), protocol=7),
    "half a frame": frame(struct.pack(">BHH", 3, 0, 1))[:9],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_do_nothing(name: str, server: Beating, plc: ModbusTcpClient) -> None:
    before = plc.read_holding_registers(0, count=32).registers
    for _ in range(3):
        answer = answer_to(server.port, HOSTILE[name])
        assert not answer or answer[7] & 0x80, "answered as if it were right"
    assert stood_still_ms(plc) < STILL_MS
    assert plc.read_holding_registers(0, count=32).registers == before
    assert plc.read_input_registers(0, count=1).registers[0] & 1


def test_a_heartbeat_that_stands_still_is_noticed(server: Beating, plc: ModbusTcpClient) -> None:
    """Or the tests here would prove nothing."""
    server.stop_beating()
    assert stood_still_ms(plc) >= STILL_MS - BEAT_MS
    assert stood_still_ms(plc) >= STILL_MS


def test_what_is_no_modbus_ends_its_connection_and_is_counted(server: Beating) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
        one.sendall(HOSTILE["wrong protocol"])
        assert one.recv(10) == b""
    assert server.output.complaints.counts["no Modbus"] == 1


def test_a_flood_is_logged_at_a_limited_rate(server: Beating, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port)) as one:
            one.sendall(HOSTILE["garbage"])
    wait_until(lambda: server.output.complaints.counts["no Modbus"] >= 20)
    assert len(caplog.records) <= 2


def test_a_server_that_ends_in_a_flood_leaves_no_connection_open() -> None:
    """What is left open shows as a warning when it is collected, and every warning is an error here."""
    for _ in range(12):
        server = Beating()
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                one.sendall(HOSTILE["garbage"])
        wait_until(lambda: server.output.complaints.counts["no Modbus"] >= 1)  # noqa: B023
        server.close()
        gc.collect()


def test_a_hundred_connections_leave_the_plc_connected_and_the_heartbeat_alone(
    server: Beating, plc: ModbusTcpClient
) -> None:
    others = []
    for _ in range(100):
        others.append(socket.create_connection(("127.0.0.1", server.port)))
        assert not plc.read_input_registers(0, count=64).isError()
    assert stood_still_ms(plc) < STILL_MS
    assert server.output.complaints.counts["too many"] >= 100 - modbus_guard.MAX_CONNECTIONS
    for one in others:
        one.close()


@pytest.mark.parametrize(("allow", "served"), [((), True), (("127.0.0.0/8",), True), (("192.0.2.1",), False)])
def test_only_addresses_of_the_allow_list_are_served(allow: tuple[str, ...], served: bool) -> None:
    server = Beating(allow=allow)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
            one.sendall(frame(struct.pack(">BHH", 4, 0, 1)))
            try:
                answered = bool(one.recv(20))
            except ConnectionResetError:
                answered = False
        assert answered is served
        assert server.output.complaints.counts["not allowed"] == (not served)
    finally:
        server.close()
