"""The PLC's view of verdicts, read with a plain Modbus client over TCP."""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from pymodbus.client import ModbusTcpClient

from station.errors import OutputError, OutputLostError
from station.outputs import plc_exchange, plc_map, plc_words
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.plc_state import BEAT_MS, VOUCHED_MS, FaultCode, OfflineReason
from station.records import Evaluation, Verdict
from tests.ports import free_port
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until

JOB = make_job(make_verdict())


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def output(port: int) -> Iterator[ModbusServerOutput]:
    output = ModbusServerOutput("127.0.0.1", port)
    output.start()
    yield output
    output.close()


@pytest.fixture
def plc(output: ModbusServerOutput, port: int) -> Iterator[ModbusTcpClient]:  # noqa: ARG001 - the server comes first
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()  # type: ignore[no-untyped-call]
    yield client
    client.close()  # type: ignore[no-untyped-call]


def words_of(plc: ModbusTcpClient, device_id: int = 1) -> list[int]:
    answer = plc.read_input_registers(0, count=plc_map.WORDS, device_id=device_id)
    assert not answer.isError(), answer
    return list(answer.registers)


def timeless(words: Sequence[int]) -> list[int]:
    """Return the block without what changes with time alone."""
    return plc_words.with_time(words, 0, 0)


def shown(plc: ModbusTcpClient) -> dict[str, int]:
    return plc_words.decode(words_of(plc))


def test_start_shows_the_safe_state(plc: ModbusTcpClient) -> None:
    block = shown(plc)
    assert (block["Online"], block["ResultsValid"], block["OK"], block["Heartbeat"]) == (0, 0, 0, 0)
    assert block["OfflineReason"] == OfflineReason.BOOTING


