"""The plain OpenCV inspector every model must beat: per-pin difference to the golden picture.

A pin's score is the largest blurred absolute difference of its tile's middle to the golden tile, after the lamp's gain
is taken out. One limit for all pins, set on parts that are not measured.
"""

import cv2
import numpy as np
import numpy.typing as npt

from station.recipe import Region

Pixels = npt.NDArray[np.uint8]


def pin_scores(region: Region, golden: Pixels, test: Pixels, reach_px: int = 17) -> npt.NDArray[np.float64]:
    """Return one score per pin of the region; `golden`, `test` are its crops (height, width, 3).

    `reach_px`: how far around the pin's centre is looked; a little less than half the pitch.
    """
    grey = (crop.mean(axis=2, dtype=np.float32) for crop in (golden, test))
    reference, seen = (cv2.GaussianBlur(pixels, (0, 0), 1.2) for pixels in grey)
    gain = float((reference * seen).sum() / max(1.0, float((seen * seen).sum())))
    difference = cv2.blur(np.abs(seen * gain - reference), (5, 5))
    places = [(round(pin.x) - region.box.x, round(pin.y) - region.box.y) for pin in region.pins]
    return np.array([_around(difference, x, y, reach_px) for x, y in places])


def _around(difference: npt.NDArray[np.float32], x: int, y: int, reach: int) -> float:
    return float(difference[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].max())


def best_limit(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> float:
    """Return the limit on a part's largest score with the fewest wrong judgements."""
    candidates = np.unique(np.concatenate([good, bad]))
    wrong = [(good >= limit).sum() + (bad < limit).sum() for limit in candidates]
    return float(candidates[int(np.argmin(wrong))])
