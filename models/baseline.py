"""The plain OpenCV inspector every model must beat: per-pin difference to the golden picture.

A pin's score is the largest blurred absolute difference of its tile's middle to the golden tile, after the lamp's gain
is taken out. One limit for all pins, set on parts that are not measured.
"""

import cv2
import numpy as np
import numpy.typing as npt

from station.recipe import Region

Pixels = npt.NDArray[np.uint8]


def pin_scores(region: Region, golden: Pixels, test: Pixels) -> npt.NDArray[np.float64]:
    """Return one score per pin of the region; `golden`, `test` are its crops (height, width, 3)."""
    reference, seen = (cv2.GaussianBlur(crop[..., 0].astype(np.float32), (0, 0), 1.2) for crop in (golden, test))
    gain = float((reference * seen).sum() / max(1.0, float((seen * seen).sum())))
    difference = cv2.blur(np.abs(seen * gain - reference), (5, 5))
    return np.array([_around(difference, pin.x - region.box.x, pin.y - region.box.y) for pin in region.pins])


def _around(difference: npt.NDArray[np.float32], x: float, y: float, reach: int = 17) -> float:
    row, column = round(y), round(x)
    return float(difference[row - reach : row + reach + 1, column - reach : column + reach + 1].max())


def best_limit(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> float:
    """Return the limit on a part's largest score with the fewest wrong judgements."""
    candidates = np.unique(np.concatenate([good, bad]))
    wrong = [(good >= limit).sum() + (bad < limit).sum() for limit in candidates]
    return float(candidates[int(np.argmin(wrong))])
