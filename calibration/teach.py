"""`station teach IMAGE...`: from golden pictures to a recipe draft and an overlay to check by eye.

In: one or more pictures of good parts, the first of which becomes the golden picture; how many pins, best with their
grid, or a few of their places; or the side of tiles that cover everything; or a file of drawn regions. Out, in a
folder: golden.png, recipe.yaml, overlay.png and taught.json (what was proposed). A second run proposes anew, but keeps
whatever in recipe.yaml a person has changed since. The other pictures are found with the draft.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration import fiducials
from calibration.layout import MOST_PINS, Field, Known, Layout, find_layout, tiled
from calibration.shapes import checked
from calibration.shapes_file import read_shapes
from calibration.shapes_layout import layout_of
from calibration.teach_camera import Calibration, calibration_of
from station import report
from station.capture.registration import PartFinder
from station.errors import CaptureError, ConfigurationError
from station.recipe import RecipeFile, RegistrationLimits
from station.recipe_file import load_recipe
from station.records import Record
from station.settings_file import read_yaml

TAUGHT_NAME, OVERLAY_NAME = "taught.json", "overlay.png"
MODES = ("missing", "bent", "deformed", "contaminated", "short")
PART_REACH = 3.0
"""In pitches: how far the part reaches beyond the outer pins."""
LEAST_FIDUCIALS = 3
LEAST_PART, LEAST_FIELD = 0.6, 4
"""Share of the picture's shorter side: fewer pins are found by what is around them. A field of pins lies on a bench."""
LARGEST_PART = 0.8
"""Share of the picture's sides: the rest is how far the part may lie elsewhere."""
MODEL_TILE_PX = 64
LEAST_RESIDUAL_PX, RESIDUAL = 1.0, 0.04
"""Largest residual that is allowed: a share of a pin's tile, as a real part is never quite rigid."""
DARK = 128.0
"""Level of the brightest pixels, with room above them, below which a picture is shown brighter."""
_ID_KEYS = ("region_id", "pin_id")
_HASHES = ("golden_sha256", "camera_sha256")

Data = dict[str, Any]


class Found(Record):
    """How a further picture of a good part was found with the draft."""

    image: str
    residual_px: float | None
    detail: str


class Taught(Record):
    """What teaching came to."""

    recipe: str
    layout: str
    """In words, as "11 x 2 grid"."""
    pins: int
    score: float
    """Of the layout, see layout.py."""
    fiducials: int
    renamed: tuple[str, ...]
    """Labels of what was drawn that had to be changed, in words."""
    kept: tuple[str, ...]
    """Keys of recipe.yaml that a person had changed and that were kept."""
    found: tuple[Found, ...]
    problems: tuple[str, ...]
    """What is wrong with the draft: to be mended in recipe.yaml."""


class Drawn(Record):
    """Regions and pins that a person drew on the first picture."""

    file: Path
    tile_px: int | None
    """Side of a pin's tile; None: from the distances of the pins."""


def teach(images: Sequence[Path], wanted: Known | Drawn | int, out: Path, camera: Path | None = None) -> Taught:
    """Write the draft into `out` and return what it came to. Raises ConfigurationError when there is no layout.

    `wanted`: what is known of the pins; or what was drawn; or the side of tiles (px) that cover the whole picture.
    `camera`: the camera's calibration, which the recipe then names; None: that of the recipe already there, if it has
    one.
    """
    calibration = calibration_of(camera, out)
    pictures = [calibration.picture(image) for image in images]
    layout = _layout(images[0].name, pictures[0], wanted, calibration)
    golden = fiducials.png(pictures[0])
    draft = _draft(layout, pictures, golden, out.resolve().name) | calibration.keys
    path = out / "recipe.yaml"
    out.mkdir(parents=True, exist_ok=True)
    merged, kept = _with_edits(draft, path)
    (out / "golden.png").write_bytes(golden)
    calibration.write(out)
    (out / TAUGHT_NAME).write_text(json.dumps(draft, indent=1) + "\n", encoding="utf-8")
    path.write_text(as_yaml(merged), encoding="utf-8")
    recipe = RecipeFile.model_validate_json(json.dumps(merged))
    (out / OVERLAY_NAME).write_bytes(fiducials.png(fiducials.overlay(pictures[0], recipe)))
    finder = PartFinder(recipe.registration, pictures[0])
    return Taught(
        recipe=recipe.recipe,
        layout=layout.words,
        pins=len(layout.ids),
        score=layout.score,
        fiducials=len(recipe.registration.fiducials),
        renamed=layout.renamed,
        kept=kept,
        found=tuple(_found(finder, image, picture) for image, picture in zip(images, pictures, strict=True)),
        problems=_problems(path),
    )


