"""Tells whether every second row of a lattice is shifted by half a step, as in many connectors.

In: the spots of a picture (see `lattice.spots`) and a straight lattice fitted to them. Out: the lattice, shifted if
that sits on clearly more spots. A staggered field makes the straight fit lean by part of a step, so leans are tried.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from calibration.lattice import Lattice

LEANS = tuple(round(0.05 * k, 2) for k in range(-10, 11))
"""Tried changes of the step down, in steps to the right."""
LEAST_GAIN = 0.15
"""By how much the mean of the spots must grow."""


def with_stagger(spots: npt.NDArray[Any], lattice: "Lattice") -> "Lattice":
    """Return the lattice, or the same with every second row shifted by half a step to the right or left."""
    if lattice.rows == 1 or lattice.columns == 1:
        return lattice
    near = np.asarray(cv2.dilate(spots, np.ones((5, 5), np.uint8)))
    best = max(_shifted(lattice), key=lambda one: _height(near, one))
    return best if _height(near, best) >= _height(near, lattice) + LEAST_GAIN else lattice


def _shifted(lattice: "Lattice") -> list["Lattice"]:
    down, right = np.array(lattice.down), np.array(lattice.right)
    steps = [(float(x), float(y)) for x, y in (down + lean * right for lean in LEANS)]
    return [replace(lattice, down=step, stagger=stagger) for step in steps for stagger in (0.5, -0.5)]


def _height(near: npt.NDArray[Any], lattice: "Lattice") -> float:
    """Return the mean of the spots at the lattice's places; a place outside the picture is no spot."""
    x, y = np.round(lattice.places()).astype(int).T
    height, width = near.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return float(np.where(inside, near[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], 0.0).mean())
