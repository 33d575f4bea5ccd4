"""Timings of this machine, through the shipped path: `python -m tests.bench.speed [--parts 200]` (make bench).

1. The station without inference: real services as processes, scripted engine, 1600 x 1200 JPEG; from the rename that
   completes the file until a Modbus master has read the verdict's registers.
2. What of that is computing, by processor time, and what one wait for the disk takes: a claim waits for one of a file,
   the journal for one of its log, and the folders' are made beside the computing.
3. A whole part (27 pins) with the shipped model in the engine's own process, asked by pins and by report.
Prints a table; figures belong into docs/benchmarks.md, with this command.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from station.capture.crop import crops, golden_crops, golden_picture
from station.capture.gate import CaptureLimits, declared_size, decode
from station.capture.measure import PinMeasurer
from station.capture.picture_file import read_path
from station.capture.prepare import Preparer, prepare_job
from station.capture.registration import PartFinder
from station.durable_file import sync_folder
from station.inspect_pictures import OneShotEngine
from station.plc_client import PlcClient
from station.recipe_file import load_recipe
from station.settings_file import load_settings
from station.shift_vote import VotingInspection
from tests.running_station import RunningStation, write_config

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "calibration/recipes/pins-27/recipe.yaml"
DEMO = ROOT / "calibration/demo"

T = TypeVar("T")


def without_inference(folder: Path, parts: int) -> list[float]:
    """Return milliseconds from the complete file to its registers, one part after the other."""
    config = write_config(folder, recipe=str(RECIPE))
    pictures = [(DEMO / f"part-{k:02d}.jpg").read_bytes() for k in range(1, 23)]
    times: list[float] = []
    with RunningStation(config) as station:
        with PlcClient("127.0.0.1", station.settings.outputs.modbus_server.port) as plc:
            for number in range(parts + 10):
                before = plc.status()["InspectionId"]
                start = time.perf_counter()
                station.drop(f"p{number:05d}.jpg", pictures[number % len(pictures)])
                while plc.status()["InspectionId"] == before:
                    assert time.perf_counter() - start < 10, station.log
                    time.sleep(0.001)  # a PLC asks every few ms; asking without pause takes the worker's time
                times.append(1e3 * (time.perf_counter() - start))
        station.expected_code = 0
    return times[10:]


def steps() -> dict[str, list[float]]:
    """Return processor milliseconds of each step from the file's bytes to the engine's question."""
    recipe = load_recipe(RECIPE)
    preparer = Preparer(recipe, CaptureLimits(2**26, 10**8))
    golden = golden_crops(recipe)
    inspection, finder = VotingInspection(recipe, golden), PartFinder(recipe.file.registration, golden_picture(recipe))
    measurers = [PinMeasurer(region, golden[region.region_id], None) for region in recipe.file.regions]
    times: dict[str, list[float]] = {}
    for number in range(200):
        picture = read_path(DEMO / f"part-{number % 22 + 1:02d}.jpg", 2**26)
        size = declared_size(picture.image.name, picture.data, picture.image.size_bytes, preparer.limits)
        frame = _timed(times, "decode the JPEG", lambda: decode(picture.image.name, picture.data, size))  # noqa: B023
        pose = _timed(times, "find the part", lambda: finder.find(frame))  # noqa: B023
        regions = _timed(times, "crop the regions", lambda: crops(frame, recipe, pose))  # noqa: B023
        _timed(times, "measure each pin", lambda: [m.measure(c) for m, c in zip(measurers, regions, strict=True)])  # noqa: B023
        job = prepare_job(DEMO / picture.image.name, "20260101T000000000-00000000", preparer)
        _timed(times, "make the question", lambda: inspection.queries(job))  # noqa: B023
    return times


def _timed(times: dict[str, list[float]], step: str, action: Callable[[], T]) -> T:
    began = time.process_time()
    result = action()
    times.setdefault(step, []).append(1e3 * (time.process_time() - began))
    return result


def disk_waits(folder: Path) -> dict[str, list[float]]:
    """Return milliseconds of the kinds of waits for the disk: a new file of 200 kB, 4 kB more of a log, a folder."""
    times: dict[str, list[float]] = {"wait for a new file": [], "wait for the journal": [], "wait for one folder": []}
    with (folder / "log").open("ab", buffering=0) as log:
        for number in range(100):
            path = folder / f"{number}.jpg"
            path.write_bytes(bytes(200_000))
            with path.open("rb") as file:
                times["wait for a new file"].append(timed(lambda: os.fsync(file.fileno())))
            path.rename(folder / f"{number}.taken")
            times["wait for one folder"].append(timed(lambda: sync_folder(folder)))
            log.write(bytes(4096))
            times["wait for the journal"].append(timed(lambda: os.fsync(log.fileno())))
    return times


def with_model(folder: Path, ask: str, images: int, parts: int) -> list[float]:
    """Return milliseconds of the engine for one whole part, asked as named."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["ask"], recipe["report"]["images"] = ask, images
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (folder / "golden.png").write_bytes(RECIPE.with_name("golden.png").read_bytes())
    loaded = load_recipe(folder / "recipe.yaml")
    preparer = Preparer(loaded, CaptureLimits(2**26, 10**8))
    jobs = [prepare_job(DEMO / f"part-{k:02d}.jpg", "20260101T000000000-00000000", preparer) for k in range(1, 23)]
    engine = OneShotEngine(load_settings(ROOT / "config.yaml"), VotingInspection(loaded, golden_crops(loaded)))
    try:
        engine.start()
        return [timed(lambda: engine.ask(jobs[k % len(jobs)])) for k in range(parts)][3:]  # noqa: B023
    finally:
        engine.close()


def timed(action: Callable[[], object]) -> float:
    """Return how many milliseconds `action` took."""
    start = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - start)


def show(what: str, times: list[float]) -> None:
    """Print one row."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    sys.stdout.write(f"| {what} | {len(times)} | {statistics.median(times):.1f} | {p99:.1f} | {max(times):.1f} |\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=200)
    parts = parser.parse_args().parts
    sys.stdout.write("| what | n | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- |\n")
    with tempfile.TemporaryDirectory() as folder:
        show("complete file to PLC registers, without inference", without_inference(Path(folder), parts))
        for step, times in disk_waits(Path(folder)).items():
            show(step, times)
    for step, times in steps().items():
        show(f"processor time: {step}", times)
    for ask, images in (("pins", 1), ("report", 1), ("report", 2)):
        with tempfile.TemporaryDirectory() as folder:
            times = with_model(Path(folder), ask, images, max(20, parts // 4))
            show(f"engine, one part asked by {ask}, {images} picture(s)", times)


if __name__ == "__main__":
    main()
