"""Shapes that a person drew on a golden picture with an annotation tool. Pure.

Coordinates are px from the picture's upper left corner, x to the right, y down: the middle of the first pixel is at
(0.5, 0.5). Recipes count from the middle of the first pixel, see `Shape.middle`.
"""

import math
from collections.abc import Iterable, Sequence

from station.errors import ConfigurationError
from station.records import Record

MOST_SHAPES = 999
MOST_CORNERS = 10_000
ROUNDING_PX = 1.0
"""How far a shape may stand out of the picture: tools round."""

Corner = tuple[float, float]


class Shape(Record):
    """The upright box around what was drawn, and its label."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> Corner:
        """x, y in px of a recipe."""
        return (self.left + self.right) / 2 - 0.5, (self.top + self.bottom) / 2 - 0.5

    @property
    def side_px(self) -> float:
        """The longer side; 0 of a point."""
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def area(self) -> float:
        """In px^2."""
        return (self.right - self.left) * (self.bottom - self.top)

    def holds(self, other: "Shape") -> bool:
        """Return True when the other one is inside and less than half as large."""
        return (
            self.left - ROUNDING_PX <= other.left
            and self.top - ROUNDING_PX <= other.top
            and other.right <= self.right + ROUNDING_PX
            and other.bottom <= self.bottom + ROUNDING_PX
            and 2 * other.area < self.area
        )


class Drawn(Record):
    """What one file says of one picture."""

    size_px: tuple[int, int] | None
    """(width, height) of the picture, as the file says; None: it does not."""
    shapes: tuple[Shape, ...]


def wrong(where: str, text: str) -> ConfigurationError:
    """Return the error for a file that cannot be imported; names in it are shortened."""
    return ConfigurationError([f"{where}: {text}"], "See docs/calibration.md for what station teach imports.")


def around(label: str, corners: Iterable[Corner], where: str) -> Shape:
    """Return the upright box around the corners. Raises ConfigurationError for none and for what is no number."""
    points = list(corners)
    if not points or not all(math.isfinite(value) and abs(value) < 1e9 for point in points for value in point):
        raise wrong(where, f"{named(label)}: expected places in px.")
    xs, ys = zip(*points, strict=True)
    return Shape(label, min(xs), min(ys), max(xs), max(ys))


def turned(left: float, top: float, right: float, bottom: float, degrees: float) -> list[Corner]:
    """Return the corners of a box turned about its middle, clockwise as seen (y points down)."""
    x, y = (left + right) / 2, (top + bottom) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    away = [(px - x, py - y) for px in (left, right) for py in (top, bottom)]
    return [(x + cos * dx - sin * dy, y + sin * dx + cos * dy) for dx, dy in away]


def shapes_of(drawn: Drawn, size_px: tuple[int, int], where: str) -> tuple[Shape, ...]:
    """Return the shapes, within the picture. Raises ConfigurationError when they are of another one, or none."""
    if drawn.size_px is not None and drawn.size_px != size_px:
        raise wrong(where, f"is for a picture of {_by(drawn.size_px)} px; this one has {_by(size_px)} px.")
    if not drawn.shapes:
        raise wrong(where, "nothing is drawn on this picture.")
    return checked(drawn.shapes, size_px, where)


def checked(shapes: Sequence[Shape], size_px: tuple[int, int], where: str) -> tuple[Shape, ...]:
    """Return the shapes, cut at the picture's border. Raises ConfigurationError when one reaches out of it."""
    width, height = size_px
    for one in shapes:
        least = min(one.left, one.top, width - one.right, height - one.bottom)
        if least < -ROUNDING_PX:
            raise wrong(where, f"{named(one.label)} reaches {-least:.0f} px out of the picture of {_by(size_px)} px.")
    return tuple(
        Shape(one.label, max(0.0, one.left), max(0.0, one.top), min(width, one.right), min(height, one.bottom))
        for one in shapes
    )


def enough(shapes: Sequence[object], where: str) -> None:
    """Raise ConfigurationError when there are more shapes than any recipe has pins."""
    if len(shapes) > MOST_SHAPES:
        raise wrong(where, f"more than {MOST_SHAPES} shapes are drawn on one picture.")


def named(label: str) -> str:
    """Return the label as it is shown to a person."""
    return repr(label if len(label) <= 40 else label[:40] + "...")


def _by(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]}"
