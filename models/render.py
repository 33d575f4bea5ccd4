"""Draws camera-like pictures of pin fields, with known answers. Deterministic from a seed.

A `scene` is a dict of arrays over N drawn parts; `shade` turns it into grey values at any plane coordinates, so the
same lines draw one pin's tile, a region or a whole camera frame, with numpy on a CPU or torch on a GPU (`xp`).
Plane coordinates: the unit is one pitch, pin (row r, column c) stands where `place_at` says, in a plain field at
(x=c, y=r). Sizes of defects are in units of the pin thickness t.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
Scene = dict[str, Any]

MODES = ("none", "missing", "bent", "deformed", "contaminated", "short")
NONE, MISSING, BENT, DEFORMED, CONTAMINATED, SHORT = range(6)
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

LIMITS_T = {BENT: (0.65, 1.30), DEFORMED: (0.0, 1.0), CONTAMINATED: (0.40, 0.95), SHORT: (0.25, 0.70)}
"""Size at severity 0 and 1: tip offset, grade of the deformation, diameter of the dirt, width of the bridge."""
BENIGN_BEND_T = 0.35
"""A tip may stand this far off and the pin still passes; from 0.35 to 0.65 t nothing is demanded."""
BEND_LIMIT_T = 0.5
"""Truth where it is asked between the two: half the thickness off centre is bent (IPC-A-610F 4.3.2)."""


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


def extent(scene: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the field's width and height between the outer pins' centres, both (n,)."""
    return scene["columns"] - 1 + scene["stagger"] * (scene["rows"] > 1), (scene["rows"] - 1) * scene["row_pitch"]


def neighbour_distance(scene: Mapping[str, Array]) -> Array:
    """Return the distance of nearest neighbours in pitches, at most 1, (n,)."""
    across = (scene["row_pitch"] ** 2 + scene["stagger"] ** 2) ** 0.5
    return np.where(scene["rows"] > 1, np.minimum(1.0, across), 1.0)


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


def put_defects(
    rng: np.random.Generator, scene: Scene, pins: np.ndarray, modes: np.ndarray, severities: np.ndarray
) -> None:
    """Put defect k of scene i on pin `pins[i, k]` (index row * MAX_COLUMNS + column) where `modes[i, k]` is not NONE.

    All three arrays have shape (n, up to DEFECTS). Severity 0 is just past the limit, 1 is obvious. A pin has one
    defect: where there is one already, nothing is put.
    """
    for k in range(pins.shape[1]):
        for i in np.flatnonzero(modes[:, k]):
            if scene["mode"][i, pins[i, k]] == NONE:
                _put_defect(rng, scene, int(i), k, int(pins[i, k]), int(modes[i, k]), float(severities[i, k]))


def _put_defect(rng: np.random.Generator, s: Scene, i: int, k: int, p: int, mode: int, severity: float) -> None:
    x, y = _place(s, i, p)
    t = float(s["thickness"][i])
    a = rng.uniform(0, 2 * np.pi)
    level = float(s["level"][i, p])
    if mode == SHORT and not _free_neighbours(s, i, p):
        return
    s["mode"][i, p], s["severity"][i, p] = mode, severity
    low, high = LIMITS_T.get(mode, (0.0, 0.0))
    if mode == BENT:  # a tip that touches its neighbour would be a short
        high = min(high, _gap(s, i) / t - 0.04)
    size = (low + (high - low) * severity) * t
    if mode == MISSING:
        s["drawn"][i, p] = 0
    elif mode == BENT:
        _bend(rng, s, i, k, p, size, a)
    elif mode == DEFORMED:
        _deform(rng, s, i, k, p, severity, a)
    elif mode == CONTAMINATED:
        _soil(rng, s, i, k, (x, y), size, level)
    elif mode == SHORT:
        _bridge(rng, s, i, k, p, size, level)


