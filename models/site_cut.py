"""Cuts a labelled set into what a LoRA learns on site: each pin's pixels, from the golden picture and from the set's.

In: recipes and labelled sets, each picture through the station's own gate, registration and crop. Out: `SitePins`. Hard
negatives are the set's good pictures that a person overrode: repeat them in the set.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import defects
import numpy as np
from PIL import Image
from site_pins import RIM_PX, TILE_PX, UNDECIDABLE, Pixels, SitePins

from station import composite
from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer, prepare_job
from station.labels import Label, read_labels
from station.recipe import Box, Pin, Recipe, Region
from station.recipe_file import load_recipe
from station.records import Evaluation, RegionCrop

GOOD_OF_A_PICTURE = 60
"""Good pins that are kept of a picture, chosen at random: boards have hundreds."""
LIMITS = CaptureLimits(2**28, 10**8)
_JOB = "20260101T000000000-00000000"


def cut(sets: Sequence[tuple[Path, Path]], seed: int = 0) -> SitePins:
    """Return the pins of (recipe.yaml, set) pairs. A picture that cannot be registered is left out and named."""
    rng = np.random.default_rng(seed)
    golden: list[Pixels] = []
    tests: list[Pixels] = []
    golden_of: list[int] = []
    modes: list[int] = []
    for recipe_path, folder in sets:
        recipe = load_recipe(recipe_path)
        first, wide = len(golden), _wide(recipe)
        golden += [tile for _, _, tile in _tiles(wide, lit_crops(wide, golden_crops(wide).values()))]
        for number, mode, tile in _set_pins(recipe, folder, rng):
            golden_of.append(first + number)
            modes.append(mode)
            tests.append(tile)
    if not tests:
        raise SystemExit("No picture of the set could be registered: look at them with station inspect.")
    grey = all(bool((tile == tile[:, :, :1]).all()) for tile in tests)
    keep = slice(0, 1 if grey else 3)
    used, index = np.unique(golden_of, return_inverse=True)
    goldens = np.stack([golden[number] for number in used])
    return SitePins(goldens[..., keep], np.stack(tests)[..., keep], index.astype(np.int32), np.array(modes, np.int32))


def _set_pins(recipe: Recipe, folder: Path, rng: np.random.Generator) -> Iterator[tuple[int, int, Pixels]]:
    """Yield (number of the pin, mode, tile) of every pin with a known state."""
    for known, shown_by, crops in registered([_wide(recipe), recipe], folder):
        found = [(number, _mode_of(known, region, pin), tile)
                 for number, (region, pin, tile) in enumerate(_tiles(shown_by, crops))]  # fmt: skip
        bad = [one for one in found if one[1] not in (0, None)]
        good = [one for one in found if one[1] == 0]
        chosen = rng.permutation(len(good))[:GOOD_OF_A_PICTURE]
        yield from [(number, mode or 0, tile) for number, mode, tile in [*bad, *(good[k] for k in chosen)]]


def registered(recipes: Sequence[Recipe], folder: Path) -> Iterator[tuple[list[Label], Recipe, dict[str, Pixels]]]:
    """Yield of each of a set's pictures its labels, the first recipe that it can be registered with, and its crops.

    A recipe with room around its regions comes first: not every picture has that room. A picture that cannot be
    registered is named and left out.
    """
    labels: dict[str, list[Label]] = defaultdict(list)
    for label in read_labels(folder):
        labels[label.image].append(label)
    finders = [(recipe, Preparer(recipe, LIMITS)) for recipe in recipes]
    for image, known in labels.items():
        for recipe, preparer in finders:
            job = prepare_job(folder / image, _JOB, preparer)
            if job.failure is None:
                yield known, recipe, lit_crops(recipe, job.crops)
                break
        else:
            print(f"{image}: left out, it cannot be registered", flush=True)


def lit_crops(recipe: Recipe, crops: Iterable[RegionCrop]) -> dict[str, Pixels]:
    """Return RGB pixels by region, as bright as the model sees them."""
    white = recipe.file.white_level
    return {crop.region_id: composite.lit(composite.pixels_of(crop), white) for crop in crops}


def _mode_of(labels: list[Label], region: Region, pin: Pin) -> int | None:
    """Return the pin's mode as a number; None when the labels do not tell."""
    known = [label for label in labels if label.region_id in {None, region.region_id}]
    if any(label.evaluation is Evaluation.NOT_DECIDABLE for label in known):
        return UNDECIDABLE
    for label in known:
        modes = dict(zip(label.defect_positions, label.defect_modes, strict=False))
        if pin.pin_id in modes:
            return defects.MODES.index(modes[pin.pin_id])
        if label.evaluation is Evaluation.NOT_OK and not label.defect_positions:
            return None
    return 0


def _wide(recipe: Recipe) -> Recipe:
    """Return the recipe with its regions enlarged by the rim, as far as the golden picture goes."""
    reach = -(-recipe.file.pins.tile_px * RIM_PX // TILE_PX)
    with Image.open(recipe.golden_path) as golden:
        width, height = golden.size
    regions = []
    for region in recipe.file.regions:
        box = region.box
        x, y = max(0, box.x - reach), max(0, box.y - reach)
        right, bottom = min(width, box.x + box.width + reach), min(height, box.y + box.height + reach)
        regions.append(region.model_copy(update={"box": Box(x=x, y=y, width=right - x, height=bottom - y)}))
    return recipe.model_copy(update={"file": recipe.file.model_copy(update={"regions": tuple(regions)})})


def _tiles(recipe: Recipe, crops: dict[str, Pixels]) -> Iterator[tuple[Region, Pin, Pixels]]:
    """Yield each pin's square with its rim, at the model's size; its middle is the station's tile."""
    for region in recipe.file.regions:
        for pin in region.pins:
            yield region, pin, _tile(region, pin, crops[region.region_id], recipe.file.pins.tile_px)


def _tile(region: Region, pin: Pin, crop: Pixels, side: int) -> Pixels:
    room = -(-side * RIM_PX // TILE_PX) + 2
    x, y = round(pin.x) - region.box.x - side // 2 - room, round(pin.y) - region.box.y - side // 2 - room
    rows = np.clip(np.arange(y, y + side + 2 * room), 0, crop.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side + 2 * room), 0, crop.shape[1] - 1)
    reach, out = side * RIM_PX / TILE_PX, TILE_PX + 2 * RIM_PX
    box = (room - reach, room - reach, room + side + reach, room + side + reach)
    wide = Image.fromarray(np.ascontiguousarray(crop[rows][:, columns]))
    return np.asarray(wide.resize((out, out), Image.Resampling.BICUBIC, box))