def _layout(name: str, picture: fiducials.Image, wanted: Known | Drawn | int, calibration: Calibration) -> Layout:
    match wanted:
        case Drawn():
            size_px, where = (picture.shape[1], picture.shape[0]), str(wanted.file)
            shapes = [calibration.shape(one, where) for one in read_shapes(wanted.file, name, size_px)]
            return layout_of(checked(shapes, size_px, where), wanted.tile_px, size_px, where)
        case Known():
            return find_layout(picture, wanted)
        case _:
            return tiled(picture, wanted)


def _draft(layout: Layout, pictures: Sequence[fiducials.Image], golden: bytes, name: str) -> Data:
    picture, part = pictures[0], _part(layout, pictures[0])
    boxes = _fiducials(layout, pictures, part)
    if len(boxes) < LEAST_FIDUCIALS:
        raise ConfigurationError(
            [f"Only {len(boxes)} places fit for fiducials; 3 are needed."], "Show more of the part."
        )
    regions = _regions(layout, picture)
    words = name if name[:1].isalpha() else f"recipe-{name}"
    return {
        "recipe": "".join(c if c.isalnum() or c in "_-" else "-" for c in words)[:32],
        "product": f"{len(layout.ids)} pins, {layout.words}",
        "golden": "golden.png",
        "golden_sha256": hashlib.sha256(golden).hexdigest(),
        "registration": _registration(part, boxes, max(LEAST_RESIDUAL_PX, round(RESIDUAL * layout.tile_px, 1))),
        "regions": regions,
        "defect_modes": list(MODES),
        "ask": "pins",
        "pins": {"instruction": report.PIN_INSTRUCTION, "tile_px": layout.tile_px, "tile_model_px": MODEL_TILE_PX},
        "report": {
            "instruction": report.REPORT_INSTRUCTION,
            "images": 2,
            "width_model_px": _of_16(regions[0]["box"]["width"]),
            "height_model_px": _of_16(regions[0]["box"]["height"]),
        },
        "thresholds": {"ok_max_p_defect": 0.3, "not_ok_min_p_defect": 0.5, "min_mass": 0.95},
        "white_level": _white_level(layout, picture),
        "deadline_ms": 10000,
    }


def _registration(part: Data, boxes: Sequence[fiducials.Corners], residual_px: float) -> Data:
    return {
        "part": part,
        "fiducials": [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes],
        "max_rotation_deg": 10.0,
        "max_scale_change": 0.06,
        "max_residual_px": residual_px,
        "min_score": 0.6,
    }


def _fiducials(layout: Layout, pictures: Sequence[fiducials.Image], part: Data) -> list[fiducials.Corners]:
    """Return boxes away from the pins; over anything when there is no room, or when further pictures fit better so.

    Pins stand higher than their housing: seen from elsewhere they move against it, and are then found by themselves.
    """
    corners, pins = _corners(part), layout.places
    if layout.covers_everything:
        distinct = fiducials.propose_distinct(pictures[0], corners, layout.tile_px)
        if len(distinct) >= LEAST_FIDUCIALS:
            return distinct
    anywhere = fiducials.propose(pictures[0], corners, pins[:0], layout.pitch_px)
    away = anywhere if layout.covers_everything else fiducials.propose(pictures[0], corners, pins, layout.pitch_px)
    if len(away) < LEAST_FIDUCIALS or len(pictures) == 1 or layout.covers_everything:
        return away if len(away) >= LEAST_FIDUCIALS else anywhere
    return max((away, anywhere), key=lambda boxes: _fit(layout, pictures, part, boxes))