def put_bends(rng: np.random.Generator, scene: Scene, k: int, pins: np.ndarray, offsets_t: np.ndarray) -> None:
    """Bend pin `pins[i]` of scene i by `offsets_t[i]`, as defect k of its part; 0 bends none. Both (n,).

    Up to BEND_LIMIT_T it is drawn as a bend is, with shank and empty foot, but passes: its mode stays NONE. Where there
    is a defect already, nothing is put.
    """
    for i in np.flatnonzero(offsets_t):
        p, t = int(pins[i]), float(scene["thickness"][i])
        if scene["mode"][i, p] == NONE:
            offset = min(float(offsets_t[i]) * t, _gap(scene, int(i)) - 0.04 * t)  # as in _put_defect
            scene["mode"][i, p] = BENT if offset > BEND_LIMIT_T * t else NONE
            _bend(rng, scene, int(i), k, p, offset, rng.uniform(0, 2 * np.pi))


def _bend(rng: np.random.Generator, s: Scene, i: int, k: int, p: int, offset: float, a: float) -> None:
    """The tip stands off in direction `a`, in pitches; its shank is seen, and the hole it left."""
    x, y = _place(s, i, p)
    t, level = float(s["thickness"][i]), float(s["level"][i, p])
    s["drawn"][i, p] = 0
    tx, ty = x + offset * np.cos(a), y + offset * np.sin(a)
    s["tip"][i, k] = tx, ty, s["radius"][i, p] * rng.uniform(0.92, 1.0), level * rng.uniform(0.85, 1.0)
    s["bar"][i, k] = x, y, tx, ty, 0.36 * t, level * rng.uniform(0.45, 0.75), 1.0


def _place(s: Scene, i: int, p: int) -> tuple[float, float]:
    """Return pin p's plane coordinates."""
    row, column = p // MAX_COLUMNS, p % MAX_COLUMNS
    return column + float(s["stagger"][i]) * (row % 2), row * float(s["row_pitch"][i])


def _gap(s: Scene, i: int) -> float:
    """Return the free distance between the outlines of neighbours, in pitches."""
    t = float(s["thickness"][i])
    across = float(s["row_pitch"][i]) - float(s["blade"][i]) * t
    return min(1 - t, across) if s["rows"][i] > 1 else 1 - t


def _deform(rng: np.random.Generator, s: Scene, i: int, k: int, p: int, severity: float, a: float) -> None:
    """Flattened, crushed or split."""
    x, y = _place(s, i, p)
    t = s["thickness"][i]
    kind = rng.integers(3)
    if kind == 0:
        s["stretch"][i, p] = 1.50 + 0.8 * severity
    elif kind == 1:
        s["ripple"][i, p] = 0.24 + 0.22 * severity
        s["radius"][i, p] *= 0.92
    else:
        x, y, h = x + s["dx"][i, p], y + s["dy"][i, p], 0.40 * t
        dx, dy = h * np.cos(a), h * np.sin(a)
        s["bar"][i, k] = x - dx, y - dy, x + dx, y + dy, (0.08 + 0.07 * severity) * t, 0.5 * s["base"][i], 0.95


def _soil(
    rng: np.random.Generator, s: Scene, i: int, k: int, xy: tuple[float, float], size: float, level: float
) -> None:
    """A lump of dirt on the pin; for one in five a fibre across it. Visibly darker than the pin."""
    t, a, r = float(s["thickness"][i]), rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.40)
    x, y = xy[0] + r * t * np.cos(a), xy[1] + r * t * np.sin(a)
    dark = rng.uniform(0.0, 0.55) * level
    if rng.random() < 0.2:
        b, h = rng.uniform(0, np.pi), rng.uniform(0.8, 1.2) * t
        dx, dy = h * np.cos(b), h * np.sin(b)
        s["bar"][i, k] = x - dx, y - dy, x + dx, y + dy, (0.02 + 0.12 * size / t) * t, 0.8 * dark, 0.95
    else:
        s["blob"][i, k] = x, y, 0.5 * size, dark, rng.uniform(0.85, 1.0), rng.uniform(0, 0.2), a


