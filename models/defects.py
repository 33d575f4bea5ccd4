"""Puts defects on the pins of good parts: missing, bent, deformed, contaminated, short.

In: scenes, which are changed in place, and which pin gets which mode, how severe. Deterministic from a seed. Sizes are
in units of the pin thickness t; places are plane coordinates, see `scenes`.
"""

import numpy as np
from scenes import MAX_COLUMNS, Scene

MODES = ("none", "missing", "bent", "deformed", "contaminated", "short")
NONE, MISSING, BENT, DEFORMED, CONTAMINATED, SHORT = range(6)

LIMITS_T = {BENT: (0.65, 1.30), DEFORMED: (0.0, 1.0), CONTAMINATED: (0.40, 0.95), SHORT: (0.25, 0.70)}
"""Size at severity 0 and 1: tip offset, grade of the deformation, diameter of the dirt, width of the bridge."""
BEND_LIMIT_T = 0.5
"""Truth where it is asked between what passes (`scenes.BENIGN_BEND_T`) and bends of severity 0: half the thickness off
centre is bent (IPC-A-610F 4.3.2)."""


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


def _place(s: Scene, i: int, p: int) -> tuple[float, float]:
    """Return pin p's plane coordinates."""
    row, column = p // MAX_COLUMNS, p % MAX_COLUMNS
    return column + float(s["stagger"][i]) * (row % 2), row * float(s["row_pitch"][i])


def _gap(s: Scene, i: int) -> float:
    """Return the free distance between the outlines of neighbours, in pitches."""
    t = float(s["thickness"][i])
    across = float(s["row_pitch"][i]) - float(s["blade"][i]) * t
    return min(1 - t, across) if s["rows"][i] > 1 else 1 - t
