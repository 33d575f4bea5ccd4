"""Products and their good parts as arrays. Deterministic from a seed.

A `scene` is a dict of arrays over N drawn parts: each part's design, its pins with their variation, and harmless dust,
bends and scratches. `defects` puts on pins what must be found, `render` turns a scene into grey values.
Plane coordinates: the unit is one pitch, pin (row r, column c) stands where `place_at` says, in a plain field at
(x=c, y=r).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
Scene = dict[str, Any]

MAX_ROWS, MAX_COLUMNS = 6, 12
MAX_PINS = MAX_ROWS * MAX_COLUMNS
DEFECTS = 3
"""Most defects on one part."""
BLOBS, BARS = DEFECTS + 2, DEFECTS + 1
"""Places in a scene for blobs (dirt, dust) and bars (shanks, bridges, fibres, slots, a scratch)."""
KEYS = 2
"""Most keying walls of a design."""
Key = tuple[float, float, float, float, float, float]
"""A keying wall: x0, y0, x1, y1, half its width, grey value."""
BENIGN_BEND_T = 0.35
"""A tip may stand this far off and the pin still passes; from 0.35 to 0.65 t nothing is demanded."""


@dataclass(frozen=True)
class Design:
    """What all parts of one product share; None is drawn anew for each part (training on many products)."""

    rows: int
    columns: int
    thickness: float
    """Pin thickness t in pitches."""
    squareness: float
    """Exponent of the outline: 2 round .. 8 nearly square."""
    base: float
    """Grey value of the housing's floor, 0..1."""
    pin: float
    """Grey value of a pin, 0..1."""
    collar: float
    """Grey of the ring around a pin's foot, as a share of the floor's."""
    wall: float
    """Grey value of the housing's wall."""
    margin: float
    """From the outer pins' centres to the wall, in pitches."""
    texture: float
    """Amplitude of the floor's structure."""
    row_pitch: float = 1.0
    """Distance of rows, in pitches."""
    stagger: float = 0.0
    """How far every second row is shifted to the right, in pitches."""
    blade: float = 1.0
    """Length of a pin's outline (along y) over its width, which is t: 1 for round and square pins."""
    keys: tuple[Key, ...] = ()
    floor_red: float = 1.0
    """Red of the housing over its grey value; with blue the same, green makes up for both."""
    floor_blue: float = 1.0
    pin_red: float = 1.0
    pin_blue: float = 1.0


PINS_27 = Design(3, 9, 0.48, 3.0, 0.20, 0.74, 0.62, 0.42, 1.15, 0.02)
"""The shipped product: 27 pins, 3 x 9."""


def draw_designs(rng: np.random.Generator, n: int, design: Design | None = None) -> Scene:
    """Return the design values of n parts, arrays of shape (n,)."""
    if design is not None:
        values = {key: np.full(n, value) for key, value in vars(design).items() if key != "keys"}
        return values | {"key": np.repeat(_keys(design.keys)[None], n, axis=0)}
    base = rng.uniform(0.04, 0.60, n)
    thickness = rng.uniform(0.30, 0.52, n)
    row_pitch = np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0.85, 1.5, n))
    longest = np.minimum(2.4, (row_pitch - 0.75 * thickness) / thickness)
    designs = {
        "rows": rng.integers(1, 6, n),
        "columns": rng.integers(3, 13, n),
        "thickness": thickness,
        "squareness": rng.choice([2.0, 2.0, 3.0, 4.0, 8.0], n),
        "base": base,
        "pin": np.clip(base + rng.uniform(0.25, 0.70, n), 0.0, 0.98),
        "collar": rng.uniform(0.45, 1.15, n),
        "wall": rng.uniform(0.05, 0.8, n),
        "margin": rng.uniform(0.70, 1.4, n),
        "texture": rng.uniform(0.0, 0.06, n),
        "row_pitch": row_pitch,
        "stagger": np.where(rng.random(n) < 0.3, 0.5, 0.0),
        "blade": np.where(rng.random(n) < 0.3, rng.uniform(1.0, np.maximum(1.0, longest)), 1.0),
        "key": _draw_keys(rng, row_pitch),
    }
    grey = rng.random(n) < 0.5  # half of the cameras see no colour
    for name in ("floor_red", "floor_blue", "pin_red", "pin_blue"):
        designs[name] = np.where(grey, 1.0, rng.uniform(0.6, 1.4, n))
    return designs