def _bridge(rng: np.random.Generator, s: Scene, i: int, k: int, p: int, width: float, level: float) -> None:
    """Metal between this pin and a neighbour that has no defect of its own; both are short."""
    row, column = p // MAX_COLUMNS, p % MAX_COLUMNS
    steps = _free_neighbours(s, i, p)
    r, c = steps[rng.integers(len(steps))]
    other = (row + r) * MAX_COLUMNS + column + c
    s["mode"][i, other], s["severity"][i, other] = SHORT, s["severity"][i, p]
    metal = level * rng.uniform(0.75, 1.1)
    s["bar"][i, k] = *_place(s, i, p), *_place(s, i, other), 0.5 * width, min(metal, 1.0), 1.0


def _free_neighbours(s: Scene, i: int, p: int) -> list[tuple[int, int]]:
    """Return the steps (rows, columns) to neighbours without a defect."""
    rows, columns = int(s["rows"][i]), int(s["columns"][i])
    row, column = p // MAX_COLUMNS, p % MAX_COLUMNS
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    inside = [(r, c) for r, c in steps if 0 <= row + r < rows and 0 <= column + c < columns]
    return [(r, c) for r, c in inside if s["mode"][i, (row + r) * MAX_COLUMNS + column + c] == NONE]


def copy_scene(scene: Scene) -> Scene:
    """Return a deep copy."""
    return {key: np.array(value, copy=True) for key, value in scene.items()}


def shade(
    scene: Mapping[str, Array], x: Array, y: Array, sharp: Array, light: Mapping[str, Array], xp: ModuleType
) -> Array:
    """Return grey values 0..1 of shape (n, h, w) at plane coordinates x, y of that shape.

    `sharp` (n, 1, 1): pixels per pitch, sets how wide an edge is. `light`: hx, hy (highlight offset in t), gain,
    slope_x, slope_y (n,). `xp` is numpy or torch.
    """
    n = x.shape[0]
    at = _Plane(scene, x, y, sharp, light, xp)
    grey = _wall(at, _holes(at, _texture(at)))
    for k in range(scene["key"].shape[1]):
        grey = _bar(scene["key"][:, k], x, y, grey, sharp, n, xp)
    grey = _pins(at, grey)
    for k in range(scene["bar"].shape[1]):
        grey = _bar(scene["bar"][:, k], x, y, grey, sharp, n, xp)
    for k in range(DEFECTS):
        grey = _tip(at, scene["tip"][:, k], grey)
    for k in range(scene["blob"].shape[1]):
        grey = _blob(scene["blob"][:, k], x, y, grey, sharp, n, xp)
    shape = (n, 1, 1)
    slope = 1 + light["slope_x"].reshape(shape) * (x - 0.5 * at.whole("columns")) / 8
    slope = slope + light["slope_y"].reshape(shape) * (y - 0.5 * at.whole("rows")) / 8
    return grey * slope * light["gain"].reshape(shape)


class _Plane:
    """What every part of a picture is drawn from: the scene at each pixel's plane coordinates."""

    def __init__(
        self, scene: Mapping[str, Array], x: Array, y: Array, sharp: Array, light: Mapping[str, Array], xp: ModuleType
    ) -> None:
        self.scene, self.x, self.y, self.sharp, self.light, self.xp = scene, x, y, sharp, light, xp
        self.n = x.shape[0]
        self.column, self.row, self.index = nearest_pin(scene, x, y, xp)

        self.place_x, self.place_y = place_at(scene, self.row, self.column)

    def whole(self, key: str) -> Array:
        """Return a value of each part, (n, 1, 1)."""
        return self.scene[key].reshape(self.n, 1, 1)

    def pin(self, key: str) -> Array:
        """Return a value of the pin nearest to each pixel, (n, h, w)."""
        return self.scene[key][self.scene["part"].reshape(self.n, 1, 1), self.index]