def _fit(layout: Layout, pictures: Sequence[fiducials.Image], part: Data, boxes: list[fiducials.Corners]) -> float:
    """Return how much the pins of the further pictures look like the first one's where these fiducials put them."""
    data = _registration(part, boxes, 10.0) | {"min_score": 0.0}
    finder = PartFinder(RegistrationLimits.model_validate_json(json.dumps(data)), pictures[0])
    fits = []
    for picture in pictures[1:]:
        try:
            matrix = np.array(finder.find(picture).matrix)
        except CaptureError:
            fits.append(0.0)
            continue
        fits.append(fiducials.likeness_of(pictures[0], picture, matrix, layout.places, layout.tile_px))
    return float(np.mean(fits))


def _regions(layout: Layout, picture: fiducials.Image) -> list[Data]:
    """Return the regions, each with room for its outer tiles."""
    regions = []
    for field in _fields(layout):
        places = layout.places[list(field.pins)].round(1)
        pins = [
            {"pin_id": layout.ids[k], "x": x, "y": y} for k, (x, y) in zip(field.pins, places.tolist(), strict=True)
        ]
        reach = layout.tile_px / 2 + 2
        corners = np.vstack([places - reach, places + reach, *([np.reshape(field.box, (2, 2))] if field.box else [])])
        regions.append({"region_id": field.region_id, "box": _box(corners, 0, picture), "pins": pins})
    return regions