def test_a_verdict_is_readable_as_soon_as_send_returns(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    output.heartbeat(ready=True, last_seq=0)
    output.send(make_verdict(1), JOB)
    block = shown(plc)
    assert (block["Online"], block["ResultsValid"], block["OK"], block["NG"], block["InspectionId"]) == (1, 1, 1, 0, 1)


def test_any_unit_id_and_the_holding_registers_show_the_same(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    output.send(make_verdict(3, Evaluation.NOT_OK), JOB)
    expected = timeless(words_of(plc))
    assert [timeless(words_of(plc, device_id)) for device_id in (0, 1, 17, 255)] == [expected] * 4
    mirror = plc.read_holding_registers(plc_map.MIRROR, count=plc_map.WORDS, device_id=255)
    assert timeless(mirror.registers) == expected


def test_the_status_cannot_be_written(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    output.send(make_verdict(1, Evaluation.NOT_OK), JOB)
    before = timeless(words_of(plc))
    first = plc_map.MIRROR
    answers = [
        plc.write_register(first, 0x00FF),
        plc.write_registers(first, [0] * 64),
        plc.write_registers(30, [1, 1, 1]),
        plc.mask_write_register(address=first, and_mask=0, or_mask=0x80),
        plc.readwrite_registers(read_address=first, read_count=1, write_address=first, values=[0x80]),
        plc.write_coil(0, value=True),
        plc.write_coils(0, [True] * 16),
    ]
    assert all(answer.isError() for answer in answers), answers
    assert timeless(words_of(plc)) == before
    assert timeless(plc.read_holding_registers(first, count=64).registers) == before
    assert output.complaints.counts["refused write"] > 0


def test_reading_beyond_the_block_is_refused(plc: ModbusTcpClient) -> None:
    assert plc.read_input_registers(0, count=65).isError()
    assert plc.read_holding_registers(0, count=33).isError()
    assert plc.read_holding_registers(999, count=2).isError()
    assert plc.write_register(500, 1).isError()
    assert plc.read_coils(0).isError()
    assert plc.read_discrete_inputs(0).isError()


def test_the_heartbeat_goes_on_only_while_the_worker_turns(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    def beat() -> int:
        return shown(plc)["Heartbeat"]

    def turn(until: int) -> bool:
        output.heartbeat(ready=True, last_seq=0)
        return beat() >= until

    wait_until(lambda: turn(until=2))
    time.sleep((VOUCHED_MS + BEAT_MS) / 1000)  # what may still come
    last = beat()
    time.sleep(2 * BEAT_MS / 1000)
    assert beat() == last
    wait_until(lambda: turn(until=last + 1))


def test_a_worker_that_stops_beating_is_shown_as_stuck(
    output: ModbusServerOutput, plc: ModbusTcpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plc_exchange, "STUCK_AFTER_S", 0.3)
    output.heartbeat(ready=True, last_seq=0)
    output.send(make_verdict(1), JOB)
    assert shown(plc)["OK"] == 1
    wait_until(lambda: shown(plc)["Fault"])
    block = shown(plc)
    assert (block["Online"], block["ResultsValid"], block["OK"]) == (0, 0, 0)
    assert block["FaultCode"] == FaultCode.WORKER_STUCK
    output.heartbeat(ready=True, last_seq=1)
    assert shown(plc)["Online"] == 1


def test_go_safe_withdraws_the_result(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    output.heartbeat(ready=True, last_seq=0)
    output.send(make_verdict(1), JOB)
    output.go_safe()
    block = shown(plc)
    assert (block["Online"], block["ResultsValid"], block["OK"], block["InspectionId"]) == (0, 0, 0, 1)


def test_no_read_ever_sees_half_a_verdict(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    """A PLC reads as fast as it can while 500 verdicts of every kind are shown."""
    verdicts = [make_verdict(seq, list(Evaluation)[seq % 4]) for seq in range(1, 501)]
    output.heartbeat(ready=True, last_seq=0)
    writer = threading.Thread(target=_send_all, args=(output, verdicts))
    writer.start()
    reads: list[list[int]] = []
    while writer.is_alive() or not reads or reads[-1][8] < 500:
        reads.append(words_of(plc))
    writer.join()
    for words in reads:
        assert words[62] == words[8]
        assert words[63] == words[0] ^ 0xFFFF
        block = plc_words.decode(words)
        if block["InspectionId"]:
            evaluation = verdicts[block["InspectionId"] - 1].evaluation
            assert block["ResultEvaluation"] == evaluation.code
            assert block["OK"] == (evaluation is Evaluation.OK)
            assert block["NG"] != block["OK"]
            assert block["InspectionCompleted"] == block["InspectionId"] % 2
            assert block["CountTriggers"] == block["InspectionId"]
    assert len({words[8] for words in reads}) > 50


def _send_all(output: ModbusServerOutput, verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        output.send(verdict, JOB)
        output.heartbeat(ready=True, last_seq=verdict.seq)
        time.sleep(0.001)  # no waiting for anything: a pace at which the reader meets many of the verdicts


def test_from_send_to_registers_in_time(output: ModbusServerOutput, plc: ModbusTcpClient) -> None:
    taken_ms = []
    for seq in range(1, 51):
        begin_ns = time.perf_counter_ns()
        output.send(make_verdict(seq), JOB)
        assert words_of(plc)[8] == seq
        taken_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    assert statistics.median(taken_ms) < 10


def test_a_server_that_ended_by_itself_is_told_with_the_next_beat(output: ModbusServerOutput) -> None:
    output.heartbeat(ready=True, last_seq=0)
    assert output._loop
    output._loop.call_soon_threadsafe(output._stop.set)

    def is_lost() -> bool:
        try:
            output.heartbeat(ready=True, last_seq=0)
        except OutputLostError:
            return True
        return False

    wait_until(is_lost)


def test_a_port_in_use_says_which_and_what_to_do(output: ModbusServerOutput, port: int) -> None:  # noqa: ARG001
    second = ModbusServerOutput("127.0.0.1", port)
    with pytest.raises(OutputError, match=f"127.0.0.1:{port}: Address already in use") as caught:
        second.start()
    assert str(port) in caught.value.hint
    assert "outputs.modbus_server.port" in caught.value.hint
    second.close()


def test_an_address_of_another_machine_is_refused() -> None:
    output = ModbusServerOutput("192.0.2.1", free_port())
    with pytest.raises(OutputError, match=r"192\.0\.2\.1") as caught:
        output.start()
    assert "outputs.modbus_server.host" in caught.value.hint
    output.close()


def test_a_plc_that_stays_connected_does_not_hold_up_close(
    output: ModbusServerOutput, plc: ModbusTcpClient, port: int
) -> None:
    assert words_of(plc)
    output.close()
    again = ModbusServerOutput("127.0.0.1", port)
    again.start()
    again.close()
