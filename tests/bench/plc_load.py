"""How the PLC sees a station that works at full load: `python -m tests.bench.plc_load [--seconds 60]`.

The shipped model judges the shipped pictures one after the other, with capture, worker and engine as processes; a PLC
that reads all 64 words each 2 ms watches. Prints a table: the heartbeat's intervals, and the time from the verdict
being in the journal until its registers show it, in the worker and as read by the PLC. Run it on a machine with
nothing else to do. `--threads` are the engine's.
"""

import argparse
import itertools
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from station.outputs import plc_map
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.plc_state import BEAT_MS
from station.records import Job, Verdict
from station.settings_file import load_settings
from station.wiring import run_worker
from tests.ports import free_port
from tests.running_station import environment

ROOT = Path(__file__).parents[2]
SCAN_S = 0.002
PICTURES_AHEAD = 4
HEADING = "| at full load | goal | n | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- | --- |\n"
READ_ALL = struct.pack(">HHHBBHH", 1, 0, 6, 0, 4, 0, plc_map.WORDS)


class Seen(NamedTuple):
    """What was measured, all in ms and sorted."""

    jitter: list[float]
    """How far the intervals of Heartbeat are from BEAT_MS."""
    shown: list[float]
    """From the verdict being in the journal until the registers hold it."""
    read: list[float]
    """The same until a PLC has read it: up to one of its scans more."""
    pauses: list[float]
    """How long the PLC itself did nothing between two reads: where that is long, the machine was busy with others."""


def watch(seconds: float, threads: int = 0) -> Seen:
    """Run the station at full load for so long and return what its PLC saw."""
    with tempfile.TemporaryDirectory() as name, _station(Path(name), threads) as (hot, port, worker):
        with socket.create_connection(("127.0.0.1", port)) as plc:
            while not _words(plc)[0] & 1:
                time.sleep(0.05)
            beats, read_ns, pauses = _watched(plc, hot, seconds)
        worker.terminate()
        worker.wait(30)
        sent = [tuple(map(int, line.split())) for line in (Path(name) / "sent").read_text().splitlines()]
    intervals = [(after - before) / 1e6 for before, after in itertools.pairwise(beats)][1:]
    return Seen(
        jitter=sorted(abs(interval - BEAT_MS) for interval in intervals),
        shown=sorted((shown_ns - sent_ns) / 1e6 for _, sent_ns, shown_ns in sent),
        read=sorted((read_ns[seq] - sent_ns) / 1e6 for seq, sent_ns, _ in sent if seq in read_ns),
        pauses=sorted(pauses),
    )


def _watched(plc: socket.socket, hot: Path, seconds: float) -> tuple[list[int], dict[int, int], list[float]]:
    """Return when Heartbeat changed, InspectionId -> when it was first read, and the pauses between reads, ms.

    Keeps the hot folder filled.
    """
    pictures = sorted((ROOT / "calibration/demo").glob("part-*"))
    beats: list[int] = []
    read_ns: dict[int, int] = {}
    pauses: list[float] = []
    beat, dropped = -1, 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        words, now_ns = _words(plc), time.monotonic_ns()
        if words[2] != beat:
            beat = words[2]
            beats.append(now_ns)
        read_ns.setdefault(words[8], now_ns)
        if dropped < words[8] + PICTURES_AHEAD:
            source = pictures[dropped % len(pictures)]
            hidden = hot / f".{dropped}"
            shutil.copyfile(source, hidden)
            hidden.rename(hot / f"{dropped}{source.suffix}")
            dropped += 1
        time.sleep(SCAN_S)
        pauses.append((time.monotonic_ns() - now_ns) / 1e6)
    return beats, read_ns, pauses


def _words(plc: socket.socket) -> tuple[int, ...]:
    """Read all 64 words with one request."""
    plc.sendall(READ_ALL)
    answer = b""
    while len(answer) < 9 + 2 * plc_map.WORDS:
        answer += plc.recv(4096)
    return struct.unpack(f">{plc_map.WORDS}H", answer[9:])


@contextmanager
def _station(folder: Path, threads: int) -> Iterator[tuple[Path, int, subprocess.Popen[bytes]]]:
    """Run the shipped model on the shipped recipe, free running; yields hot folder, PLC port and worker."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    port = free_port()
    config["recipe"] = str(ROOT / config["recipe"])
    config["model"] = str(ROOT / config["model"])
    config["engine"]["threads"] = threads
    config["queue"]["endpoint"] = "ipc://jobs.ipc"
    config["capture"] |= {"hot_folder": "hot", "spool": "spool", "quarantine": "quarantine"}
    config["journal"]["path"] = "journal.sqlite"
    config["outputs"]["modbus_server"]["port"] = port
    config["outputs"]["publisher"] |= {
        "endpoint": f"tcp://127.0.0.1:{free_port()}",
        "snapshot_endpoint": f"tcp://127.0.0.1:{free_port()}",
    }
    config["outputs"]["archive"]["folder"] = "archive"
    (folder / "hot").mkdir()
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    worker = [sys.executable, "-m", "tests.bench.plc_load", "--worker", str(path)]
    capture = [sys.executable, "-m", "station", "capture", "--config", str(path)]
    with (folder / "log").open("wb") as log:
        both = [subprocess.Popen(command, stderr=log, cwd=ROOT, env=environment()) for command in (worker, capture)]
    try:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline_s, (folder / "log").read_text()
                time.sleep(0.05)
        yield folder / "hot", port, both[0]
    finally:
        for process in both:
            process.terminate()
            process.wait(30)


def timed_worker(config: Path) -> None:
    """Be `station worker`, and write down when each verdict went to the registers."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sent: list[tuple[int, int, int]] = []
    send = ModbusServerOutput.send

    def timed(self: ModbusServerOutput, verdict: Verdict, job: Job) -> None:
        begun_ns = time.monotonic_ns()
        send(self, verdict, job)
        sent.append((verdict.seq, begun_ns, time.monotonic_ns()))

    ModbusServerOutput.send = timed  # type: ignore[method-assign]
    run_worker(load_settings(config), stop)
    config.with_name("sent").write_text("\n".join(" ".join(map(str, one)) for one in sent))


def at(values: list[float], part: float) -> float:
    """Return the quantile of sorted values."""
    return values[min(len(values) - 1, int(part * len(values)))]


def row(what: str, goal: str, values: list[float]) -> str:
    """Return one line of the table."""
    figures = " | ".join(f"{value:.1f}" for value in (at(values, 0.5), at(values, 0.99), values[-1]))
    return f"| {what} | {goal} | {len(values)} | {figures} |\n"


def rows(seen: Seen) -> str:
    """Return the table's lines."""
    return (
        row(f"heartbeat, off its {BEAT_MS} ms", "<= 50 ms", seen.jitter)
        + row("verdict in the journal to registers", "<= 5 ms p99", seen.shown)
        + row(f"the same, read by a PLC each {SCAN_S * 1000:.0f} ms", "", seen.read)
        + row("the PLC's own pause between two reads", "", seen.pauses)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        timed_worker(options.worker)
        return
    seen = watch(options.seconds, options.threads)
    sys.stdout.write(HEADING + rows(seen))


if __name__ == "__main__":
    main()
