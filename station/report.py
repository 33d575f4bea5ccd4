"""The question put to the model, the form of its answer, strict parsing. Pure.

Two ways of asking (docs/decisions/): `report`, the five lines about a whole region, and `pins`, two lines about one
pin's composite. Both are fixed text with choices in between, so the answer is scored, not sampled.
"""

import re
from collections.abc import Sequence

from station.engine.base import Slot
from station.records import Record

PASSED, DEFECTIVE, UNDECIDABLE = "passed", "defective", "undecidable"
JUDGEMENTS = (PASSED, DEFECTIVE, UNDECIDABLE)
NONE = "none"
IMAGE_TYPE = "pins, top view"

REPORT_INSTRUCTION = (
    "You are visual inspector who judges whether a product is passed or defective. The image show a group of pins"
    " (cylinders) on the product. This image is top view of the pins. First, you should count the quantity of pins in"
    " the image. If you find a significant abnormality on the pins, it is defined as defect. After visual inspection,"
    " you should describe image type, quantity of pins, your judgement, defect mode, and defect position."
)
"""The instruction of the case the station was started for, its wording kept."""

PIN_INSTRUCTION = (
    "You are visual inspector who judges whether a product is passed or defective."
    " The image show one pin three times: golden, test, difference."
)

_BEFORE_COUNT = f"- image type->{IMAGE_TYPE}\n- quantity of pins->"
_BEFORE_JUDGEMENT = "- your judgement->"
_BEFORE_MODE = "- defect mode->"
_BEFORE_POSITION = "- defect position->"


class PinAnswer(Record):
    """What the model says of one pin."""

    judgement: str
    mode: str


class ReportAnswer(Record):
    """What the model says of one region in the five lines."""

    pins_counted: int
    judgement: str
    mode: str
    position: str
    """A pin id or "none"."""


def pin_slots(modes: Sequence[str]) -> tuple[Slot, ...]:
    """Return the form of the answer about one pin's composite: verdict first, then mode."""
    return Slot(_BEFORE_JUDGEMENT, JUDGEMENTS), Slot(f"\n{_BEFORE_MODE}", (NONE, *modes))


def report_slots(modes: Sequence[str], pin_ids: Sequence[str]) -> tuple[Slot, ...]:
    """Return the form of the five lines; counts from 0 to three more than the layout has are allowed."""
    counts = tuple(str(n) for n in range(len(pin_ids) + 4))
    return (
        Slot(_BEFORE_COUNT, counts),
        Slot(f" pins\n{_BEFORE_JUDGEMENT}", JUDGEMENTS),
        Slot(f"\n{_BEFORE_MODE}", (NONE, *modes)),
        Slot(f"\n{_BEFORE_POSITION}", (NONE, *pin_ids)),
    )


def pin_text(answer: PinAnswer) -> str:
    """Return the two lines."""
    return f"{_BEFORE_JUDGEMENT}{answer.judgement}\n{_BEFORE_MODE}{answer.mode}"


def report_text(answer: ReportAnswer) -> str:
    """Return the five lines of the user's own form."""
    return (
        f"{_BEFORE_COUNT}{answer.pins_counted} pins\n{_BEFORE_JUDGEMENT}{answer.judgement}\n"
        f"{_BEFORE_MODE}{answer.mode}\n{_BEFORE_POSITION}{answer.position}"
    )


_PIN = re.compile(rf"{re.escape(_BEFORE_JUDGEMENT)}([a-z]+)\n{re.escape(_BEFORE_MODE)}([A-Za-z][A-Za-z0-9_-]*)")
_REPORT = re.compile(
    rf"{re.escape(_BEFORE_COUNT)}(\d{{1,3}}) pins\n{re.escape(_BEFORE_JUDGEMENT)}([a-z]+)\n"
    rf"{re.escape(_BEFORE_MODE)}([A-Za-z][A-Za-z0-9_-]*)\n{re.escape(_BEFORE_POSITION)}([A-Za-z0-9]+)"
)


def parse_pin(text: str, modes: Sequence[str]) -> PinAnswer | None:
    """Return the answer, or None when `text` is not exactly in the form or names something unknown."""
    match = _PIN.fullmatch(text)
    if match is None:
        return None
    answer = PinAnswer(judgement=match[1], mode=match[2])
    known = answer.judgement in JUDGEMENTS and answer.mode in (NONE, *modes)
    return answer if known and _consistent(answer.judgement, answer.mode) else None


def parse_report(text: str, modes: Sequence[str], pin_ids: Sequence[str]) -> ReportAnswer | None:
    """Return the answer, or None when `text` is outside the form, names something unknown or contradicts itself."""
    match = _REPORT.fullmatch(text)
    if match is None:
        return None
    answer = ReportAnswer(pins_counted=int(match[1]), judgement=match[2], mode=match[3], position=match[4])
    known = answer.judgement in JUDGEMENTS and answer.mode in (NONE, *modes) and answer.position in (NONE, *pin_ids)
    consistent = _consistent(answer.judgement, answer.mode) and _consistent(answer.judgement, answer.position)
    return answer if known and consistent else None


def _consistent(judgement: str, named: str) -> bool:
    """A defective part has a mode and a place; a passed one has none."""
    return (judgement == DEFECTIVE) == (named != NONE)
