"""Does the engine's memory grow? `python -m tests.bench.engine_memory [--jobs 10000]`.

The shipped model, asked by report about shifted views of the golden picture; memory and open files of the process are
read every 500 jobs. Prints them and the slope after the first 1,000.
"""

import argparse
import sys
from pathlib import Path

from station.engine.llama import LlamaEngine  # isort: skip  (llama.cpp before numpy)

import numpy as np
import psutil

from station.bench_picture import golden_views
from station.capture.crop import golden_crops
from station.engine.base import Query
from station.engine.llama_text import devices
from station.inspection import Inspection
from station.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
EVERY = 500


def main() -> None:
    """Ask, and print what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--gpu-layers", type=int, default=0)
    given = parser.parse_args()
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    file = recipe.file.model_copy(update={"ask": "report"})
    question = Inspection(recipe.model_copy(update={"file": file}), golden_crops(recipe)).question
    views = golden_views(recipe.golden_path, question.width_px, question.height_px, 50)
    engine = LlamaEngine(ROOT / "models/pins-tiny/manifest.json", threads=1, gpu_layers=given.gpu_layers)
    engine.prepare(question)
    me, marks = psutil.Process(), []
    for job in range(given.jobs + 1):
        if job % EVERY == 0:
            free = sum(device.free_bytes for device in devices() if device.is_gpu)
            mib = me.memory_info().rss / 2**20
            files = len(list(Path("/proc/self/fd").iterdir()))
            marks.append((job, mib))
            sys.stdout.write(
                f"after {job} jobs: process {mib:.1f} MiB, {files} open files, GPU free {free / 2**20:.0f} MiB\n"
            )
            sys.stdout.flush()
        picture = views[job % len(views)]
        engine.ask((Query(query_id="field", pictures=(*views[: question.images - 1], picture)),))
    settled = np.array([mark for mark in marks if mark[0] >= 1000])
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 1000
    sys.stdout.write(f"slope: {slope:.3f} MiB of the process per 1,000 jobs\n")


if __name__ == "__main__":
    main()