def _texture(at: _Plane) -> Array:
    grey, shape = at.whole("base"), (at.n, 1, 1)
    for k in range(5):
        u, v = at.scene["wave"][:, k, 0].reshape(shape), at.scene["wave"][:, k, 1].reshape(shape)
        wave = at.xp.sin(u * at.x + v * at.y + at.scene["phase"][:, k].reshape(shape))
        grey = grey + 0.45 * at.whole("texture") * wave
    return grey


def _holes(at: _Plane, grey: Array) -> Array:
    """A collar around each place, and the dark hole that a missing or bent pin leaves."""
    t, xp = at.whole("thickness"), at.xp
    away = xp.sqrt((at.x - at.place_x) ** 2 + ((at.y - at.place_y) / at.whole("blade")) ** 2)
    grey = grey * (1 - _cover(1.35 * 0.5 * t - away, at.sharp, xp) * (1 - at.whole("collar")))
    return grey * (1 - 0.55 * _cover(0.36 * t - away, at.sharp, xp) * (1 - at.pin("drawn")))


def _pins(at: _Plane, grey: Array) -> Array:
    """The pins that stand in their own cell, flattened and crushed ones too."""
    xp = at.xp
    fx, fy = at.x - at.place_x - at.pin("dx"), (at.y - at.place_y - at.pin("dy")) / at.whole("blade")
    ca, sa, stretch = xp.cos(at.pin("angle")), xp.sin(at.pin("angle")), at.pin("stretch")
    u, v = (ca * fx + sa * fy) * xp.sqrt(stretch), (-sa * fx + ca * fy) / xp.sqrt(stretch)
    away = xp.sqrt(u * u + v * v) + 1e-6
    # flattened pins keep their area; the outline's ripple has three lobes: cos 3a = 4 cos^3 a - 3 cos a
    ripple = at.pin("ripple") * (4 * (u / away) ** 3 - 3 * (u / away))
    free = (stretch > 1.3) | (at.pin("ripple") > 0.15)
    distance = xp.where(free, away / (1 + ripple), _rounded(at, fx, fy))
    radius = at.pin("radius")
    body = _metal(fx, fy, distance / radius, at.pin("level"), at.whole("thickness"), at.light, at.n, xp)
    cover = _cover(radius - distance, at.sharp, xp) * at.pin("drawn")
    return grey * (1 - cover) + cover * body


def _rounded(at: _Plane, fx: Array, fy: Array) -> Array:
    """Distance in the norm of the design's outline, round to nearly square."""
    q = at.whole("squareness")
    return (at.xp.abs(fx) ** q + at.xp.abs(fy) ** q + 1e-9) ** (1 / q)


def _tip(at: _Plane, tip: Array, grey: Array) -> Array:
    """A bent pin's tip, wherever it went."""
    fx, fy = at.x - tip[:, 0].reshape(at.n, 1, 1), (at.y - tip[:, 1].reshape(at.n, 1, 1)) / at.whole("blade")
    radius, level = tip[:, 2].reshape(at.n, 1, 1) + 1e-6, tip[:, 3].reshape(at.n, 1, 1)
    distance = _rounded(at, fx, fy)
    cover = _cover(radius - distance, at.sharp, at.xp) * (level > 0)
    body = _metal(fx, fy, distance / radius, level, at.whole("thickness"), at.light, at.n, at.xp)
    return grey * (1 - cover) + cover * body


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


def _cover(inside: Array, sharp: Array, xp: ModuleType) -> Array:
    """Share of a pixel that is covered, from the signed distance to the edge in pitches."""
    return xp.clip(0.5 + inside * sharp, 0.0, 1.0)


