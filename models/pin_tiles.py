"""Turns a labelled set into what a model is trained on: each pin's pixels, cut by the station's path, and its label.

In: a recipe and a labelled set. Out: `PinTiles`, plain arrays. Gate, registration, crop and tile are the station's.
"""

import multiprocessing
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import render
from PIL import Image

from station import composite
from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer, prepare_job
from station.labels import Label, read_labels
from station.recipe import Pin, Recipe, Region
from station.recipe_file import load_recipe
from station.records import Evaluation

Pixels = npt.NDArray[np.uint8]
TILE_PX = 64
RIM_PX = 8
"""Room around a test tile, so that training can shift it."""
LIMITS = CaptureLimits(2**26, 10**8)


@dataclass(frozen=True)
class PinTiles:
    """The pins of a set's pictures; all pixels RGB."""

    golden: Pixels
    """(pins, TILE_PX, TILE_PX, 3), in the recipe's order."""
    tests: Pixels
    """(N, TILE_PX + 2 * RIM_PX, the same, 3): every pin of every picture."""
    pin: npt.NDArray[np.int64]
    """(N,), index into golden."""
    part: npt.NDArray[np.int64]
    """(N,), number of the picture."""
    mode: npt.NDArray[np.int64]
    """(N,), index into render.MODES."""
    golden_region: Pixels
    """(height, width, 3) of the first region at its model size."""
    regions: Pixels
    """(pictures, height, width, 3)."""


def cut_set(recipe_path: Path, folder: Path, processes: int) -> PinTiles:
    """Return the pins of all pictures that can be judged; what is not registered is left out."""
    labels: dict[str, list[Label]] = defaultdict(list)
    for label in read_labels(folder):
        if label.evaluation in {Evaluation.OK, Evaluation.NOT_OK}:
            labels[label.image].append(label)
    work = [(recipe_path, folder / image, found) for image, found in labels.items()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        cut = [one for one in pool.imap(_cut_picture, work, chunksize=4) if one is not None]
    recipe = load_recipe(recipe_path)
    golden = {name: composite.pixels_of(crop) for name, crop in golden_crops(recipe).items()}
    pins = [(region, pin) for region in recipe.file.regions for pin in region.pins]
    count = len(pins)
    return PinTiles(
        golden=np.stack([tile(region, pin, golden[region.region_id], recipe, 0) for region, pin in pins]),
        tests=np.concatenate([tests for tests, _, _ in cut]),
        pin=np.tile(np.arange(count), len(cut)),
        part=np.repeat(np.arange(len(cut)), count),
        mode=np.concatenate([modes for _, modes, _ in cut]),
        golden_region=_region(recipe, golden[recipe.file.regions[0].region_id]),
        regions=np.stack([region for _, _, region in cut]),
    )


_preparers: dict[Path, tuple[Recipe, Preparer]] = {}
"""Of this process."""


def _cut_picture(work: tuple[Path, Path, list[Label]]) -> tuple[Pixels, npt.NDArray[np.int64], Pixels] | None:
    """Return the tiles of all pins, their modes and the first region; None if the part was not found."""
    path, picture, labels = work
    cv2.setNumThreads(1)
    if path not in _preparers:
        recipe = load_recipe(path)
        _preparers[path] = recipe, Preparer(recipe, LIMITS)
    recipe, preparer = _preparers[path]
    job = prepare_job(picture, "20260101T000000000-00000000", preparer)
    if job.failure:
        return None
    crops = {crop.region_id: composite.pixels_of(crop) for crop in job.crops}
    tests, modes = [], []
    for region in recipe.file.regions:
        known = {
            pin: mode
            for label in labels
            if label.region_id in {None, region.region_id}
            for pin, mode in zip(label.defect_positions, label.defect_modes, strict=True)
        }
        for pin in region.pins:
            tests.append(tile(region, pin, crops[region.region_id], recipe, RIM_PX))
            modes.append(render.MODES.index(known.get(pin.pin_id, "none")))
    return np.stack(tests), np.array(modes), _region(recipe, crops[recipe.file.regions[0].region_id])


def tile(region: Region, pin: Pin, crop: Pixels, recipe: Recipe, rim_px: int) -> Pixels:
    """Return a pin's square at the model's size with a rim around it; without a rim, exactly what the station shows."""
    side = recipe.file.pins.tile_px
    x, y = round(pin.x) - region.box.x - side // 2, round(pin.y) - region.box.y - side // 2
    room = 0 if rim_px == 0 else side
    rows = np.clip(np.arange(y - room, y + side + room), 0, crop.shape[0] - 1)
    columns = np.clip(np.arange(x - room, x + side + room), 0, crop.shape[1] - 1)
    wide = Image.fromarray(crop[rows][:, columns])
    reach = rim_px * side / TILE_PX
    box = (room - reach, room - reach, room + side + reach, room + side + reach)
    out = TILE_PX + 2 * rim_px
    return np.asarray(wide if wide.size == (out, out) else wide.resize((out, out), Image.Resampling.BICUBIC, box))


def _region(recipe: Recipe, crop: Pixels) -> Pixels:
    size = recipe.file.report.width_model_px, recipe.file.report.height_model_px
    return np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
