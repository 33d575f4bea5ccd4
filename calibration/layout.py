"""The layout of a product's pins in a golden picture, however it is given: a grid, a list, or tiles over everything.

In: pixels and what the user knows (the expected count, a grid, a few places). Out: a `Layout` with named places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration import likeness
from calibration.lattice import Lattice, find_lattice, grids_of, lattice_through
from station.errors import ConfigurationError

TILE = 1.7
"""Side of a pin's tile in pitches: the neighbours are just seen, as in training."""
LEAST_TILE_PX = 16
COMPARED = 0.6
"""Share of a tile by which pins of a list are compared."""
MOST_PINS = 99
"""In one region; a larger field becomes several."""
TILED_MARGIN = 0.05
"""Share of the picture's sides that tiles leave out, so that a part that lies a little elsewhere is still in view."""
OVERLAP = 0.25
"""Of tiles: a defect on the border of one is well inside the next."""

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """Pins that are one region of the recipe."""

    region_id: str
    pins: tuple[int, ...]
    """Their numbers in the layout."""
    box: tuple[float, float, float, float] | None = None
    """left, top, right, bottom, px, as it was drawn; None: what the pins need."""


@dataclass(frozen=True)
class Layout:
    """Named places in the golden picture."""

    words: str
    """As "11 x 2 grid"."""
    ids: tuple[str, ...]
    places: Points
    """(n, 2): x, y in px."""
    tile_px: int
    score: float
    """Of the weakest evidence: a grid's score (at most about 2), or the least likeness of a listed pin (at most 1)."""
    covers_everything: bool = False
    """Tiles: no place of the part is away from them."""
    fields: tuple[Field, ...] = ()
    """None: as few as the pins fit into."""
    renamed: tuple[str, ...] = ()
    """In words: labels that the recipe cannot have as names."""

    @property
    def pitch_px(self) -> float:
        """About the distance of neighbours."""
        return self.tile_px / TILE


@dataclass(frozen=True)
class Known:
    """What the user knows of the pins."""

    pins: int
    grid: tuple[int, int] | None = None
    """Rows, columns; None: every grid of so many pins is tried."""
    places: tuple[tuple[float, float], ...] = ()
    """With a grid: its upper left, upper right and lower left pins. Without: what looks like these is taken."""
    tile_px: int | None = None
    """Side of a pin's tile; None: from the pitch."""


def find_layout(picture: Image, known: Known) -> Layout:
    """Return the layout. Raises ConfigurationError with what is missing when there is none."""
    if known.places and known.grid is None:
        return _listed(picture, known)
    lattice = _lattice(picture, known)
    if lattice is None:
        raise ConfigurationError(
            ["No field of pins found."], "Give the grid, --grid ROWSxCOLUMNS, or places, --pin X,Y."
        )
    tile = known.tile_px or max(LEAST_TILE_PX, round(TILE * lattice.pitch_px))
    ids = _grid_ids(lattice.rows, lattice.columns)
    return Layout(f"{lattice.rows} x {lattice.columns} grid", ids, lattice.places(), tile, lattice.score)


def _lattice(picture: Image, known: Known) -> Lattice | None:
    if known.grid is None or not known.places:
        return find_lattice(picture, [known.grid] if known.grid else grids_of(known.pins))
    if len(known.places) != 3:
        raise ConfigurationError(["--grid and --pin: expected the upper left, upper right and lower left pin."])
    return lattice_through(picture, known.grid, np.array(known.places, np.float64))


def _listed(picture: Image, known: Known) -> Layout:
    if known.tile_px is None:
        raise ConfigurationError(["--pin: the size of a pin is not known."], "Add --tile PX, about 1.7 pitches.")
    height, width = picture.shape[:2]
    if any(not (0 <= x < width and 0 <= y < height) for x, y in known.places) or len(known.places) > known.pins:
        raise ConfigurationError([f"--pin: expected at most {known.pins} places within {width} x {height} px."])
    side = max(LEAST_TILE_PX // 2, round(COMPARED * known.tile_px))
    grey = np.asarray(np.median(picture, axis=2), np.float32)
    places, scores = likeness.most_like(grey, np.array(known.places, np.float64), known.pins, side)
    found = len(places) - len(known.places)
    words = f"list of {len(places)}, {found} of them found by likeness"
    return Layout(words, tuple(f"P{k + 1}" for k in range(len(places))), places, known.tile_px, float(scores.min()))


def tiled(picture: Image, tile_px: int) -> Layout:
    """Return overlapping tiles over the picture, all but a margin, named by row and column."""
    middles = []
    for side in picture.shape[:2]:
        margin = round(TILED_MARGIN * side)
        length = side - 2 * margin
        if tile_px > length:
            raise ConfigurationError([f"--tiles: {tile_px} px is more than the picture has."])
        count = 1 + int(np.ceil((length - tile_px) / (tile_px * (1 - OVERLAP))))
        middles.append(margin + np.linspace(tile_px / 2, length - tile_px / 2, count) - 0.5)
    rows, columns = len(middles[0]), len(middles[1])
    places = np.array([(x, y) for y in middles[0] for x in middles[1]])
    return Layout(f"{rows} x {columns} tiles", _grid_ids(rows, columns), places, tile_px, 1.0, covers_everything=True)


def grid_of(text: str | None, pins: int) -> tuple[int, int] | None:
    """Return rows and columns. Raises ConfigurationError when `text` is not ROWSxCOLUMNS with so many places."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) * int(columns) == pins):
        raise ConfigurationError([f"--grid: found {text!r}; expected ROWSxCOLUMNS with {pins} places, as 3x9 for 27."])
    return int(rows), int(columns)


def places_of(texts: Sequence[str]) -> tuple[tuple[float, float], ...]:
    """Return the places written as X,Y. Raises ConfigurationError."""
    try:
        return tuple((float(x), float(y)) for x, y in (text.split(",") for text in texts))
    except ValueError as error:
        raise ConfigurationError(
            [f"--pin: found {' '.join(texts)}; expected X,Y in px of the first picture."]
        ) from error


def _grid_ids(rows: int, columns: int) -> tuple[str, ...]:
    letters = [chr(ord("A") + row) if rows <= 26 else f"R{row + 1}C" for row in range(rows)]
    return tuple(f"{letter}{column + 1}" for letter in letters for column in range(columns))