def _metal(
    fx: Array, fy: Array, d: Array, level: Array, t: Array, light: Mapping[str, Array], n: int, xp: ModuleType
) -> Array:
    """Grey of a pin's top: a rim that falls off, a highlight towards the lamp."""
    hx, hy = fx / t - light["hx"].reshape(n, 1, 1), fy / t - light["hy"].reshape(n, 1, 1)
    rim = 1 - 0.35 * xp.clip((d - 0.62) / 0.38, 0.0, 1.0)
    return level * (0.86 * rim + 0.30 * xp.exp(-(hx * hx + hy * hy) * 14.0))


def _bar(bar: Array, x: Array, y: Array, grey: Array, sharp: Array, n: int, xp: ModuleType) -> Array:
    if xp is np and not bar[:, 6].any():
        return grey
    x0, y0, x1, y1, half, level, opacity = (bar[:, j].reshape(n, 1, 1) for j in range(7))
    dx, dy = x1 - x0, y1 - y0
    along = xp.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0.0, 1.0)
    ex, ey = x - x0 - along * dx, y - y0 - along * dy
    cover = _cover(half - xp.sqrt(ex * ex + ey * ey), sharp, xp) * opacity
    return grey * (1 - cover) + cover * level


def _blob(blob: Array, x: Array, y: Array, grey: Array, sharp: Array, n: int, xp: ModuleType) -> Array:
    if xp is np and not blob[:, 4].any():
        return grey
    cx, cy, radius, level, opacity, ripple, angle = (blob[:, j].reshape(n, 1, 1) for j in range(7))
    dx, dy = x - cx, y - cy
    r = xp.sqrt(dx * dx + dy * dy) + 1e-6
    c = (dx * xp.cos(angle) + dy * xp.sin(angle)) / r
    cover = _cover(radius * (1 + ripple * (4 * c * c * c - 3 * c)) - r, sharp, xp) * opacity
    return grey * (1 - cover) + cover * level


def coloured(grey: Array, scene: Mapping[str, Array], xp: ModuleType) -> Array:
    """Return grey values (n, h, w), 0..255, as red, green and blue (n, 3, h, w) of the same mean; one camera's colours.

    Dark pixels have the housing's tint, bright ones the plating's.
    """
    shape = (grey.shape[0], 1, 1)
    base, pin = 255 * scene["base"].reshape(shape), 255 * scene["pin"].reshape(shape)
    share = xp.clip((grey - base) / (pin - base), 0.0, 1.0)
    red, blue = (
        scene[f"floor_{name}"].reshape(shape) * (1 - share) + scene[f"pin_{name}"].reshape(shape) * share
        for name in ("red", "blue")
    )
    channels = [red * grey, (3 - red - blue) * grey, blue * grey]
    return xp.round(xp.clip(xp.stack(channels, 1), 0, 255))


def _wall(at: _Plane, grey: Array) -> Array:
    """Outside the floor stands the housing's wall, as far as a region may see it."""
    x, y, xp, m = at.x, at.y, at.xp, at.whole("margin")
    width, height = (value.reshape(at.n, 1, 1) for value in extent(at.scene))
    right, bottom = width + m, height + m
    edge = xp.minimum(xp.minimum(x + m, right - x), xp.minimum(y + m, bottom - y))
    floor = _cover(edge, at.sharp, xp)
    shadow = 1 - 0.25 * xp.exp(-(xp.clip(edge, 0.0, 9.0) ** 2) * 60.0)
    return grey * shadow * floor + at.whole("wall") * (1 - floor)


def draw_light(rng: np.random.Generator, n: int, spread: float = 1.0) -> dict[str, np.ndarray]:
    """Return the lamp of n pictures; `spread` 0 is the nominal lamp of a golden picture."""
    return {
        "hx": -0.12 + spread * rng.uniform(-0.12, 0.12, n),
        "hy": -0.12 + spread * rng.uniform(-0.12, 0.12, n),
        "gain": 1.0 + spread * rng.uniform(-0.20, 0.15, n),
        "slope_x": spread * rng.uniform(-0.12, 0.12, n),
        "slope_y": spread * rng.uniform(-0.12, 0.12, n),
    }
