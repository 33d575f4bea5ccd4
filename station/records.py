"""Everything that travels through the station, as frozen records. Pure: no I/O.

One picture is one `Job`; one job always ends in exactly one `Verdict`.
Boxes are (x, y, width, height); arrays are (rows, columns, channels); pictures are RGB uint8 unless named otherwise.
"""

import enum
from typing import dataclass_transform

import msgspec


class Evaluation(enum.StrEnum):
    """What is said of a part (OPC 40001-101 ResultEvaluationEnum). Only OK is a pass."""

    UNDEFINED = "UNDEFINED"
    OK = "OK"
    NOT_OK = "NOT_OK"
    NOT_DECIDABLE = "NOT_DECIDABLE"

    @property
    def code(self) -> int:
        """The number of OPC 40001-101: 0 UNDEFINED, 1 OK, 2 NOT_OK, 3 NOT_DECIDABLE."""
        return list(Evaluation).index(self)


class ResultState(enum.StrEnum):
    """Did the inspection run to its end (OPC 40100-1 ResultState)."""

    UNDEFINED = "UNDEFINED"
    COMPLETED = "COMPLETED"
    PROCESSING = "PROCESSING"
    ABORTED = "ABORTED"
    FAILED = "FAILED"

    @property
    def code(self) -> int:
        """The number of OPC 40100-1: 0 undefined, 1 completed, 2 processing, 3 aborted, 4 failed."""
        return list(ResultState).index(self)


class Reason(enum.IntEnum):
    """Why a verdict is not OK, as a number for the PLC; the name in lower case goes to the stream.

    1..99 a defect was found, 1000.. it could not be decided, 2000.. the inspection did not run to its end.
    """

    NONE = 0
    DEFECT_FOUND = 1
    WRONG_COUNT = 2
    PART_NOT_FOUND = 1000
    BAD_REGISTRATION = 1001
    REGION_OUTSIDE_PICTURE = 1002
    MODEL_UNSURE = 1003
    MODEL_SAYS_UNDECIDABLE = 1004
    COUNTS_DISAGREE = 1005
    NO_CERTIFICATE = 1006
    CHALLENGE_FAILED = 1007
    MEASUREMENT_DISAGREES = 1008
    IMPLAUSIBLE_PATTERN = 1009
    PICTURE_UNUSABLE = 1010
    IMAGE_UNREADABLE = 2000
    IMAGE_WRONG_SIZE = 2001
    WRONG_ANSWER_FORM = 2002
    DEADLINE_PASSED = 2003
    ENGINE_FAILED = 2004
    NO_MODEL = 2005
    RECIPE_CHANGED = 2006
    PICTURE_MISSING = 2007
    TOO_MANY_PICTURES = 2008
    PICTURE_UNPAIRED = 2009
    PICTURE_REPEATED = 2010


IN_QUARANTINE = frozenset({Reason.IMAGE_UNREADABLE, Reason.IMAGE_WRONG_SIZE})
"""Pictures with such a verdict go to the quarantine, all others to the archive: the camera must be looked at."""


@dataclass_transform(frozen_default=True)  # says to type checkers that subclasses are frozen too
class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: frozen, unknown fields refused. Always built with keywords."""


class ImageRef(Record):
    """The picture a job is about."""

    name: str
    """File name as it was in the hot folder, without folder."""
    sha256: str
    """Of the whole file, hex."""
    size_bytes: int


class Registration(Record):
    """Where the part was found. Maps golden pixels to frame pixels."""

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Similarity, golden px -> frame px: frame = matrix @ (x, y, 1)."""
    residual_px: float
    """RMS distance in golden px of the fiducials' places from where their own fit puts them."""
    score: float
    """Mean normalised correlation of the fiducials, -1..1."""
    rotation_deg: float
    scale: float
    tips_moved_px: float = 0.0
    """How far all tips together stood off where the fiducials put them, golden px: the largest of shift, scale and turn
    (at the farthest pin), which `tip_reach_px` bounds. The matrix has it in it. 0: not looked for."""


