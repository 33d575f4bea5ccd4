"""Timings of this machine, through the shipped path: `python -m tests.bench.speed [--parts 200]` (make bench).

1. The station without inference: real services as processes, scripted engine, 1600 x 1200 JPEG; from the rename that
   completes the file until a Modbus master has read the verdict's registers.
2. A whole part (27 pins) with the shipped model in the engine's own process, asked by pins and by report.
Prints a table; figures belong into docs/benchmarks.md, with this command.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer, prepare_job
from station.inspect_pictures import OneShotEngine
from station.plc_client import PlcClient
from station.recipe_file import load_recipe
from station.settings_file import load_settings
from station.shift_vote import VotingInspection
from tests.running_station import RunningStation, write_config

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "calibration/recipes/pins-27/recipe.yaml"
DEMO = ROOT / "calibration/demo"


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
    for ask, images in (("pins", 1), ("report", 1), ("report", 2)):
        with tempfile.TemporaryDirectory() as folder:
            times = with_model(Path(folder), ask, images, max(20, parts // 4))
            show(f"engine, one part asked by {ask}, {images} picture(s)", times)


if __name__ == "__main__":
    main()
