"""Blindness and defects planted into a region's crop, to see whether the model notices. Pure.

Crops are (height, width, 3) RGB uint8 on the golden grid; places are golden pixels. Lengths are shares of the pitch,
the distance of the two nearest pins, so that one rule serves every product. What comes out is a new array.
"""

import math

import numpy as np
import numpy.typing as npt

from station.recipe import Pin, Region

Pixels = npt.NDArray[np.uint8]

PIN_RADIUS = 0.46
"""Of a pin with its shade, in pitches: what is taken away with it."""
BASE_RING = (0.56, 0.74)
"""Where the bare base is seen around a pin, in pitches."""
BRIDGE_WIDTH = 0.3
TIP_RADIUS = 0.15
"""In pitches; its middle grey is the pin's."""


def flat(crop: Pixels, level: int | None = None) -> Pixels:
    """Return a crop of one grey; None: the crop's own mean, as of a lamp without a part."""
    return np.full_like(crop, round(float(crop.mean())) if level is None else level)


def noise(crop: Pixels, seed: int) -> Pixels:
    """Return grey noise, mean 128, standard deviation 60."""
    grey = 128 + 60 * np.random.default_rng(seed).standard_normal(crop.shape[:2])
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def shifted(crop: Pixels, x_px: int, y_px: int) -> Pixels:
    """Return the crop moved right and down; what comes in repeats the border."""
    height, width = crop.shape[:2]
    rows = np.clip(np.arange(height) - y_px, 0, height - 1)
    columns = np.clip(np.arange(width) - x_px, 0, width - 1)
    return crop[rows][:, columns]


def without_pin(crop: Pixels, region: Region, pin: Pin) -> Pixels:
    """Return the crop with the base where the pin was: every pixel a copy of one of the bare ring around it."""
    pitch, away = region.pitch_px, _distance(crop, region, pin)
    ring = crop[(away >= BASE_RING[0] * pitch) & (away <= BASE_RING[1] * pitch)]
    order = np.argsort(ring.sum(axis=1, dtype=np.int64))
    base = ring[order[len(order) // 4 : 3 * len(order) // 4]]  # neighbours reach into the ring: keep its middle half
    hole = away < PIN_RADIUS * pitch
    changed = crop.copy()
    changed[hole] = base[np.random.default_rng(0).integers(len(base), size=int(hole.sum()))]
    return changed


def bent(crop: Pixels, region: Region, pin: Pin, pitches: float) -> Pixels:
    """Return the crop with the pin so far aside, to the right and down in equal parts."""
    step = max(1, round(pitches * region.pitch_px / math.sqrt(2)))
    bare, moved = without_pin(crop, region, pin), shifted(crop, step, step)
    tip = _distance(crop, region, pin, step, step) < PIN_RADIUS * region.pitch_px
    bare[tip] = moved[tip]
    return bare


def bridged(crop: Pixels, region: Region, pin: Pin) -> Pixels:
    """Return the crop with a bar of the pin's own grey from the pin to its nearest neighbour."""
    pitch, away, to = region.pitch_px, _distance(crop, region, pin), neighbour(region, pin)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    start = np.array([pin.x - region.box.x, pin.y - region.box.y])
    along = np.array([to.x - pin.x, to.y - pin.y]) if to else np.array([pitch, 0.0])
    part = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / float(along @ along), 0, 1)
    aside = np.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1])
    changed = crop.copy()
    changed[aside <= BRIDGE_WIDTH * pitch / 2] = np.median(crop[away < TIP_RADIUS * pitch], axis=0).astype(np.uint8)
    return changed


def neighbour(region: Region, pin: Pin) -> Pin | None:
    """Return the nearest other pin, None if there is no other."""
    others = [other for other in region.pins if other != pin]
    return min(others, key=lambda other: math.dist((other.x, other.y), (pin.x, pin.y)), default=None)


def _distance(crop: Pixels, region: Region, pin: Pin, x_px: int = 0, y_px: int = 0) -> npt.NDArray[np.float64]:
    """Return each pixel's distance from the pin's place, moved by (x_px, y_px)."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.asarray(np.hypot(x + region.box.x - pin.x - x_px, y + region.box.y - pin.y - y_px))
