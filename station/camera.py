"""What is known of a station's camera: how its lens bends the picture, how many pixels a millimetre has. Pure.

The pydantic models are the form of `camera.yaml`, which `station calibrate camera` writes and a recipe names. Lengths
in pixels, x to the right, y down, a pixel's centre at whole numbers. Everything but the lens is of corrected pictures.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_CHECKED = ConfigDict(extra="forbid", frozen=True)


class Lens(BaseModel):
    """A pinhole and how the lens bends what it sees: OpenCV's model with k1, k2, p1, p2, k3."""

    model_config = _CHECKED

    fx_px: float = Field(gt=0)
    """Focal length across and down, in pixels."""
    fy_px: float = Field(gt=0)
    cx_px: float
    """Where the optical axis meets the picture."""
    cy_px: float
    distortion: tuple[float, float, float, float, float]
    """k1, k2, p1, p2, k3."""
    error_px: float = Field(ge=0)
    """Reprojection error: RMS distance of the board's corners from where this lens puts them."""
    views: int = Field(ge=1)
    """Pictures of the board that it was found from."""
    coverage: float = Field(ge=0, le=1)
    """Share of the picture's cells in which a corner was seen."""


class Camera(BaseModel):
    """The whole of camera.yaml."""

    model_config = _CHECKED

    created_utc: str
    pictures_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the pictures it was made from, in order."""
    width_px: int = Field(ge=64)
    """Of every picture: another size is refused."""
    height_px: int = Field(ge=64)
    px_per_mm: float = Field(gt=0, le=10_000)
    """Where the parts lie."""
    px_per_mm_change: float = Field(ge=0)
    """How much that differs over the board, as a share: a camera that looks askew."""
    lens: Lens | None = None
    """None: only the scale is known, from a marker."""


def as_yaml(camera: Camera) -> str:
    """Return camera.yaml."""
    data = camera.model_dump(mode="json", exclude={"lens"})
    lines = ["# Written by station calibrate camera; not to be edited: recipes name this file by its hash."]
    lines += [f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value}" for key, value in data.items()]
    if camera.lens:
        lines += ["lens:", *(f"  {key}: {value}" for key, value in camera.lens.model_dump(mode="json").items())]
    return "\n".join(lines) + "\n"