class PinMeasure(Record):
    """What OpenCV measures at one pin, without the model: evidence beside its answer."""

    presence: float
    """-1..1: normalised correlation with the golden picture's pin, where it is highest."""
    offset_x_px: float
    """Of the pin from its golden place, golden px; to the right."""
    offset_y_px: float
    """Down."""
    offset_mm: float | None
    """Length of the offset; None: the recipe does not say how many pixels a millimetre has."""
    brightness: float
    """Mean grey level at the pin's place, 0..255."""


class RegionCrop(Record):
    """The pixels of one region, warped onto the golden picture's grid."""

    region_id: str
    width_px: int
    height_px: int
    pixels_rgb: bytes
    """height_px * width_px * 3 bytes, rows first."""
    measured: tuple[PinMeasure, ...] = ()
    """Of each pin of the region, in recipe order; empty: not measured."""


class Failure(Record):
    """Why no question can be asked about this picture."""

    reason: Reason
    detail: str
    """What, where and what to do, for the operator."""


class TriggerRef(Record):
    """A trigger of the PLC, as the station took it."""

    trigger_id: int
    """The PLC's own part counter, 1..65535."""
    acquisition_id: int
    """The station's count of triggers: 1, 2, 3... since the worker's start."""
    serial: str
    """What the PLC set as user data before the trigger, at most 44 ASCII characters; empty: nothing."""
    measurement: str = ""
    """What an OPC UA client calls this measurement (MeasId); empty: nothing."""


class Job(Record):
    """One run of a recipe on one part, as capture sends it to the worker. Either `crops` or `failure`."""

    job_id: str
    """Sorts by time of capture; letters, digits and '-' only, 1..64 characters."""
    part_id: str | None
    image: ImageRef
    recipe: str
    recipe_sha256: str
    registration: Registration | None
    crops: tuple[RegionCrop, ...]
    failure: Failure | None
    captured_utc: str
    """ISO 8601, UTC, with milliseconds: when the complete file was claimed."""
    capture_ms: float
    """From the complete file being seen until this job was ready to send."""
    captured_ns: int | None = None
    """CLOCK_MONOTONIC of this machine when the file was last changed; None: not known, so no trigger is its own."""


class PinReport(Record):
    """What was found at one pin (asked by `pins`)."""

    pin_id: str
    evaluation: Evaluation
    p_defect: float
    """0..1."""
    defect_mode: str
    """A mode of the recipe or "none"."""
    measured: PinMeasure | None = None
    """None: not measured."""


class RegionReport(Record):
    """What was found in one region; the fields of the verdict stream."""

    region_id: str
    evaluation: Evaluation
    reason: Reason
    p_defect: float | None
    """0..1, the largest of the region's pins; None when nothing was asked."""
    pins_counted: int | None
    pins_expected: int
    defect_mode: str
    """Mode of the worst pin, or "none"."""
    defect_position: str
    """Pin ids joined with ';' in recipe order, or "none"."""
    report: str
    """The five lines, or what the model said instead."""
    ms: float
    pins: tuple[PinReport, ...] = ()


class ModelRef(Record):
    """The model release that judged."""

    name: str
    sha256: str
    """Of the release's manifest.json, hex; it holds the hashes of all files."""


class Timing(Record):
    """Milliseconds of each stage; `total` from the complete file to the journal."""

    capture: float
    queue: float
    inference: float
    total: float


class Verdict(Record, kw_only=True):
    """What the station says of one part. Immutable; one per job id."""

    schema: int = 1
    station: str
    epoch: int
    """+1 at each start of the worker."""
    seq: int
    """1, 2, 3... within an epoch, no gap, no repeat."""
    job_id: str
    part_id: str | None
    image: ImageRef
    recipe: str
    evaluation: Evaluation
    result_state: ResultState
    reason: Reason
    detail: str
    """For the operator: what, where, what to do; empty when OK."""
    is_simulated: bool
    """True when an engine without a model made the answers."""
    registration: Registration | None
    """Where the part was found; None when it was not."""
    regions: tuple[RegionReport, ...]
    model: ModelRef
    recipe_sha256: str
    config_sha256: str
    ms: Timing
    created_utc: str
    trigger: TriggerRef | None = None
    """The PLC's trigger this verdict answers; None: free running, or no trigger is its own."""
