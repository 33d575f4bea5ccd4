"""What a LoRA learns on site: each pin's pixels, from the golden picture and from a set's, as one file.

The machine that trains needs neither pictures nor station, only this file. site_cut.py makes it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

TILE_PX, RIM_PX = 64, 16
"""Side of a pin's tile as the model sees it, and the room around it for edits and shifts."""
UNDECIDABLE = -1

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SitePins:
    """Pins of a set; pixels are RGB, or one channel where all are equal."""

    golden: Pixels
    """(goldens, side, side, 1 or 3), side = TILE_PX + 2 * RIM_PX."""
    tests: Pixels
    """(N, side, side, 1 or 3)."""
    golden_of: npt.NDArray[np.int32]
    """(N,) index into golden."""
    mode: npt.NDArray[np.int32]
    """(N,): index into defects.MODES (0: none, it passes), or UNDECIDABLE."""

    def save(self, path: Path) -> None:
        """Write one file."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})


def load(path: Path) -> SitePins:
    """Return what `save` wrote."""
    with np.load(path) as data:
        return SitePins(**{field.name: data[field.name] for field in fields(SitePins)})
