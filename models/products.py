"""The drawn products: the one that ships a LoRA, and five that no training has seen.

A product is a design of `scenes` with its size in the camera and the housing around the pins. Lengths are in pitches,
in the plane coordinates of `scenes`: the first pin stands at (0, 0).
"""

from dataclasses import dataclass

import scenes

Hole = tuple[float, float, float]
"""x, y, radius."""


@dataclass(frozen=True)
class Product:
    """One product as the camera sees it."""

    name: str
    design: scenes.Design
    pitch_px: int
    housing: tuple[float, float, float, float]
    """Outer edges of the part: left, top, right, bottom."""
    holes: tuple[Hole, ...]
    marks: tuple[scenes.Key, ...]
    reach_px: tuple[float, float]
    """How far the turned part with its shadow reaches from its middle, in x and y."""

    @property
    def pins(self) -> int:
        """How many pins it has."""
        return self.design.rows * self.design.columns

    @property
    def pin_ids(self) -> tuple[str, ...]:
        """Names in reading order, as `station teach` gives them."""
        return tuple(f"{'ABCDEF'[r]}{c + 1}" for r in range(self.design.rows) for c in range(self.design.columns))

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the field of pins."""
        design = self.design
        width = design.columns - 1 + design.stagger * (design.rows > 1)
        return width / 2, (design.rows - 1) * design.row_pitch / 2


PINS_27 = Product(
    "pins-27", scenes.PINS_27, 38, (-3.0, -2.4, 11.0, 4.4),
    ((-2.1, 0.0, 0.45), (10.1, 2.6, 0.38), (6.0, 3.8, 0.28)),
    (
        (2.0, -1.78, 3.3, -1.78, 0.20, 0.10), (8.9, -1.78, 9.9, -1.78, 0.13, 0.80), (-2.0, 2.4, -2.0, 3.5, 0.14, 0.75),
        (0.6, 3.8, 1.7, 3.8, 0.16, 0.12), (10.2, -0.6, 10.2, 0.5, 0.12, 0.12), (5.2, -1.78, 5.5, -1.78, 0.12, 0.75),
    ),
    (320, 210),
)  # fmt: skip
HEADER_20 = Product(
    "header-20",  # square gold pins on black, 2 x 10, thin
    scenes.Design(2, 10, 0.33, 8.0, 0.07, 0.86, 0.80, 0.30, 0.95, 0.01, pin_red=1.12, pin_blue=0.70), 44,
    (-2.6, -2.5, 11.6, 3.5), ((-1.8, 0.3, 0.40), (10.8, 1.2, 0.34), (4.3, 2.75, 0.30)),
    (
        (0.3, -1.75, 1.6, -1.75, 0.18, 0.62), (6.6, -1.75, 7.2, -1.75, 0.14, 0.55), (9.2, 2.75, 10.4, 2.75, 0.16, 0.6),
        (0.2, 2.75, 0.8, 2.75, 0.20, 0.70), (10.8, -1.4, 10.8, -0.6, 0.14, 0.7), (-1.8, 1.7, -1.8, 2.6, 0.14, 0.6),
    ),
    (370, 215),
)  # fmt: skip
ROUND_24 = Product(
    "round-24",  # round tin pins on green, 4 rows of 6, every second row shifted by half a pitch
    scenes.Design(
        4, 6, 0.50, 2.0, 0.38, 0.80, 0.70, 0.55, 1.10, 0.03, row_pitch=0.87, stagger=0.5, floor_red=0.75,
        floor_blue=0.85,
    ), 40,
    (-2.7, -2.6, 8.2, 5.2), ((-1.9, 0.4, 0.42), (7.4, 2.4, 0.36), (3.0, 4.4, 0.30)),
    (
        (0.2, -1.85, 1.4, -1.85, 0.18, 0.10), (4.6, -1.85, 5.1, -1.85, 0.14, 0.85), (-1.9, 2.6, -1.9, 3.8, 0.14, 0.1),
        (5.2, 4.4, 6.4, 4.4, 0.18, 0.12), (7.4, -0.9, 7.4, 0.1, 0.13, 0.85), (0.1, 4.4, 0.6, 4.4, 0.13, 0.9),
    ),
    (280, 220),
)  # fmt: skip
BLADE_8 = Product(
    "blade-8",  # silver blades, twice as long as wide, on a light housing, 1 x 8
    scenes.Design(
        1, 8, 0.32, 8.0, 0.56, 0.93, 0.60, 0.78, 1.20, 0.015, blade=1.9, floor_red=1.08, floor_blue=0.82,
    ), 46,
    (-2.7, -2.6, 9.7, 2.6), ((-1.9, -0.5, 0.40), (8.9, 0.7, 0.34), (4.4, 1.9, 0.28)),
    (
        (0.1, -1.9, 1.2, -1.9, 0.18, 0.15), (5.4, -1.9, 5.9, -1.9, 0.14, 0.25), (-1.9, 0.9, -1.9, 1.8, 0.14, 0.2),
        (7.2, 1.9, 8.2, 1.9, 0.16, 0.12), (8.9, -1.6, 8.9, -0.7, 0.12, 0.2), (0.9, 1.9, 1.3, 1.9, 0.14, 0.2),
    ),
    (345, 200),
)  # fmt: skip
KEYED_24 = Product(
    "keyed-24",  # nearly square pins between keying walls, 3 x 8, grey camera
    scenes.Design(
        3, 8, 0.44, 4.0, 0.16, 0.70, 0.90, 0.10, 0.90, 0.02,
        keys=((2.5, -0.85, 2.5, 2.85, 0.07, 0.45), (4.6, 0.5, 7.85, 0.5, 0.06, 0.42)),
    ), 34,
    (-2.7, -2.6, 9.7, 4.6), ((-1.9, 0.2, 0.44), (8.9, 1.9, 0.36), (4.0, 3.8, 0.30)),
    (
        (0.4, -1.8, 1.7, -1.8, 0.20, 0.75), (5.0, -1.8, 5.6, -1.8, 0.15, 0.80), (-1.9, 2.1, -1.9, 3.2, 0.15, 0.7),
        (6.0, 3.8, 7.4, 3.8, 0.18, 0.72), (8.9, -0.8, 8.9, 0.3, 0.14, 0.8), (0.3, 3.8, 0.8, 3.8, 0.15, 0.75),
    ),
    (270, 200),
)  # fmt: skip
COPPER_25 = Product(
    "copper-25",  # round copper pins of low contrast on brown, 5 x 5, rows further apart than columns
    scenes.Design(
        5, 5, 0.47, 2.0, 0.12, 0.52, 1.10, 0.25, 1.00, 0.04, row_pitch=1.15, floor_red=1.10, floor_blue=0.80,
        pin_red=1.30, pin_blue=0.62,
    ), 36,
    (-2.7, -2.6, 6.7, 7.2), ((-1.9, 0.6, 0.42), (5.9, 3.8, 0.36), (2.6, 6.4, 0.30)),
    (
        (0.0, -1.85, 1.2, -1.85, 0.18, 0.55), (3.2, -1.85, 3.7, -1.85, 0.14, 0.60), (-1.9, 3.4, -1.9, 4.6, 0.15, 0.6),
        (4.3, 6.4, 5.6, 6.4, 0.17, 0.5), (5.9, -0.6, 5.9, 0.6, 0.14, 0.6), (-0.4, 6.4, 0.1, 6.4, 0.14, 0.6),
    ),
    (230, 250),
)  # fmt: skip
UNSEEN = (HEADER_20, ROUND_24, BLADE_8, KEYED_24, COPPER_25)
"""Never part of a base's training: it draws designs at random, none of these."""
ALL = {product.name: product for product in (PINS_27, *UNSEEN)}
