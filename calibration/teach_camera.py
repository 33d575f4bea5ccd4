"""The camera's calibration in teaching: pictures are corrected before anything else, the recipe names the file.

In: the path of a camera.yaml, or the recipe that was taught before. Out: corrected pictures, and the recipe's keys;
the file is copied beside recipe.yaml. Raises ConfigurationError for pictures of another size.
"""

import hashlib
from pathlib import Path

import numpy as np

from calibration import fiducials
from calibration.shapes import Shape, around
from station.camera_file import read_camera, size_problem
from station.capture.lens import LensCorrection, straight_points
from station.errors import ConfigurationError
from station.recipe import RecipeFile
from station.settings_file import read_yaml

NAME = "camera.yaml"


class Calibration:
    """What teaching does with a camera's calibration; without one pictures stay as they come."""

    def __init__(self, path: Path | None) -> None:
        """Read the file. Raises ConfigurationError."""
        self._camera = read_camera(path)[0] if path else None
        self._raw = path.read_bytes() if path else b""
        self._lens = LensCorrection(self._camera) if self._camera else None

    @property
    def keys(self) -> dict[str, str]:
        """What the recipe says of it."""
        return {"camera": NAME, "camera_sha256": hashlib.sha256(self._raw).hexdigest()} if self._raw else {}

    def picture(self, path: Path) -> fiducials.Image:
        """Return the corrected picture. Raises ConfigurationError if it has another size than the calibration."""
        picture = fiducials.read_picture(path)
        if self._camera is None or self._lens is None:
            return picture
        if text := size_problem(self._camera, (picture.shape[1], picture.shape[0]), "this picture"):
            raise ConfigurationError([f"{path}: {text}"])
        return self._lens.straight(picture)

    def shape(self, shape: Shape, where: str) -> Shape:
        """Return what was drawn on the picture as it came, on the corrected one. `where`: the file, for messages."""
        if self._camera is None:
            return shape
        xs, ys = (shape.left, shape.right), (shape.top, shape.bottom)
        corners = np.array([(x, y) for x in xs for y in ys]) - 0.5
        straight = straight_points(self._camera, corners) + 0.5
        return around(shape.label, [(float(x), float(y)) for x, y in straight], where)

    def write(self, folder: Path) -> None:
        """Put a copy beside recipe.yaml. Raises OSError."""
        if self._raw:
            (folder / NAME).write_bytes(self._raw)


def calibration_of(given: Path | None, folder: Path) -> Calibration:
    """Return the calibration that is given, else that of the recipe in `folder`, if any. Raises ConfigurationError."""
    recipe = folder / "recipe.yaml"
    if given is None and recipe.exists() and (named := read_yaml(recipe, RecipeFile).value.camera):
        given = folder / Path(named).name
    return Calibration(given)
