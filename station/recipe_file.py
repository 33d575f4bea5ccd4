"""Reads a product's recipe: recipe.yaml and the golden picture beside it. All problems are reported at once.

In: the path of recipe.yaml. Out: `Recipe`, or ConfigurationError. The form is checked first (types, ranges, unknown
keys), then what only the whole recipe can tell: boxes inside the golden picture, pins inside their region, ids used
once, thresholds in order, the hashes of the golden picture and of the camera's calibration, if it names one. Of the
picture only the head is read here, not the pixels.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from station.camera import Camera
from station.camera_file import read_camera, size_problem
from station.errors import ConfigurationError
from station.expectation import Key
from station.measurement import MISSING
from station.recipe import Box, Recipe, RecipeFile
from station.settings_file import read_yaml

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_GOLDEN_BYTES = 64 * 1024 * 1024
NOTHING = "none"
"""What reports write where there is no defect; no pin and no mode may have this name."""
LEAST_TIPS = 6
"""Pins that must be there to tell where all of them lie."""

Problem = tuple[Key, str]


def load_recipe(path: Path) -> Recipe:
    """Return the checked recipe. Raises ConfigurationError with every problem in recipe.yaml and its golden picture."""
    path = path.absolute()
    checked = read_yaml(path, RecipeFile)
    recipe = checked.value
    golden_path = path.parent / recipe.golden
    golden, problems = _golden(recipe, golden_path)
    camera, camera_problems = _camera(recipe, path.parent)
    problems += camera_problems
    problems += _names(recipe)
    problems += _thresholds(recipe)
    problems += _pins_outside(recipe)
    problems += _tips(recipe)
    if golden.startswith(PNG_SIGNATURE):
        problems += _boxes_outside(recipe, _png_size_px(golden))
        if camera and (text := size_problem(camera, _png_size_px(golden), f"the golden picture {recipe.golden}")):
            problems.append((("camera",), text))
    if problems:
        raise ConfigurationError([checked.problem(key, text) for key, text in problems])
    sha256 = hashlib.sha256(checked.raw + golden).hexdigest()
    return Recipe(file=recipe, sha256=sha256, golden_path=golden_path, camera=camera)


def _golden(recipe: RecipeFile, path: Path) -> tuple[bytes, list[Problem]]:
    """Return the golden picture's bytes, none if it cannot be used, and what is wrong with it."""
    if Path(recipe.golden).name != recipe.golden:
        return b"", [
            (("golden",), f'found "{recipe.golden}"; expected a file name without folder, beside recipe.yaml.')
        ]
    try:
        with path.open("rb") as file:
            golden = file.read(MAX_GOLDEN_BYTES)
    except OSError as error:
        return b"", [(("golden",), f"{path} cannot be read: {error.strerror}. Put the golden picture there.")]
    return golden, list(_golden_problems(recipe, golden))


def _golden_problems(recipe: RecipeFile, golden: bytes) -> Iterator[Problem]:
    if not golden.startswith(PNG_SIGNATURE):
        yield ("golden",), f"{recipe.golden} is not a PNG picture. Save it as PNG, so that no detail is lost."
    found = hashlib.sha256(golden).hexdigest()
    if found != recipe.golden_sha256:
        text = (
            f"{recipe.golden} is another picture: its hash is {found}. If it was changed on purpose, check all places"
            " in this recipe against it and write the new hash here."
        )
        yield ("golden_sha256",), text


def _camera(recipe: RecipeFile, folder: Path) -> tuple[Camera | None, list[Problem]]:
    """Return the calibration that the recipe names, None if there is none, and what is wrong with it."""
    if recipe.camera is None and recipe.camera_sha256 is None:
        return None, []
    if recipe.camera is None or recipe.camera_sha256 is None:
        missing = "camera" if recipe.camera is None else "camera_sha256"
        return None, [((missing,), "missing; camera and camera_sha256 belong together, station teach writes both.")]
    if Path(recipe.camera).name != recipe.camera:
        text = f'found "{recipe.camera}"; expected a file name without folder, beside recipe.yaml.'
        return None, [(("camera",), text)]
    camera, found = read_camera(folder / recipe.camera)
    if found != recipe.camera_sha256:
        text = (
            f"{recipe.camera} is another calibration: its hash is {found}. Another lens, or the same one moved, needs a"
            " golden picture of its own: station teach --camera."
        )
        return camera, [(("camera_sha256",), text)]
    return camera, []


