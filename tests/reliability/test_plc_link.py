"""A PLC that is written to, over a bad line: cut, reset, slow, answering rubbish or with an exception.

What the PLC may pass is only a verdict of now: what was given while the line was down comes as LATE or not at all.
The line with the station as server, and a cable between network namespaces, is in tests/plc_line.py.
"""

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from pymodbus.constants import ExcCodes

from station.outputs.modbus_client import ModbusClientOutput, Target
from station.outputs.plc_client_block import VerdictCode
from tests.modbus_target import ModbusTarget
from tests.ports import free_port
from tests.reliability.results import check_time, count, record
from tests.reliability.rig import percentile
from tests.tcp_proxy import TcpProxy
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until

VALID_FOR_MS = 400
RECONNECT_S = 2.0
JOB = make_job(make_verdict())


class Link:
    """The station's Modbus client, a bad line and a PLC; verdicts are given all the time."""

    def __init__(self, plc: ModbusTarget, proxy: TcpProxy, client: ModbusClientOutput, chance: random.Random) -> None:
        self.plc, self.proxy, self.chance = plc, proxy, chance
        self.given_s: dict[int, float] = {}
        self._client = client

    def work(self, seconds: float) -> None:
        """Judge a good part now and then, and beat as the worker does."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            seq = len(self.given_s) + 1
            self._client.heartbeat(ready=True, last_seq=seq)
            if self.chance.random() < 0.2:
                self.given_s[seq] = time.monotonic()
                self._client.send(make_verdict(seq), JOB)
            time.sleep(0.02)

    def cut(self) -> None:
        self.proxy.is_cut = True
        self.work(self.chance.uniform(0.1, 1.5))
        self.proxy.is_cut = False

    def reset(self) -> None:
        self.proxy.reset()
        self.work(self.chance.uniform(0, 0.3))

    def half_open(self) -> None:
        self.proxy.half_open()
        self.work(self.chance.uniform(0.1, 0.5))

    def garble(self) -> None:
        self.proxy.garble()
        self.work(self.chance.uniform(0, 0.3))

    def answer_late(self) -> None:
        self.plc.delay_s = 2.0
        self.work(self.chance.uniform(0.5, 1.5))
        self.plc.delay_s = 0.0

    def refuse(self) -> None:
        self.plc.exception = ExcCodes.DEVICE_FAILURE
        self.work(self.chance.uniform(0.1, 0.5))
        self.plc.exception = None


FAULTS: tuple[Callable[[Link], None], ...] = (
    Link.cut,
    Link.reset,
    Link.half_open,
    Link.garble,
    Link.answer_late,
    Link.refuse,
)


def old_passes(link: Link) -> list[str]:
    """Return every pass that reached the PLC too late, by the time when it came."""
    found = []
    for came_s, _, _, block in [write for write in link.plc.writes if write[1] == 16]:
        seq = block[3] << 16 | block[4]
        age_ms = (came_s - link.given_s.get(seq, came_s)) * 1000
        if block[7] == VerdictCode.GOOD and age_ms > VALID_FOR_MS + 200:
            found.append(f"{seq} came after {age_ms:.0f} ms")
    return found


@pytest.mark.timeout(900)
def test_a_bad_line_brings_no_old_verdict_and_none_twice() -> None:
    cycles = count(6, 200, 1000)
    target_port = free_port()
    back_s = []
    with ModbusTarget(target_port) as plc, TcpProxy(target_port) as proxy:
        client = ModbusClientOutput(Target("127.0.0.1", proxy.port, 1, False, 100, VALID_FOR_MS))
        client.start()
        try:
            link = Link(plc, proxy, client, random.Random(cycles))
            wait_until(plc.blocks)
            for cycle in range(cycles):
                link.work(0.1)
                FAULTS[cycle % len(FAULTS)](link)
                ended_s, seen = time.monotonic(), len(plc.writes)
                while len(plc.writes) == seen:
                    link.work(0.02)
                back_s.append(time.monotonic() - ended_s)
        finally:
            client.close()
        # In the order of sending: a slow PLC may carry out what came on a connection that it has not seen end.
        blocks = [values for _, code, _, values in sorted(plc.writes) if code == 16]
        order = [block[3] << 16 | block[4] for block in blocks]
    order = [seq for seq in order if seq]
    assert not old_passes(link)
    assert all(later >= before for before, later in pairwise(order)), "an earlier verdict came again"
    check_time(percentile(back_s, 0.99), RECONNECT_S + 0.5)
    record(
        "line to the PLC (client): cut, reset, half open, garbage, slow, exception 4",
        cycles,
        f"0 old verdicts, 0 twice, back <= {RECONNECT_S:g} s",
        old=0,
        twice=0,
        back_p50_s=round(percentile(back_s, 0.5), 2),
        back_s=round(max(back_s), 2),
        verdicts=len(link.given_s),
    )
