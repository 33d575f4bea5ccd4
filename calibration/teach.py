"""`station teach IMAGE...`: from golden pictures to a recipe draft and an overlay to check by eye.

In: one or more pictures of good parts, the first of which becomes the golden picture; how many pins, best with their
grid. Out, in a folder: golden.png, recipe.yaml, overlay.png and taught.json (what was proposed). A second run proposes
anew, but keeps whatever in recipe.yaml a person has changed since. The other pictures are found with the draft.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration import fiducials
from calibration.lattice import Lattice, find_lattice, grids_of
from station import report
from station.capture.registration import PartFinder
from station.errors import CaptureError, ConfigurationError
from station.recipe import RecipeFile
from station.recipe_file import load_recipe
from station.records import Record
from station.settings_file import read_yaml

TAUGHT_NAME, OVERLAY_NAME = "taught.json", "overlay.png"
MODES = ("missing", "bent", "deformed", "contaminated", "short")
PART_REACH, TILE = 3.0, 1.7
"""In pitches: how far the part reaches beyond the outer pins, and the side of a pin's tile."""
LEAST_TILE_PX = 16
MODEL_TILE_PX = 64
_ID_KEYS = ("region_id", "pin_id")

Data = dict[str, Any]


class Found(Record):
    """How a further picture of a good part was found with the draft."""

    image: str
    residual_px: float | None
    detail: str


class Taught(Record):
    """What teaching came to."""

    recipe: str
    rows: int
    columns: int
    score: float
    """Of the lattice: how much better its places are than what lies between them."""
    fiducials: int
    kept: tuple[str, ...]
    """Keys of recipe.yaml that a person had changed and that were kept."""
    found: tuple[Found, ...]
    problems: tuple[str, ...]
    """What is wrong with the draft: to be mended in recipe.yaml."""


def teach(images: Sequence[Path], grids: list[tuple[int, int]], out: Path) -> Taught:
    """Write the draft into `out` and return what it came to. Raises ConfigurationError when there is no lattice."""
    pictures = [fiducials.read_picture(image) for image in images]
    lattice = find_lattice(pictures[0], grids)
    if lattice is None:
        raise ConfigurationError([f"{images[0]}: no field of pins found."], "Give the grid: --grid ROWSxCOLUMNS.")
    golden = fiducials.png(pictures[0])
    draft = _draft(lattice, pictures[0], golden, out.resolve().name)
    path = out / "recipe.yaml"
    out.mkdir(parents=True, exist_ok=True)
    merged, kept = _with_edits(draft, path)
    (out / "golden.png").write_bytes(golden)
    (out / TAUGHT_NAME).write_text(json.dumps(draft, indent=1) + "\n", encoding="utf-8")
    path.write_text(as_yaml(merged), encoding="utf-8")
    recipe = RecipeFile.model_validate_json(json.dumps(merged))
    (out / OVERLAY_NAME).write_bytes(fiducials.png(fiducials.overlay(pictures[0], recipe)))
    finder = PartFinder(recipe.registration, pictures[0])
    return Taught(
        recipe=recipe.recipe,
        rows=lattice.rows,
        columns=lattice.columns,
        score=lattice.score,
        fiducials=len(recipe.registration.fiducials),
        kept=kept,
        found=tuple(_found(finder, image, picture) for image, picture in zip(images, pictures, strict=True)),
        problems=_problems(path),
    )


def grids_for(pins: int, grid: str | None) -> list[tuple[int, int]]:
    """Return the grids to try. Raises ConfigurationError when `grid` is not ROWSxCOLUMNS with so many places."""
    if grid is None:
        return grids_of(pins)
    rows, _, columns = grid.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) == pins):
        raise ConfigurationError([f"--grid: found {grid!r}; expected ROWSxCOLUMNS with {pins} places, as 3x9 for 27."])
    return [(int(rows), int(columns))]


def _draft(lattice: Lattice, picture: fiducials.Image, golden: bytes, name: str) -> Data:
    places, pitch = lattice.places(), lattice.pitch_px
    tile = max(LEAST_TILE_PX, round(TILE * pitch))
    part = _box(places, PART_REACH * pitch, picture)
    region = _box(places, tile / 2 + 2, picture)
    boxes = fiducials.propose(picture, _corners(part), places, pitch)
    if len(boxes) < 3:
        raise ConfigurationError(
            [f"Only {len(boxes)} places fit for fiducials; 3 are needed."], "Show more of the part."
        )
    words = name if name[:1].isalpha() else f"recipe-{name}"
    return {
        "recipe": "".join(c if c.isalnum() or c in "_-" else "-" for c in words)[:32],
        "product": f"{len(places)} pins, {lattice.rows} x {lattice.columns}",
        "golden": "golden.png",
        "golden_sha256": hashlib.sha256(golden).hexdigest(),
        "registration": {
            "part": part,
            "fiducials": [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes],
            "max_rotation_deg": 10.0,
            "max_scale_change": 0.06,
            "max_residual_px": 1.0,
            "min_score": 0.6,
        },
        "regions": [{"region_id": "field", "box": region, "pins": _pins(lattice)}],
        "defect_modes": list(MODES),
        "ask": "pins",
        "pins": {"instruction": report.PIN_INSTRUCTION, "tile_px": tile, "tile_model_px": MODEL_TILE_PX},
        "report": {
            "instruction": report.REPORT_INSTRUCTION,
            "images": 2,
            "width_model_px": _of_16(region["width"]),
            "height_model_px": _of_16(region["height"]),
        },
        "thresholds": {"ok_max_p_defect": 0.3, "not_ok_min_p_defect": 0.5, "min_mass": 0.95},
        "deadline_ms": 10000,
    }


def _pins(lattice: Lattice) -> list[Data]:
    """Name the pins A1, A2... row by row from the upper left."""
    letters = [chr(ord("A") + row) if lattice.rows <= 26 else f"R{row + 1}C" for row in range(lattice.rows)]
    ids = [f"{letter}{column + 1}" for letter in letters for column in range(lattice.columns)]
    places = lattice.places().round(1).tolist()
    return [{"pin_id": pin_id, "x": x, "y": y} for pin_id, (x, y) in zip(ids, places, strict=True)]


def _box(places: fiducials.Points, reach: float, picture: fiducials.Image) -> Data:
    height, width = picture.shape[:2]
    low = np.maximum(np.floor(places.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(places.max(axis=0) + reach), (width, height)).astype(int)
    return {"x": int(low[0]), "y": int(low[1]), "width": int(high[0] - low[0]), "height": int(high[1] - low[1])}


def _corners(box: Data) -> fiducials.Corners:
    return box["x"], box["y"], box["width"], box["height"]


def _of_16(side: int) -> int:
    return max(16, min(1024, 16 * round(side / 16)))


def _with_edits(draft: Data, path: Path) -> tuple[Data, tuple[str, ...]]:
    """Return the draft with what a person changed in recipe.yaml since the last run, and those keys."""
    if not path.exists():
        return draft, ()
    now = read_yaml(path, RecipeFile).value.model_dump(mode="json")
    taught = path.with_name(TAUGHT_NAME)
    last = json.loads(taught.read_text(encoding="utf-8")) if taught.exists() else {}
    kept: list[str] = []
    merged = merge(draft, now, last, "", kept)
    # The hash follows the picture, never the hand.
    merged["golden_sha256"] = draft["golden_sha256"]
    path.with_suffix(".yaml.before").write_bytes(path.read_bytes())
    return merged, tuple(key for key in kept if key != "golden_sha256")


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
