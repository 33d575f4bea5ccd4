"""Times and bounds of the OPC UA server through the shipped path: `station run`, real clients, real attackers.

Prints a table. With the scripted engine: what is timed is the station, not the model. `python -m tests.bench.opcua`.
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.opcua_clients import Connected, connected, prepare
from tests.opcua_station import LISTENS, wait_listening, write_opcua_config
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import RunningStation
from tests.waiting import wait_until

PARTS = 60
INTERVAL_MS = 10
FLOOD_S = 10.0
HELLO = b"HELF" + struct.pack("<IIIIII", 32, 0, 65536, 65536, 0, 0) + struct.pack("<i", -1)


class Bench:
    """A free-running station, and what was measured."""

    def __init__(self, station: RunningStation, certificate: Path) -> None:
        self.station = station
        self.certificate = certificate
        self.port = station.settings.outputs.opcua.port
        self.pictures = iter(range(1_000_000))

    @property
    def server(self) -> psutil.Process:
        """The process of the OPC UA server."""
        children = psutil.Process(self.station.process.pid).children()
        return next(child for child in children if "opcua" in child.cmdline())

    def shoot(self) -> None:
        """Drop a new picture."""
        number = next(self.pictures)
        part = draw_part(Pose(shift_x=number % 20, shift_y=number // 20 % 20))
        self.station.drop(f"part-{number}.png", encoded(part, ".png"))

    def say(self, what: str, found: str) -> None:
        """Add a row."""
        sys.stdout.write(f"| {what} | {found} |\n")
        sys.stdout.flush()


def spread(values: list[float]) -> str:
    """Return median, p99 and maximum in ms."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered):.1f}, p99 {p99:.1f}, max {ordered[-1]:.1f} ms ({len(ordered)})"


class Arrivals(Connected):
    """A client that notes when each result came, against when its verdict was made."""

    late_ms: list[float]

    def event_notification(self, event: Any) -> None:
        """Note the delay; both clocks are this machine's."""
        super().event_notification(event)
        if getattr(event, "ResultContent", None):
            made = datetime.fromisoformat(json.loads(event.ResultContent[2].Value)["created_utc"])
            self.late_ms.append((datetime.now(UTC) - made).total_seconds() * 1000)


async def latency(bench: Bench, parts: int) -> list[float]:
    """Return the delays from verdict to event for so many parts, one after the other."""
    async with connected(bench.port, bench.certificate) as client:
        client.__class__ = Arrivals
        assert isinstance(client, Arrivals)
        client.late_ms = []
        await client.listen(INTERVAL_MS)
        for number in range(1, parts + 1):
            await asyncio.to_thread(bench.shoot)
            end_s = time.monotonic() + 20
            while len(client.late_ms) < number:
                assert time.monotonic() < end_s, "no event"
                await asyncio.sleep(0.001)
        return client.late_ms


def modbus_ms(bench: Bench, stop: threading.Event, found: list[float]) -> None:
    """Time what a PLC reads, until told to stop."""
    while not stop.is_set():
        begin = time.perf_counter()
        status = bench.station.plc()
        found.append((time.perf_counter() - begin) * 1000)
        assert status["Online"]
        time.sleep(0.02)


@contextlib.contextmanager
def plc_beside(bench: Bench) -> Iterator[list[float]]:
    """Time a PLC while something else goes on."""
    found: list[float] = []
    stop = threading.Event()
    thread = threading.Thread(target=modbus_ms, args=(bench, stop, found))
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def flood(bench: Bench, payload: bytes, seconds: float) -> int:
    """Send as much as is taken on as many connections as are let in; return how many were made."""
    end_s = time.monotonic() + seconds
    made = 0
    peers: list[socket.socket] = []
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            peer = socket.create_connection(("127.0.0.1", bench.port), timeout=1)
            peer.settimeout(0.05)
            peers.append(peer)
            made += 1
            peer.sendall(payload)
        while len(peers) > 100:
            peers.pop(0).close()
    for peer in peers:
        peer.close()
    return made


async def deaf_client(bench: Bench, seconds: float) -> int:
    """Ask for much and read nothing; return how many bytes it could make the server keep, about."""
    before = bench.server.memory_info().rss
    most = before
    async with connected(bench.port, bench.certificate) as client:
        transport = client.client.uaclient.protocol.transport
        transport.pause_reading()
        node = client.client.get_node("i=2255")
        tasks = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not transport.is_closing():
            tasks += [asyncio.create_task(node.get_references()) for _ in range(50)]
            await asyncio.sleep(0.05)
            most = max(most, bench.server.memory_info().rss)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            transport.abort()
    return int(most - before)


def measure(bench: Bench) -> None:
    """Measure everything."""
    mib = bench.server.memory_info().rss / 2**20
    bench.say("memory after the start", f"{mib:.0f} MiB")
    asyncio.run(latency(bench, 5))
    with plc_beside(bench) as alone:
        late = asyncio.run(latency(bench, PARTS))
    bench.say(f"verdict to event, publishing interval {INTERVAL_MS} ms", spread(late))
    bench.say("a PLC's read beside it (connect, read, close)", spread(alone))
    for name, payload in (
        ("garbage", os.urandom(65_536)),
        ("half messages", HELLO + b"MSGC" + struct.pack("<I", 65_000) + bytes(60_000)),
        ("idle", b""),
    ):
        with plc_beside(bench) as beside:
            thread = threading.Thread(target=lambda: asyncio.run(latency(bench, 10)))
            made = [0]
            attack = threading.Thread(target=lambda p=payload, m=made: m.__setitem__(0, flood(bench, p, FLOOD_S)))
            attack.start()
            thread.start()
            attack.join()
            thread.join()
        mib = bench.server.memory_info().rss / 2**20
        bench.say(f"{made[0]} connections with {name} in {FLOOD_S:g} s: a PLC's read", spread(beside))
        bench.say("  memory afterwards", f"{mib:.0f} MiB")
    with plc_beside(bench) as beside:
        grown = asyncio.run(deaf_client(bench, FLOOD_S))
    bench.say("a client that asks and never reads: a PLC's read", spread(beside))
    bench.say("  memory it cost at most", f"{grown / 2**20:.0f} MiB")
    restarts = bench.station.log.count(LISTENS) - 1
    bench.say("times the server ended", str(restarts))
    bench.server.kill()
    begin = time.monotonic()
    wait_until(lambda: bench.station.log.count(LISTENS) > restarts + 1, 60)
    bench.say("back after kill -9", f"{time.monotonic() - begin:.1f} s, 1 s of it the pause")


def main() -> None:
    """Run the bench on a station of its own."""
    folder = Path(tempfile.mkdtemp(prefix="opcua-bench-"))
    config = write_opcua_config(folder, opcua={"mode": "free_running"})
    certificate = prepare(config)
    with RunningStation(config) as station:
        wait_listening(station)
        bench = Bench(station, certificate)
        load = os.getloadavg()[0]
        bench.say(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load of others {load:.1f}", "measured")
        bench.say("---", "---")
        measure(bench)


if __name__ == "__main__":
    main()