def _keys(keys: tuple[Key, ...]) -> np.ndarray:
    """Return bars (KEYS, 7) of a design's keying walls; the unused ones have no opacity."""
    bars = np.zeros((KEYS, 7))
    for k, key in enumerate(keys):
        bars[k] = *key, 1.0
    return bars


def _draw_keys(rng: np.random.Generator, row_pitch: np.ndarray) -> np.ndarray:
    """Return bars (n, KEYS, 7): walls between two columns or two rows, for some parts."""
    n = len(row_pitch)
    bars = np.zeros((n, KEYS, 7))
    for k in range(KEYS):
        along = rng.random(n) < 0.5
        at, start, length = rng.integers(-1, 9, n) + 0.5, rng.uniform(-1.2, 6, n), rng.uniform(0.4, 4, n)
        ends = [np.where(along, start, at), np.where(along, at * row_pitch, start)]
        ends += [np.where(along, start + length, at), np.where(along, at * row_pitch, start + length)]
        half = rng.uniform(0.03, 0.08, n)
        bars[:, k] = np.stack([*ends, half, rng.uniform(0.02, 0.8, n), rng.random(n) < 0.35], 1)
    return bars


def draw_parts(rng: np.random.Generator, designs: Scene) -> Scene:
    """Return scenes of good parts: each with its own variation and harmless dust, bends and scratches."""
    n = len(designs["rows"])
    t = designs["thickness"][:, None]
    angle = rng.uniform(0, 2 * np.pi, (n, MAX_PINS))
    benign = rng.random((n, MAX_PINS)) < 0.08
    offset = np.where(benign, rng.uniform(0, 0.9 * BENIGN_BEND_T, (n, MAX_PINS)), rng.normal(0, 0.045, (n, MAX_PINS)))
    index = np.arange(MAX_PINS)
    exists = (index // MAX_COLUMNS < designs["rows"][:, None]) & (index % MAX_COLUMNS < designs["columns"][:, None])
    scene = dict(designs)
    scene.update(
        part=np.arange(n),
        exists=exists,
        mode=np.zeros((n, MAX_PINS), dtype=np.int64),
        severity=np.zeros((n, MAX_PINS)),
        drawn=exists.astype(float),
        dx=offset * t * np.cos(angle),
        dy=offset * t * np.sin(angle),
        radius=0.5 * t * (1 + np.clip(rng.normal(0, 0.03, (n, MAX_PINS)), -0.08, 0.08)),
        stretch=1 + np.abs(np.clip(rng.normal(0, 0.03, (n, MAX_PINS)), -0.10, 0.10)),
        ripple=np.abs(rng.normal(0, 0.015, (n, MAX_PINS))),
        angle=angle,
        level=designs["pin"][:, None] * (1 + np.clip(rng.normal(0, 0.05, (n, MAX_PINS)), -0.15, 0.15)),
        wave=rng.uniform(-7, 7, (n, 5, 2)),
        phase=rng.uniform(0, 2 * np.pi, (n, 5)),
        tip=np.zeros((n, DEFECTS, 4)),  # x, y, radius, level; level 0 = none
        blob=np.zeros((n, BLOBS, 7)),  # x, y, radius, level, opacity, ripple, angle
        bar=np.zeros((n, BARS, 7)),  # x0, y0, x1, y1, half width, level, opacity
    )
    add_dust(rng, scene)
    return scene


def add_dust(rng: np.random.Generator, scene: Scene) -> None:
    """Put harmless things on the floor: specks below the limit anywhere, larger ones away from every pin, scratches."""
    n = len(scene["rows"])
    t, rows, columns = scene["thickness"], scene["rows"], scene["columns"]
    shift, row_pitch = scene["stagger"], scene["row_pitch"]
    for k in (BLOBS - 2, BLOBS - 1):
        small = rng.random(n) < 0.5
        # between four pins, the distance to the nearest pin is largest: a speck there touches none
        x = np.where(small, rng.uniform(-0.7, columns - 0.3), rng.integers(-1, columns + 1) + 0.5)
        y = np.where(small, rng.uniform(-0.7, rows - 0.3), rng.integers(-1, rows + 1) + 0.5) * row_pitch
        x = np.where(small, x, x + 0.5 * shift)
        radius = 0.5 * t * np.where(small, rng.uniform(0.04, 0.15, n), rng.uniform(0.1, 0.35, n))
        opacity = rng.uniform(0.3, 0.9, n) * (rng.random(n) < 0.35)
        level = rng.uniform(0.0, 0.9, n)
        scene["blob"][:, k] = np.stack([x, y, radius, level, opacity, np.full(n, 0.1), rng.uniform(0, 6.28, n)], 1)
    x, y = rng.uniform(-0.8, columns - 0.2), rng.uniform(-0.8, rows - 0.2)
    length, angle = rng.uniform(0.3, 2.0, n), rng.uniform(0, np.pi, n)
    opacity = rng.uniform(0.1, 0.35, n) * (rng.random(n) < 0.25)
    ends = [x, y, x + length * np.cos(angle), y + length * np.sin(angle)]
    level = np.clip(scene["base"] * rng.choice([0.5, 1.6], n), 0, 1)
    scene["bar"][:, BARS - 1] = np.stack([*ends, 0.03 * t, level, opacity], 1)


def extent(scene: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the field's width and height between the outer pins' centres, both (n,)."""
    return scene["columns"] - 1 + scene["stagger"] * (scene["rows"] > 1), (scene["rows"] - 1) * scene["row_pitch"]


def neighbour_distance(scene: Mapping[str, Array]) -> Array:
    """Return the distance of nearest neighbours in pitches, at most 1, (n,)."""
    across = (scene["row_pitch"] ** 2 + scene["stagger"] ** 2) ** 0.5
    return np.where(scene["rows"] > 1, np.minimum(1.0, across), 1.0)


def nearest_pin(scene: Mapping[str, Array], x: Array, y: Array, xp: ModuleType) -> tuple[Array, Array, Array]:
    """Return column, row and pin index of the layout place nearest to each plane coordinate, all (n, h, w).

    In a staggered field: of the nearest row.
    """
    n = x.shape[0]
    row = xp.floor(y / scene["row_pitch"].reshape(n, 1, 1) + 0.5)
    row = xp.minimum(xp.clip(row, 0, MAX_ROWS), scene["rows"].reshape(n, 1, 1) - 1.0)
    shift = scene["stagger"].reshape(n, 1, 1) * (row % 2)
    column = xp.clip(xp.floor(x - shift + 0.5), 0, MAX_COLUMNS)
    column = xp.minimum(column, scene["columns"].reshape(n, 1, 1) - 1.0)
    index = row * MAX_COLUMNS + column
    return column, row, index.astype(np.int64) if xp is np else index.long()


def place_at(scene: Mapping[str, Array], row: Array, column: Array) -> tuple[Array, Array]:
    """Return plane coordinates x, y of the pin at each pixel's row and column, all (n, h, w)."""
    n = row.shape[0]
    shift = scene["stagger"].reshape(n, 1, 1) * (row % 2)
    return column + shift, row * scene["row_pitch"].reshape(n, 1, 1)


def copy_scene(scene: Scene) -> Scene:
    """Return a deep copy."""
    return {key: np.array(value, copy=True) for key, value in scene.items()}
