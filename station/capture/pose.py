"""Maps between the golden picture and a frame: (2, 3) similarity matrices, golden px -> frame px. Pure numpy.

A pixel's centre has whole coordinates; x points right, y down, so a positive rotation turns clockwise on the screen.
"""

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]
"""(n, 2), x and y."""


def similarity(rotation_deg: float, scale: float, fixed: tuple[float, float], to: tuple[float, float]) -> Matrix:
    """Return the similarity that takes the point `fixed` to `to`."""
    angle = math.radians(rotation_deg)
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, np.asarray(to) - turn @ np.asarray(fixed)])


def moved(matrix: Matrix, points: Points) -> Points:
    """Return the points where `matrix` puts them."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def of_box(matrix: Matrix, x: float, y: float) -> Matrix:
    """Return the map of the box whose corner is (x, y): box px -> frame px."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (x, y)
    return shifted


def at_factor(matrix: Matrix, factor: int) -> Matrix:
    """Return the same map when golden picture and frame are both made smaller by `factor`."""
    middle = (factor - 1) / 2
    smaller = matrix.copy()
    smaller[:, 2] = (matrix[:, :2] @ (middle, middle) + matrix[:, 2] - middle) / factor
    return smaller


def rotation_deg(matrix: Matrix) -> float:
    """Return the rotation of a similarity, -180..180."""
    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))


def scale(matrix: Matrix) -> float:
    """Return the scale of a similarity."""
    return math.hypot(matrix[0, 0], matrix[1, 0])
