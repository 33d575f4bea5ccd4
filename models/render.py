"""Draws light and pixels: scenes become grey values at any plane coordinates, and colours.

The same lines draw one pin's tile, a region or a whole camera frame, with numpy on a CPU or torch on a GPU (`xp`).
What a scene is, and plane coordinates: `scenes`.
"""

from collections.abc import Mapping
from types import ModuleType

import numpy as np
from scenes import DEFECTS, Array, extent, nearest_pin, place_at


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


def _wall(at: _Plane, grey: Array) -> Array:
    """Outside the floor stands the housing's wall, as far as a region may see it."""
    x, y, xp, m = at.x, at.y, at.xp, at.whole("margin")
    width, height = (value.reshape(at.n, 1, 1) for value in extent(at.scene))
    right, bottom = width + m, height + m
    edge = xp.minimum(xp.minimum(x + m, right - x), xp.minimum(y + m, bottom - y))
    floor = _cover(edge, at.sharp, xp)
    shadow = 1 - 0.25 * xp.exp(-(xp.clip(edge, 0.0, 9.0) ** 2) * 60.0)
    return grey * shadow * floor + at.whole("wall") * (1 - floor)


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


def draw_light(rng: np.random.Generator, n: int, spread: float = 1.0) -> dict[str, np.ndarray]:
    """Return the lamp of n pictures; `spread` 0 is the nominal lamp of a golden picture."""
    return {
        "hx": -0.12 + spread * rng.uniform(-0.12, 0.12, n),
        "hy": -0.12 + spread * rng.uniform(-0.12, 0.12, n),
        "gain": 1.0 + spread * rng.uniform(-0.20, 0.15, n),
        "slope_x": spread * rng.uniform(-0.12, 0.12, n),
        "slope_y": spread * rng.uniform(-0.12, 0.12, n),
    }
