"""A soak: very many small pictures through the whole station; nothing grows, nothing slows down, nothing is lost.

Pictures are small and only each twentieth is one that the engine is asked about, so that a month at the line fits into
an hour: what is looked for grows by the picture, not by the pixel. Archive and quarantine are swept meanwhile.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import yaml

from tests.pictures import encoded, recipe_data
from tests.reliability.results import FOLDER, FORM, count, record
from tests.reliability.rig import ForkServer, Rig, percentile, visible
from tests.waiting import wait_until

MOST_RSS_SLOPE = 1_000_000
"""Bytes for each 100,000 pictures."""
MOST_WAL = 64_000_000
MOST_P99_RATIO = 1.1
ONE_GOOD_IN = 20
IN_FLIGHT = 8
"""So many pictures are under way at most, so that a verdict's time is the station's and not the queue's."""
SAMPLES = 100


def small_recipe(folder: Path) -> bytes:
    """Write a recipe of one pin in 128 x 96 px into `folder`; returns a good part as JPEG."""
    names = ("x", "y", "width", "height")
    coarse = np.random.default_rng(1).integers(30, 220, (12, 16), np.uint8)
    part = np.repeat(np.kron(coarse, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)
    golden = encoded(part, ".png")
    data = recipe_data()
    data["golden_sha256"] = hashlib.sha256(golden).hexdigest()
    data["registration"] |= {
        "part": dict(zip(names, (16, 12, 96, 72), strict=True)),
        "fiducials": [dict(zip(names, (x, y, 24, 24), strict=True)) for x, y in ((16, 12), (88, 12), (52, 60))],
        "max_rotation_deg": 0.5,
        "max_scale_change": 0.01,
    }
    box = dict(zip(names, (32, 24, 64, 48), strict=True))
    data["regions"] = [{"region_id": "pin", "box": box, "pins": [{"pin_id": "A1", "x": 64, "y": 48}]}]
    data["report"] |= {"width_model_px": 64, "height_model_px": 48}
    (folder / "golden.png").write_bytes(golden)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return encoded(part)


@dataclass
class Health:
    """What the processes weigh, over the number of pictures."""

    processes: dict[str, psutil.Process]
    wal: Path
    pictures: list[int] = field(default_factory=list)
    rss: dict[str, list[int]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    most_wal: int = 0

    def look(self, pictures: int) -> None:
        """Take a sample."""
        self.pictures.append(pictures)
        for name, process in self.processes.items():
            self.rss.setdefault(name, []).append(process.memory_info().rss)
            self.files.setdefault(name, []).append(process.num_fds())
        self.most_wal = max(self.most_wal, self.wal.stat().st_size if self.wal.exists() else 0)
        if FORM == "long":  # hours: what was reached is kept when it is broken off
            FOLDER.mkdir(parents=True, exist_ok=True)
            form = {"pictures": self.pictures, "rss": self.rss, "files": self.files, "most_wal": self.most_wal}
            (FOLDER / "soak.json").write_text(json.dumps(form))

    def slope(self, name: str) -> float:
        """Return by how many bytes a process grows for each 100,000 pictures, after the first fifth."""
        first = len(self.pictures) // 5
        return 100_000 * float(np.polyfit(self.pictures[first:], self.rss[name][first:], 1)[0])

    def more_files(self, name: str) -> int:
        """Return how many more files a process has open at the end than after the first fifth."""
        return self.files[name][-1] - self.files[name][len(self.files[name]) // 5]


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Remove judged pictures while the station works."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.wait(1):
            for pattern in ("archive/*/*", "quarantine/*"):
                for job in sorted(folder.glob(pattern))[:-100]:
                    shutil.rmtree(job, ignore_errors=True)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def deliver(rig: Rig, jpeg: bytes, number: int) -> None:
    """Put one more small picture into the hot folder; each has its own bytes."""
    hidden = rig.hot / f".{number:08d}.jpg"
    is_good = number % ONE_GOOD_IN == 0
    hidden.write_bytes(jpeg[:2] + b"\xff\xfe\x00\x0a%08d" % number + jpeg[2:] if is_good else b"%08d" % number)
    os.utime(hidden, ns=(0, time.time_ns()))
    hidden.rename(rig.hot / hidden.name[1:])


def under_way(rig: Rig) -> int:
    """Return how many pictures are in hot folder and spool."""
    return sum(1 for folder in (rig.hot, rig.data / "spool") for _ in visible(folder))


def counted(journal: Path) -> tuple[int, int, int, int]:
    """Return how many verdicts, different pictures, verdicts that are OK, and the last seq there are."""
    query = "SELECT count(*), count(DISTINCT image_name), sum(evaluation = 'OK'), max(seq) FROM verdict"
    with closing(sqlite3.connect(journal)) as connection:
        verdicts, pictures, good, last = connection.execute(query).fetchone()
    return verdicts, pictures, good, last


def times_ms(journal: Path, first: int, last: int) -> list[float]:
    """Return how long the verdicts of these numbers took, from the complete file."""
    with closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT json FROM verdict WHERE seq BETWEEN ? AND ?", (first, last))
        return [msgspec.json.decode(row[0])["ms"]["total"] for row in rows]


@pytest.mark.timeout(20_000)
def test_nothing_grows_and_nothing_slows_down(server: ForkServer, memory: Path) -> None:
    pictures = count(500, 20_000, 1_000_000)
    journal = memory / "journal.sqlite"
    began_s = time.monotonic()
    with Rig(server, memory) as rig:
        jpeg = small_recipe(memory / "recipe")
        rig.start()
        wait_until(rig.is_online, 30)
        worker = rig.services["worker"].pid
        health = Health(
            {
                "capture": psutil.Process(rig.services["capture"].pid),
                "worker": psutil.Process(worker),
                "engine": psutil.Process(rig.engine_pids()[0]),
            },
            journal.with_name(journal.name + "-wal"),
        )
        with swept(memory):
            for number in range(pictures):
                deliver(rig, jpeg, number)
                if number % IN_FLIGHT == IN_FLIGHT - 1:
                    wait_until(lambda: under_way(rig) < IN_FLIGHT, 60)
                if number % max(1, pictures // SAMPLES) == 0:
                    health.look(number)
            rig.settle(120)
        health.look(pictures)
        assert rig.services["worker"].pid == worker
        assert health.processes["engine"].is_running()
        for name in ("capture", "worker"):
            assert rig.kill(name, 15) == 0
        assert counted(journal) == (pictures, pictures, -(-pictures // ONE_GOOD_IN), pictures)
        share = pictures // 10
        first = percentile(times_ms(journal, 1, share), 0.99)
        last = percentile(times_ms(journal, pictures - share + 1, pictures), 0.99)
    slopes = {name: health.slope(name) for name in health.processes}
    took_s = time.monotonic() - began_s
    assert all(health.more_files(name) <= 0 for name in health.processes), health.files
    assert health.most_wal < MOST_WAL
    if FORM == "long":  # before, what caches take is more than what leaks
        assert max(slopes.values()) < MOST_RSS_SLOPE, slopes
    record(
        "soak",
        pictures,
        "grows < 1 MB for 100,000, no file more open, WAL < 64 MB, p99 of the last tenth <= 1.1 x the first, 0 lost",
        **{f"{name}_mb_for_100000": round(slope / 1e6, 2) for name, slope in slopes.items()},
        wal_mb=round(health.most_wal / 1e6, 1),
        p99_first_ms=round(first, 1),
        p99_last_ms=round(last, 1),
        pictures_per_s=round(pictures / took_s),
        lost=0,
    )
