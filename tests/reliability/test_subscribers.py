"""Subscribers that stall or come late end with the same table as the journal, and cost the station nothing."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq

from station import verdict_json
from station.outputs.publisher import SNAPSHOT_VERDICTS, PublisherOutput
from station.records import Verdict
from station.watch import Watch
from tests.ports import free_port
from tests.reliability.results import check_time, count, record
from tests.reliability.rig import percentile
from tests.running_station import environment, write_config
from tests.worker_parts import make_job, make_verdict

EPOCH = 1
MOST_GROWTH = 5_000_000
JOB = make_job("a")
VERDICT = make_verdict("a")


def numbered(seq: int) -> Verdict:
    return msgspec.structs.replace(VERDICT, epoch=EPOCH, seq=seq)


class Station:
    """A publisher and as much of a journal as it needs; verdicts are made when they are asked for."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.seq = 0
        self.ports = free_port(), free_port()
        self.endpoints = [f"tcp://127.0.0.1:{port}" for port in self.ports]
        self.publisher = PublisherOutput(
            "test", self.endpoints[0], self.endpoints[1], context, lambda: (EPOCH, self.seq), self._since
        )
        self.publisher.start()

    def judge(self) -> None:
        """Publish the next verdict."""
        self.seq += 1
        self.publisher.send(numbered(self.seq), JOB)

    def beat(self) -> None:
        """Be alive."""
        self.publisher.heartbeat(ready=True, last_seq=self.seq)

    def _since(self, epoch: int, seq: int) -> list[bytes]:
        first = seq + 1 if epoch == EPOCH else 1
        last = min(self.seq, first + SNAPSHOT_VERDICTS - 1)
        return [verdict_json.encode(numbered(number)) for number in range(first, last + 1)]


@contextmanager
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


@pytest.mark.timeout(600)
def test_a_stalled_subscriber_costs_nothing_and_catches_up(tmp_path: Path) -> None:
    verdicts = count(4_000, 200_000)
    with context() as made:
        station = Station(made)
        outputs = {
            "modbus_server": {"enabled": False},
            "archive": {"folder": "archive"},
            "publisher": {"endpoint": station.endpoints[0], "snapshot_endpoint": station.endpoints[1]},
        }
        config = write_config(tmp_path, outputs=outputs)
        command = [sys.executable, "-m", "station", "watch", "--json", "--config", str(config), "--since", "0:0"]
        out = tmp_path / "seen"
        with out.open("wb") as seen, (tmp_path / "said").open("wb") as said:
            watcher = subprocess.Popen(
                [*command, "--count", str(verdicts + 1)], stdout=seen, stderr=said, env=environment()
            )
            try:
                station.judge()
                while not out.stat().st_size:
                    station.beat()
                    time.sleep(0.01)
                for _ in range(200):
                    station.beat()
                    time.sleep(0.005)
                watcher.send_signal(signal.SIGSTOP)
                before = psutil.Process().memory_info().rss
                began_s = time.monotonic()
                for _ in range(verdicts):
                    station.judge()
                took_s = time.monotonic() - began_s
                growth = psutil.Process().memory_info().rss - before
                watcher.send_signal(signal.SIGCONT)
                end_s = time.monotonic() + 400
                while watcher.poll() is None and time.monotonic() < end_s:
                    station.beat()
                    time.sleep(0.002)
            finally:
                watcher.kill()
                code = watcher.wait()
        station.publisher.close()
    assert code == 0
    assert [json.loads(line)["seq"] for line in out.read_text().splitlines()] == list(range(1, verdicts + 2))
    # the sockets and the kernel hold some thousand messages: only the long run must overflow them
    assert verdicts < 100_000 or b"Gap" in (tmp_path / "said").read_bytes()
    assert growth < MOST_GROWTH
    record(
        "stalled subscriber",
        verdicts,
        "publisher grows < 5 MB, the subscriber sees the gap and ends with the whole table",
        growth_mb=round(growth / 1e6, 2),
        published_per_s=round(verdicts / took_s),
        missing=0,
    )


CROWD = """
import sys, time, zmq
context = zmq.Context()
crowd = []
for _ in range(50):
    one = context.socket(zmq.SUB)
    one.subscribe(b"")
    one.connect(sys.argv[1])
    crowd.append(one)
for one in crowd:
    one.recv()
print("all here", flush=True)
readers = crowd[:25]  # the others are stalled
while True:
    for one in readers:
        while one.poll(0):
            one.recv_multipart()
    time.sleep(0.001)
"""
MOST_SLOWER_US = 1000
"""A verdict takes 15 ms: 5 % of it, and something for a busy machine."""


def published_us(station: Station, verdicts: int) -> list[float]:
    """Publish verdicts at the pace of a fast line; return how long each kept the worker, sorted."""
    taken = []
    for _ in range(verdicts):
        began_ns = time.perf_counter_ns()
        station.judge()
        taken.append((time.perf_counter_ns() - began_ns) / 1e3)
        time.sleep(0.001)
    return sorted(taken)


@pytest.mark.timeout(600)
def test_fifty_subscribers_half_of_them_stalled_then_all_dead_do_not_slow_the_worker_down() -> None:
    verdicts = count(300, 10_000)
    with context() as made:
        station = Station(made)
        alone = published_us(station, verdicts)
        command = [sys.executable, "-c", CROWD, station.endpoints[0]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as crowd:
            stop = threading.Event()
            assert crowd.stdout
            listening = crowd.stdout

            def hear() -> None:
                listening.readline()
                stop.set()

            hello = threading.Thread(target=hear)
            hello.start()
            while not stop.wait(0.005):
                station.judge()
            hello.join()
            crowded = published_us(station, verdicts)
            crowd.kill()
        dead = published_us(station, verdicts)
        station.publisher.close()
    medians = [percentile(taken, 0.5) for taken in (alone, crowded, dead)]
    check_time(max(medians) - medians[0], MOST_SLOWER_US)
    record(
        "50 subscribers, 25 stalled, then all dead",
        verdicts,
        "publishing keeps the worker no longer: <= 5 % of a verdict's 15 ms",
        alone_p50_us=round(medians[0]),
        crowd_p50_us=round(medians[1]),
        dead_p50_us=round(medians[2]),
    )


@pytest.mark.timeout(600)
def test_a_late_subscriber_has_the_same_table() -> None:
    joins = count(10, 1000)
    chance = random.Random(joins)
    stop = threading.Event()
    with context() as made:
        station = Station(made)

        def publish() -> None:
            while not stop.is_set():
                station.judge()
                station.beat()
                time.sleep(0.001)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            for _ in range(joins):
                first = chance.randrange(max(0, station.seq - 1000), station.seq + 1)
                until = station.seq + chance.randrange(1, 20)
                seen = [first]
                with Watch(made, station.endpoints[0], station.endpoints[1], (EPOCH, first), 20) as watch:
                    for event in watch:
                        if isinstance(event, Verdict):
                            seen.append(event.seq)
                        if seen[-1] >= until:
                            break
                assert all(b == a + 1 for a, b in pairwise(seen)), seen
                assert seen[-1] >= until
        finally:
            stop.set()
            thread.join()
            station.publisher.close()
    record("late subscriber", joins, "the table of the journal, each verdict once", wrong=0)
