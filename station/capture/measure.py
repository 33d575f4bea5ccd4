"""Measures each pin without the model: is it there, how far does it stand off, how bright is it.

In: a region's crop and the golden picture's, on one grid. Out: a PinMeasure a pin, in recipe order. A pin is the golden
picture's patch around its place, searched for in the crop by normalised correlation: the highest correlation is its
presence, where it lies (to a fraction of a pixel, by a parabola through its neighbours) its offset. Light and gain
do not count. About 0.1 ms a pin; runs in capture's one thread.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from station.recipe import Pin, Region
from station.records import PinMeasure, RegionCrop

PATCH = 0.42
"""Half side of the patch, in pitches: a pin with its shade, without its neighbours."""
REACH = 0.35
"""How far a pin may stand off and still be found, in pitches."""
TIP = 0.15
"""Radius of the place whose mean is the brightness, in pitches."""

Grey = npt.NDArray[np.uint8]


class PinMeasurer:
    """Measures the pins of one region; keeps the golden patches. `px_per_mm` None: not known."""

    def __init__(self, region: Region, golden: RegionCrop, px_per_mm: float | None) -> None:
        self._region, self._px_per_mm = region, px_per_mm
        self._half = max(3, round(PATCH * region.pitch_px))
        self._reach = max(2, round(REACH * region.pitch_px))
        self._tip = max(1, round(TIP * region.pitch_px))
        self._border = self._half + self._reach
        grey = _padded(golden, self._border)
        self._patches = [self._cut(grey, pin, self._half) for pin in region.pins]

    def measure(self, crop: RegionCrop) -> tuple[PinMeasure, ...]:
        """Return what is measured at each pin."""
        grey = _padded(crop, self._border)
        return tuple(
            self._measured(pin, patch, grey) for pin, patch in zip(self._region.pins, self._patches, strict=True)
        )

    def _measured(self, pin: Pin, patch: Grey, grey: Grey) -> PinMeasure:
        window = self._cut(grey, pin, self._half + self._reach)
        presence, dx, dy = _best(
            np.asarray(cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED), np.float32), self._reach
        )
        return PinMeasure(
            presence=round(presence, 4),
            offset_x_px=round(dx, 2),
            offset_y_px=round(dy, 2),
            offset_mm=None if self._px_per_mm is None else round(math.hypot(dx, dy) / self._px_per_mm, 4),
            brightness=round(float(self._cut(grey, pin, self._tip).mean()), 1),
        )

    def _cut(self, grey: Grey, pin: Pin, half: int) -> Grey:
        """Return the square of `half` to each side of the pin; `grey` has a border all around."""
        x = round(pin.x) - self._region.box.x + self._border
        y = round(pin.y) - self._region.box.y + self._border
        return grey[y - half : y + half + 1, x - half : x + half + 1]


def _padded(crop: RegionCrop, by: int) -> Grey:
    pixels = np.frombuffer(crop.pixels_rgb, np.uint8).reshape(crop.height_px, crop.width_px, 3)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.copyMakeBorder(grey, by, by, by, by, cv2.BORDER_REPLICATE), np.uint8)


def _best(found: npt.NDArray[np.float32], reach: int) -> tuple[float, float, float]:
    """Return the highest correlation and where it is, from the middle, to a fraction of a pixel."""
    found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    row, column = divmod(int(found.argmax()), found.shape[1])
    return (
        float(min(1.0, found[row, column])),
        column - reach + _vertex(found[row], column),
        row - reach + _vertex(found[:, column], row),
    )


def _vertex(line: npt.NDArray[np.float32], at: int) -> float:
    """Return how far the top of the parabola through three neighbours lies from the middle one, -0.5..0.5."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, top, after = (float(value) for value in line[at - 1 : at + 2])
    bend = before - 2 * top + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))