def _fields(layout: Layout) -> Iterator[Field]:
    """Yield the layout's fields; a field that is too large for one region becomes several."""
    for field in layout.fields or (Field("field", tuple(range(len(layout.ids)))),):
        count = -(-len(field.pins) // MOST_PINS)
        for number, chosen in enumerate(np.array_split(field.pins, count), 1):
            name = field.region_id if count == 1 else f"{field.region_id}-{number}"
            yield Field(name, tuple(chosen.tolist()), field.box)


def _part(layout: Layout, picture: fiducials.Image) -> Data:
    """Return what is searched for as a whole: the pins and what is around them, never quite the whole picture."""
    height, width = picture.shape[:2]
    reach = PART_REACH * layout.pitch_px
    if len(layout.places) < LEAST_FIELD:
        reach = max(reach, LEAST_PART * min(width, height) / 2)
    around = _box(layout.places, reach, picture)
    for side, place, full in (("width", "x", width), ("height", "y", height)):
        largest = int(LARGEST_PART * full)
        if around[side] > largest:
            around |= {side: largest, place: min(max(around[place], (full - largest) // 2), full - largest)}
    return around


def _box(places: fiducials.Points, reach: float, picture: fiducials.Image) -> Data:
    height, width = picture.shape[:2]
    low = np.maximum(np.floor(places.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(places.max(axis=0) + reach), (width, height)).astype(int)
    return {"x": int(low[0]), "y": int(low[1]), "width": int(high[0] - low[0]), "height": int(high[1] - low[1])}


def _corners(box: Data) -> fiducials.Corners:
    return box["x"], box["y"], box["width"], box["height"]


def _white_level(layout: Layout, picture: fiducials.Image) -> int:
    """Return the brightest level around the pins, with room for a brighter lamp; 255 unless the picture is dark."""
    box = _box(layout.places, layout.tile_px / 2, picture)
    field = picture[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
    brightest = 1.3 * float(np.percentile(field, 99.5))
    return max(16, round(brightest)) if brightest < DARK else 255


def _of_16(side: int) -> int:
    return max(16, min(1024, 16 * round(side / 16)))


def _with_edits(draft: Data, path: Path) -> tuple[Data, tuple[str, ...]]:
    """Return the draft with what a person changed in recipe.yaml since the last run, and those keys."""
    if not path.exists():
        return draft, ()
    now = read_yaml(path, RecipeFile).value.model_dump(mode="json", exclude_unset=True)
    taught = path.with_name(TAUGHT_NAME)
    last = json.loads(taught.read_text(encoding="utf-8")) if taught.exists() else {}
    kept: list[str] = []
    merged = merge(draft, now, last, "", kept)
    # Hashes follow the files, never the hand.
    merged |= {key: draft[key] for key in _HASHES if key in draft}
    path.with_suffix(".yaml.before").write_bytes(path.read_bytes())
    return merged, tuple(key for key in kept if key not in _HASHES)


def merge(new: Any, now: Any, last: Any, key: str, kept: list[str]) -> Any:
    """Return `new` where `now` is as `last` proposed, else what a person wrote; `kept` collects the latter's keys.

    Lists of regions and pins are merged by their ids; every other list is one value.
    """
    if isinstance(new, dict) and isinstance(now, dict):
        before = last if isinstance(last, dict) else {}
        joined = {name: merge(value, now[name], before.get(name), f"{key}.{name}".lstrip("."), kept)
                  for name, value in new.items() if name in now}  # fmt: skip
        return joined | {name: value for name, value in {**now, **new}.items() if name not in joined}
    id_key = _id_key(new, now)
    if id_key:
        olds = {item[id_key]: item for item in (last or [])}
        wanted = {item[id_key]: item for item in new}
        if [item[id_key] for item in now] == list(wanted):
            return [
                merge(wanted[item[id_key]], item, olds.get(item[id_key]), f"{key}.{item[id_key]}", kept) for item in now
            ]
    if now in (last, new):
        return new
    kept.append(key)
    return now


def _id_key(new: Any, now: Any) -> str | None:
    items = [*new, *now] if isinstance(new, list) and isinstance(now, list) else []
    return next(
        (name for name in _ID_KEYS if items and all(isinstance(item, dict) and name in item for item in items)), None
    )


def as_yaml(recipe: Data) -> str:
    """Return recipe.yaml: one line a value, boxes and pins in one line each."""
    lines = ["# Proposed by station teach: look at overlay.png, correct what is wrong here, and run station check."]
    lines += ["# All places are pixels of golden.png. A second run of station teach keeps what was changed here.", ""]
    for key, value in recipe.items():
        lines += _yaml_lines(key, value, "")
    return "\n".join(lines) + "\n"


def _yaml_lines(key: str, value: Any, indent: str) -> list[str]:
    if key == "thresholds" or key in {"part", "box"} or not isinstance(value, dict | list):
        return [f"{indent}{key}: {_flow(value)}"]
    if isinstance(value, list) and not isinstance(value[0], dict):
        return [f"{indent}{key}: {_flow(value)}"]
    if isinstance(value, dict):
        return [
            f"{indent}{key}:",
            *(line for name, item in value.items() for line in _yaml_lines(name, item, indent + "  ")),
        ]
    if key != "regions":
        return [f"{indent}{key}:", *(f"{indent}  - {_flow(item)}" for item in value)]
    lines = [f"{indent}{key}:"]
    for item in value:
        below = [line for name, one in item.items() for line in _yaml_lines(name, one, indent + "    ")]
        lines += [f"{indent}  - {below[0].lstrip()}", *below[1:]]
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _found(finder: PartFinder, image: Path, picture: fiducials.Image) -> Found:
    try:
        return Found(image.name, finder.find(picture).residual_px, "")
    except CaptureError as error:
        return Found(image.name, None, error.message)


def _problems(path: Path) -> tuple[str, ...]:
    try:
        load_recipe(path)
    except ConfigurationError as error:
        return tuple(error.problems)
    return ()
