"""A worker whose loop stands still: the PLC sees it at once, systemd ends it, and after that all is as before."""

import configparser
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from station.errors import StationError
from station.outputs.plc_rules import HEARTBEAT_TIMEOUT_MS
from station.plc_client import PlcClient
from tests.reliability.results import check_time, count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig
from tests.running_station import ROOT
from tests.waiting import wait_until

SEEN_MS, ABORTED_S = 600, 5.0
SCAN_MS = 50
"""What the PLC and this machine may take on top."""
KINDS = (GOOD, BROKEN, EMPTY)


class Plc:
    """Reads the status block all the time and remembers when it last changed, as a PLC's program does."""

    def __init__(self, port: int) -> None:
        self.changed_s = 0.0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last = -1
        while not self._stop.is_set():
            try:
                with PlcClient("127.0.0.1", self._port) as plc:
                    while not self._stop.wait(0.01):
                        beat = plc.status()["Heartbeat"]
                        if beat != last:
                            last, self.changed_s = beat, time.monotonic()
            except StationError:
                self._stop.wait(0.05)


@contextmanager
def polling(port: int) -> Iterator[Plc]:
    """Run a PLC."""
    plc = Plc(port)
    try:
        yield plc
    finally:
        plc.close()


def watchdog_s() -> float:
    """Return WatchdogSec of the worker's unit."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(ROOT / "systemd" / "station-worker.service")
    return unit.getfloat("Service", "WatchdogSec")


def abort_when_silent(heard: socket.socket, pid: int, limit_s: float) -> float | None:
    """Do as systemd: SIGABRT after `limit_s` without WATCHDOG=1. Returns when; None if it spoke for 8 s."""
    end_s, last_s = time.monotonic() + 8, time.monotonic()
    heard.settimeout(0.05)
    while time.monotonic() < max(end_s, last_s):
        try:
            if b"WATCHDOG=1" in heard.recv(4096):
                last_s = time.monotonic()
        except TimeoutError:
            pass
        if time.monotonic() - last_s >= limit_s:
            os.kill(pid, signal.SIGABRT)
            return time.monotonic()
        if last_s > end_s - 4:
            return None
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [1, 10])
def test_a_loop_that_stands_still_is_seen_and_ended(seconds: int, server: ForkServer, memory: Path) -> None:
    trials = count(1, 5, 20)
    order = memory / "order"
    change = ("stuck", str(order))
    seen_ms, aborted_s = [], []
    with Rig(server, memory) as rig:
        rig.start("worker", change=change)
        rig.start("capture")
        wait_until(rig.is_online, 20)
        with polling(rig.settings.outputs.modbus_server.port) as plc:
            for _ in range(trials):
                for kind in KINDS:
                    rig.deliver(kind)
                order.with_suffix(".new").write_text(str(seconds))
                rig.drain("worker")
                order.with_suffix(".new").rename(order)
                wait_until(order.with_suffix(".began").exists)
                ended_s = abort_when_silent(rig.notify["worker"], rig.services["worker"].pid, watchdog_s())
                began_s = float(wait_until(order.with_suffix(".began").read_text))
                order.with_suffix(".began").unlink()
                if seconds > watchdog_s():
                    assert ended_s, "the watchdog was fed by something else than the loop"
                    aborted_s.append(ended_s - began_s)
                    seen_ms.append((plc.changed_s - began_s) * 1000 + HEARTBEAT_TIMEOUT_MS)
                    assert rig.wait_end(rig.services.pop("worker").pid) == -signal.SIGABRT
                    rig.start("worker", change=change)
                else:
                    assert ended_s is None
                wait_until(rig.is_online, 20)
                rig.settle()
        rig.check()
    if seconds <= watchdog_s():
        record(f"loop blocked {seconds} s", trials, "goes on by itself, 0 lost, not aborted", lost=0, aborted=0)
        return
    check_time(max(seen_ms), SEEN_MS + SCAN_MS)
    check_time(max(aborted_s), ABORTED_S + 0.5)
    record(
        f"loop blocked {seconds} s",
        trials,
        f"PLC sees it <= {SEEN_MS} ms and a scan, systemd aborts <= {ABORTED_S:g} s, 0 lost",
        seen_ms=round(max(seen_ms)),
        aborted_s=round(max(aborted_s), 2),
        lost=0,
    )
