"""The station as Modbus client: blocks that may come twice, couplers that fail to off, and nobody waits for a PLC."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from station.outputs import modbus_client, plc_client_block
from station.outputs.modbus_client import ModbusClientOutput, Target
from station.outputs.plc_client_block import StatusBit, VerdictCode, crc16
from station.records import Evaluation, Reason, Verdict
from tests.modbus_target import ModbusTarget
from tests.ports import free_port
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until

JOB = make_job(make_verdict())
WATCHDOG = 0x1120
ARMED = 600


@contextmanager
def output(port: int, *, coupler: bool = False, valid_for_ms: int = 1_000) -> Iterator[ModbusClientOutput]:
    target = Target("127.0.0.1", port, 1, coupler, 1 if coupler else 100, valid_for_ms, WATCHDOG, ARMED)
    client = ModbusClientOutput(target)
    client.start()
    try:
        yield client
    finally:
        client.close()


def test_the_crc_is_that_of_modbus() -> None:
    assert crc16([0x0103, 0x0000, 0x0001]) == 0x0A84  # the frame 01 03 00 00 00 01 ends with 84 0A on the wire


def test_a_verdict_comes_as_one_whole_block() -> None:
    with ModbusTarget(free_port()) as plc, output(plc.port) as client:
        client.heartbeat(ready=True, last_seq=0)
        client.send(make_verdict(70_000), JOB)
        wait_until(lambda: [block for block in plc.blocks() if block[4]])
        block = plc.blocks()[-1]
    assert len(block) == plc_client_block.BLOCK_WORDS
    assert (block[3] << 16 | block[4], block[14]) == (70_000, 70_000 & 0xFFFF)
    assert (block[7], block[8]) == (VerdictCode.GOOD, VerdictCode.GOOD ^ 0xFFFF)
    assert block[1] == StatusBit.READY
    assert block[15] == crc16(block[:15])


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (make_verdict(1, Evaluation.NOT_OK), VerdictCode.REJECT),
        (make_verdict(1, Evaluation.NOT_DECIDABLE), VerdictCode.REJECT),
        (make_verdict(1, Evaluation.UNDEFINED), VerdictCode.LATE),
        (make_verdict(1, Evaluation.UNDEFINED, reason=Reason.ENGINE_FAILED), VerdictCode.ERROR),
    ],
)
def test_only_a_pass_is_good(verdict: Verdict, code: VerdictCode) -> None:
    report = plc_client_block.Report(
        heartbeat=1,
        status=StatusBit.READY,
        verdict=verdict,
        age_ms=0,
        valid_for_ms=100,
    )
    assert plc_client_block.encode(report)[7] == code


def test_what_got_too_old_is_late_and_never_good() -> None:
    with output(port := free_port(), valid_for_ms=300) as client:
        client.heartbeat(ready=True, last_seq=0)
        client.send(make_verdict(1), JOB)
        wait_until(lambda: client.complaints.counts["away"] >= 2)
        with ModbusTarget(port) as plc:
            wait_until(plc.blocks)
            assert {block[7] for block in plc.blocks()} == {VerdictCode.LATE}


def test_a_worker_that_stops_beating_is_no_pass_and_its_heartbeat_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modbus_client, "STUCK_AFTER_NS", 100_000_000)
    with ModbusTarget(free_port()) as plc, output(plc.port) as client:
        client.heartbeat(ready=True, last_seq=0)
        client.send(make_verdict(1), JOB)
        wait_until(lambda: plc.blocks() and plc.blocks()[-1][7] == VerdictCode.ERROR)
        assert plc.blocks()[-1][1] == StatusBit.FAULT
        assert len({block[0] for block in plc.blocks() if block[0]}) == 1


def test_a_plc_that_does_not_answer_delays_nothing_and_gets_each_write_once() -> None:
    with ModbusTarget(free_port()) as plc, output(plc.port) as client:
        wait_until(plc.blocks)
        plc.delay_s = 2.0
        taken_ms = []
        for seq in range(1, 101):
            begin_ns = time.perf_counter_ns()
            client.heartbeat(ready=True, last_seq=seq)
            client.send(make_verdict(seq), JOB)
            taken_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
        wait_until(lambda: client.complaints.counts["away"])
        plc.delay_s = 0.0
    assert max(taken_ms) < 50
    assert sorted(taken_ms)[50] < 2


def test_a_coupler_is_switched_on_for_a_pass_and_off_when_it_is_over() -> None:
    with (
        ModbusTarget(free_port(), watchdog=WATCHDOG) as coupler,
        output(coupler.port, coupler=True, valid_for_ms=300) as client,
    ):
        wait_until(lambda: client.is_armed)
        assert (6, WATCHDOG, [ARMED]) in [write[1:] for write in coupler.writes]
        client.heartbeat(ready=True, last_seq=0)
        client.send(make_verdict(1), JOB)
        wait_until(lambda: True in coupler.coils())
        client.heartbeat(ready=True, last_seq=1)
        wait_until(lambda: coupler.coils()[-1] is False)
        client.send(make_verdict(2, Evaluation.NOT_OK), JOB)
        client.send(make_verdict(3, is_simulated=True), JOB)
        seen = len(coupler.coils())
        wait_until(lambda: len(coupler.coils()) > seen + 2)
        assert not any(coupler.coils()[seen:])


def test_a_coupler_whose_watchdog_cannot_be_armed_never_gets_a_coil_and_the_station_is_not_ready() -> None:
    with (
        ModbusTarget(free_port(), watchdog=WATCHDOG, locked=True) as coupler,
        output(coupler.port, coupler=True) as client,
    ):
        client.heartbeat(ready=True, last_seq=0)
        client.send(make_verdict(1), JOB)
        wait_until(lambda: client.complaints.counts["away"] >= 2)
        assert not client.is_armed
        assert coupler.coils() == []
