"""The form of questions and answers."""

import itertools

import pytest

from station import report

MODES = ("missing", "bent")
PINS = ("A1", "A2", "B1")


def consistent(judgement: str, named: str) -> bool:
    return (judgement == report.DEFECTIVE) == (named != report.NONE)


@pytest.mark.parametrize(("judgement", "mode"), list(itertools.product(report.JUDGEMENTS, (report.NONE, *MODES))))
def test_a_pin_answer_is_read_back_unless_it_contradicts_itself(judgement: str, mode: str) -> None:
    answer = report.PinAnswer(judgement, mode)
    read = report.parse_pin(report.pin_text(answer), MODES)
    assert read == (answer if consistent(judgement, mode) else None)


@pytest.mark.parametrize(
    ("judgement", "mode", "position"),
    list(itertools.product(report.JUDGEMENTS, (report.NONE, *MODES), (report.NONE, *PINS))),
)
def test_a_report_is_read_back_unless_it_contradicts_itself(judgement: str, mode: str, position: str) -> None:
    answer = report.ReportAnswer(27, judgement, mode, position)
    read = report.parse_report(report.report_text(answer), MODES, PINS)
    assert read == (answer if consistent(judgement, mode) and consistent(judgement, position) else None)


GOOD = report.report_text(report.ReportAnswer(27, report.DEFECTIVE, "bent", "A2"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("27", "many"),
        GOOD.replace("27", "2700"),
        GOOD.replace("bent", "exploded"),
        GOOD.replace("A2", "Z9"),
        GOOD.replace("defective", "excellent"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("->", ": "),
        GOOD.replace("pins, top view", "pins, side view"),
        GOOD + "\n- note->none",
        "The part looks fine to me.",
    ],
)
def test_what_is_not_exactly_in_the_form_is_not_read(text: str) -> None:
    assert report.parse_report(text, MODES, PINS) is None


def test_the_five_lines_are_the_users_own() -> None:
    assert GOOD == (
        "- image type->pins, top view\n- quantity of pins->27 pins\n- your judgement->defective\n"
        "- defect mode->bent\n- defect position->A2"
    )


def test_slots_put_together_give_the_same_lines() -> None:
    slots = report.report_slots(MODES, PINS)
    chosen = ("3", report.DEFECTIVE, "missing", "B1")
    text = "".join(slot.before + choice for slot, choice in zip(slots, chosen, strict=True))
    assert text == report.report_text(report.ReportAnswer(3, report.DEFECTIVE, "missing", "B1"))
    slots = report.pin_slots(MODES)
    text = "".join(slot.before + choice for slot, choice in zip(slots, ("passed", "none"), strict=True))
    assert text == report.pin_text(report.PinAnswer("passed", "none"))
