"""`station bench`: how fast this machine judges, against llama-cpp-python's own handler: same model, same pictures.

Each side runs in a process of its own, one after the other. The pictures are cut from the recipe's golden picture; a
random model may be used (models/random_release.py), since time does not depend on what was learned.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from station import report
from station.bench_picture import golden_views
from station.bench_side import Measured, Task
from station.engine.base import Question
from station.engine.llama_text import can_use_gpu
from station.errors import EngineError
from station.manifest import Manifest, load_manifest
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Record
from station.settings import Settings

_LIMIT_S = 3600
_REPEATS = 3


class Row(Record):
    """One model release, measured on both sides."""

    release: str
    size_gib: float
    """Of its text file."""
    station: Measured | None
    stock: Measured | None
    problem: str = ""
    """Why there is no measurement, as "does not fit into memory"."""


class Bench(Record):
    """All that was measured in one run."""

    ask: str
    width_px: int
    height_px: int
    gpu: bool
    threads: int
    limits: Measured
    rows: tuple[Row, ...]

    def share_of_limit(self, row: Row, regions: int) -> float:
        """Return what part of the time no machine can save: 0..1, for the verdict alone."""
        if row.station is None:
            return 0.0
        verdict_ms = next(part.verdict_ms for part in row.station.parts if part.regions == regions)
        computing_s = regions * row.station.flop_per_region / self.limits.flop_per_s
        reading_s = row.station.weight_bytes / (self.limits.bytes_per_s / 2)
        return max(computing_s, reading_s) / (verdict_ms / 1e3)


@dataclass(frozen=True)
class Order:
    """What to measure. `size_px`: (width, height) of the pictures, None = the recipe's."""

    manifests: tuple[Path, ...]
    ask: str | None
    size_px: tuple[int, int] | None
    regions: tuple[int, ...]


def bench(settings: Settings, order: Order) -> Bench:
    """Measure. Raises StationError."""
    recipe = load_recipe(settings.recipe)
    ask = order.ask or recipe.file.ask
    question, expected = _question(recipe, ask, order.size_px, max(order.regions))
    gpu = settings.engine.gpu_layers != 0 and can_use_gpu()
    threads = settings.engine.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    views = golden_views(recipe.golden_path, question.width_px, question.height_px, max(order.regions))
    base = Task(
        side="limits",
        manifest="",
        threads=threads,
        gpu_layers=settings.engine.gpu_layers if gpu else 0,
        question=question,
        pictures=views,
        expected=expected,
        regions=order.regions,
        repeats=_REPEATS,
    )
    limits = _run(base)
    rows = tuple(_row(base, load_manifest(path), path) for path in order.manifests)
    return Bench(
        ask=ask,
        width_px=question.width_px,
        height_px=question.height_px,
        gpu=gpu,
        threads=threads,
        limits=limits,
        rows=rows,
    )


def _question(
    recipe: Recipe, ask: str, size_px: tuple[int, int] | None, queries: int
) -> tuple[Question, tuple[str, ...]]:
    """Return the recipe's question in pictures of `size_px`, and the answer of a good part."""
    file = recipe.file
    if ask == "pins":
        width, height = size_px or (3 * file.pins.tile_model_px, file.pins.tile_model_px)
        slots, instruction = report.pin_slots(file.defect_modes), file.pins.instruction
        expected: tuple[str, ...] = (report.PASSED, report.NONE)
    else:
        width, height = size_px or (file.report.width_model_px, file.report.height_model_px)
        ids = sorted({pin.pin_id for region in file.regions for pin in region.pins})
        slots, instruction = report.report_slots(file.defect_modes, ids), file.report.instruction
        expected = (str(len(file.regions[0].pins)), report.PASSED, report.NONE, report.NONE)
    question = Question(
        instruction=instruction, images=1, slots=slots, width_px=width, height_px=height, queries=queries
    )
    return question, expected


def _row(base: Task, release: Manifest, path: Path) -> Row:
    row = Row(
        release=release.ref.name,
        size_gib=release.text.size_bytes / 2**30,
        station=None,
        stock=None,
    )
    try:
        task = msgspec.structs.replace(base, manifest=str(path), side="station")
        row = msgspec.structs.replace(row, station=_run(task))
        row = msgspec.structs.replace(row, stock=_run(msgspec.structs.replace(task, side="stock")))
    except EngineError as error:
        row = msgspec.structs.replace(row, problem=str(error))
    return row


def _run(task: Task) -> Measured:
    """Measure one side in its own process. Raises EngineError with what it said last."""
    command = [sys.executable, "-m", "station.bench_side"]
    done = subprocess.run(command, input=msgspec.json.encode(task), capture_output=True, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise EngineError(f"The side {task.side!r} ended with code {done.returncode}: {said[0]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)
