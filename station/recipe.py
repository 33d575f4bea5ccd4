"""A product's recipe: what is looked at, how it is asked, what passes. `recipe.yaml` beside its golden picture.

The pydantic models are the form of the file; `load_recipe` reads it, reports every problem at once, and adds the
golden picture and the hash. All places are in pixels of the golden picture.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from station.camera import Camera

PinId = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,8}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]


class Section(BaseModel):
    """Base of all sections: unknown keys refused, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(Section):
    """A rectangle in golden pixels."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=8)
    height: int = Field(ge=8)


class RegistrationLimits(Section):
    """How the part is found in the frame, and what is refused."""

    part: Box
    """The whole part in the golden picture; searched for as a whole first."""
    fiducials: tuple[Box, ...] = Field(min_length=3)
    """Small places with structure in two directions, away from the pins; they give the exact place."""
    max_rotation_deg: float = Field(ge=0, le=45)
    max_scale_change: float = Field(ge=0, le=0.2)
    """0.05 means 0.95 .. 1.05."""
    max_residual_px: float = Field(gt=0, le=10)
    min_score: float = Field(ge=0, le=1)
    """Least mean correlation of the fiducials."""
    tip_reach_px: float = Field(default=0, ge=0, le=50)
    """How far all pins together may lie off where the fiducials put them; 0: they are not looked for."""


class Pin(Section):
    """One pin's nominal centre in golden pixels."""

    pin_id: PinId
    x: float
    y: float


class Region(Section):
    """A field of pins that is cropped, asked about and counted as a whole."""

    region_id: Word
    box: Box
    pins: tuple[Pin, ...] = Field(min_length=1, max_length=99)

    @property
    def pitch_px(self) -> float:
        """The distance of the two nearest pins; of a region with one pin half its box's smaller side."""
        pins = self.pins
        distances = [math.dist((a.x, a.y), (b.x, b.y)) for k, a in enumerate(pins) for b in pins[k + 1 :]]
        return min(distances, default=min(self.box.width, self.box.height) / 2)

    @property
    def lines(self) -> tuple[frozenset[str], ...]:
        """The ids of the pins of each row and column, within a quarter of the pitch, and of the whole region."""
        everything = frozenset(pin.pin_id for pin in self.pins)
        return (everything, *_lines(self.pins, self.pitch_px / 4, "y"), *_lines(self.pins, self.pitch_px / 4, "x"))


def _lines(pins: tuple[Pin, ...], reach_px: float, axis: str) -> list[frozenset[str]]:
    """Group pins whose places along `axis` follow each other within `reach_px`."""
    lines: list[list[Pin]] = []
    for pin in sorted(pins, key=lambda pin: getattr(pin, axis)):
        if lines and getattr(pin, axis) - getattr(lines[-1][-1], axis) <= reach_px:
            lines[-1].append(pin)
        else:
            lines.append([pin])
    return [frozenset(pin.pin_id for pin in line) for line in lines]


class PinsAsk(Section):
    """Ask about each pin with a composite golden | test | signed difference."""

    instruction: str = Field(min_length=1)
    tile_px: int = Field(ge=16, le=512)
    """Side of the square cut around a pin, golden px; resized to `tile_model_px`."""
    tile_model_px: int = Field(ge=16, le=256, multiple_of=16)


class ReportAsk(Section):
    """Ask about the whole region with the five-line report."""

    instruction: str = Field(min_length=1)
    images: Literal[1, 2]
    """1: the crop alone; 2: the golden crop first, then the crop."""
    width_model_px: int = Field(ge=16, le=2048, multiple_of=16)
    height_model_px: int = Field(ge=16, le=2048, multiple_of=16)


class Thresholds(Section):
    """What passes. Between the two the verdict is NOT_DECIDABLE."""

    ok_max_p_defect: float = Field(ge=0, le=1)
    """A pin or region is OK only at or below this."""
    not_ok_min_p_defect: float = Field(ge=0, le=1)
    """NOT_OK at or above this."""
    min_mass: float = Field(ge=0, le=1)
    """Least share of the model's probability on the allowed answers; below it: NOT_DECIDABLE."""


class PictureLimits(Section):
    """How far a picture may be from the golden one where the pins are, before it is not decidable."""

    min_light: float = Field(default=0.4, gt=0, le=1)
    """Mean grey level, as a share of the golden picture's."""
    max_light: float = Field(default=2.5, ge=1, le=20)
    min_contrast: float = Field(default=0.3, ge=0, le=1)
    """Standard deviation of the grey levels, as a share of the golden picture's."""
    max_saturated: float = Field(default=0.1, ge=0, le=1)
    """Share of saturated pixels beyond the golden picture's."""
    min_sharpness: float = Field(default=0.08, ge=0, le=1)
    """Variance of the Laplacian, as a share of the golden picture's."""


class Measurement(Section):
    """What is measured at each pin without the model, and whether it may object."""

    veto: bool = False
    """True: a pin that the model passed and the measurement does not find, or finds too far off, is not decidable."""
    missing: bool = False
    """True: a pin that the model cannot decide about and the measurement does not find is missing, so NOT_OK."""
    min_presence: float = Field(default=0.5, ge=0, le=1)
    """Least correlation with the golden picture's pin."""
    max_offset_px: float = Field(default=1000, gt=0, le=1000)
    """Longest offset from the golden place, golden px."""
    px_per_mm: float | None = Field(default=None, gt=0, le=10_000)
    """Golden pixels a millimetre; None: as the camera's calibration says, without one not known."""


class RecipeFile(Section):
    """The whole of recipe.yaml."""

    recipe: Word
    product: str
    golden: str
    """File name of the golden picture, beside recipe.yaml."""
    golden_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    camera: str | None = None
    """File name of the camera's calibration, beside recipe.yaml; the golden picture is a corrected one then."""
    camera_sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    registration: RegistrationLimits
    regions: tuple[Region, ...] = Field(min_length=1)
    defect_modes: tuple[Word, ...] = Field(min_length=1)
    ask: Literal["pins", "report"]
    pins: PinsAsk
    report: ReportAsk
    thresholds: Thresholds
    white_level: int = Field(default=255, ge=16, le=255)
    """Grey level that the model is shown as white: below 255 for pictures that are dark all over."""
    picture: PictureLimits = PictureLimits()
    measurement: Measurement = Measurement()
    deadline_ms: int = Field(ge=50, le=600_000)
    """Latest verdict, from the worker taking the job."""


class Recipe(BaseModel):
    """A recipe that was read and checked."""

    model_config = ConfigDict(frozen=True)

    file: RecipeFile
    sha256: str
    """Over recipe.yaml and the golden picture, hex."""
    golden_path: Path
    camera: Camera | None = None
    """What the recipe's `camera` says; None: pictures are taken as they come."""

    @property
    def px_per_mm(self) -> float | None:
        """Golden pixels a millimetre, None if not known; what is written in the recipe itself comes first."""
        return self.file.measurement.px_per_mm or (self.camera.px_per_mm if self.camera else None)