def _png_size_px(picture: bytes) -> tuple[int, int]:
    """Return (width, height): the first two numbers of the IHDR chunk, which every PNG starts with."""
    return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])


def _boxes_outside(recipe: RecipeFile, size_px: tuple[int, int]) -> Iterator[Problem]:
    width, height = size_px
    for key, box in _boxes(recipe):
        right, bottom = box.x + box.width, box.y + box.height
        if right > width or bottom > height:
            text = f"ends at x {right}, y {bottom}, outside the golden picture of {width} x {height} pixels."
            yield key, text


def _boxes(recipe: RecipeFile) -> Iterator[tuple[Key, Box]]:
    yield ("registration", "part"), recipe.registration.part
    for place, fiducial in enumerate(recipe.registration.fiducials):
        yield ("registration", "fiducials", place), fiducial
    for place, region in enumerate(recipe.regions):
        yield ("regions", place, "box"), region.box


def _pins_outside(recipe: RecipeFile) -> Iterator[Problem]:
    for place, region in enumerate(recipe.regions):
        box = region.box
        for number, pin in enumerate(region.pins):
            if not (box.x <= pin.x < box.x + box.width and box.y <= pin.y < box.y + box.height):
                text = f"pin {pin.pin_id} at {pin.x:g}, {pin.y:g} is outside the box of region {region.region_id}."
                yield ("regions", place, "pins", number), text


def _tips(recipe: RecipeFile) -> Iterator[Problem]:
    reach_px, key = recipe.registration.tip_reach_px, ("registration", "tip_reach_px")
    pins = sum(len(region.pins) for region in recipe.regions)
    if reach_px and pins < LEAST_TIPS:
        yield key, f"needs {LEAST_TIPS} pins, found {pins}: fewer would follow a bent one. Take it out."
    pitch_px = min(region.pitch_px for region in recipe.regions)
    if reach_px > pitch_px / 2:
        yield (
            key,
            f"found {reach_px:g}; expected at most {pitch_px / 2:.1f}, half a pitch: a pin more is its neighbour.",
        )


def _names(recipe: RecipeFile) -> Iterator[Problem]:
    if recipe.measurement.missing and MISSING not in recipe.defect_modes:
        yield ("measurement", "missing"), f'needs the mode "{MISSING}" in defect_modes.'
    yield from _repeated(("regions",), "region_id", (region.region_id for region in recipe.regions))
    yield from _repeated(("defect_modes",), "mode", recipe.defect_modes)
    for place, region in enumerate(recipe.regions):
        yield from _repeated(("regions", place, "pins"), "pin_id", (pin.pin_id for pin in region.pins))


def _repeated(key: Key, kind: str, names: Iterable[str]) -> Iterator[Problem]:
    for name, times in Counter(names).items():
        if times > 1:
            yield key, f'{kind} "{name}" is used {times} times; expected once.'
        if name.lower() == NOTHING:
            yield key, f'{kind} "{name}" is kept for "no defect". Choose another name.'


def _thresholds(recipe: RecipeFile) -> Iterator[Problem]:
    ok_max, not_ok_min = recipe.thresholds.ok_max_p_defect, recipe.thresholds.not_ok_min_p_defect
    if ok_max >= not_ok_min:
        text = (
            f"found {ok_max}; expected less than not_ok_min_p_defect ({not_ok_min}): no p_defect can be OK and NOT_OK."
        )
        yield ("thresholds", "ok_max_p_defect"), text
