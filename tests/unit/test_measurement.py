"""The measurement may take an OK away, call an undecided pin missing where the recipe wants it, and nothing else."""

import itertools

import msgspec
import pytest

from station.judge import judge
from station.measurement import objection, with_measures
from station.recipe import Measurement, Recipe
from station.records import Evaluation, PinMeasure, Reason, RegionReport
from tests.pictures import PINS, make_recipe
from tests.verdicts import make_job, make_region, make_verdict

THERE = PinMeasure(presence=0.95, offset_x_px=1.0, offset_y_px=-1.0, offset_mm=None, brightness=180.0)
GONE = msgspec.structs.replace(THERE, presence=0.2)
ASIDE = msgspec.structs.replace(THERE, offset_x_px=9.0, offset_y_px=-12.0)
LIMITS = Measurement(veto=True, min_presence=0.5, max_offset_px=14.9)
JOB = make_job(make_verdict())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


def asked(measures: dict[str, PinMeasure], **region: tuple[str, ...]) -> list[object]:
    crop = msgspec.structs.replace(JOB.crops[0], measured=tuple(measures.get(pin, THERE) for pin in PINS))
    return list(with_measures([make_region(**region)], msgspec.structs.replace(JOB, crops=(crop,)), LIMITS))


@pytest.mark.parametrize(
    ("measure", "veto", "ng", "unsure"),
    list(itertools.product([THERE, GONE, ASIDE], [True, False], [(), ("A2",)], [(), ("B3",)])),
)
def test_only_an_ok_is_taken_away_and_only_with_a_veto(
    recipe: Recipe, measure: PinMeasure, veto: bool, ng: tuple[str, ...], unsure: tuple[str, ...]
) -> None:
    limits = LIMITS.model_copy(update={"veto": veto})
    changed = recipe.model_copy(update={"file": recipe.file.model_copy(update={"measurement": limits})})
    reports = asked({"A1": measure}, ng=ng, unsure=unsure)
    without = judge(recipe, JOB, [make_region(ng=ng, unsure=unsure)], None, None)
    judgement = judge(changed, JOB, reports, None, None)  # type: ignore[arg-type]
    if without.evaluation is Evaluation.OK and veto and measure is not THERE:
        assert (judgement.evaluation, judgement.reason) == (Evaluation.NOT_DECIDABLE, Reason.MEASUREMENT_DISAGREES)
        assert "pin A1" in judgement.detail
    else:
        assert judgement == without


def test_a_pin_that_the_model_rejects_needs_no_objection() -> None:
    assert objection(LIMITS, asked({"A2": GONE}, ng=("A2",))) == ""  # type: ignore[arg-type]


def test_without_measures_the_reports_stay() -> None:
    assert with_measures([make_region()], JOB, LIMITS) == (make_region(),)
    assert objection(LIMITS, [make_region()]) == ""


def test_no_number_is_an_objection() -> None:
    nan = msgspec.structs.replace(THERE, presence=float("nan"))
    assert "A1" in objection(LIMITS, asked({"A1": nan}))  # type: ignore[arg-type]


def with_missing(measures: dict[str, PinMeasure], *, missing: bool = True, **region: tuple[str, ...]) -> RegionReport:
    """Return what becomes of a region where the measurement may say that a pin is missing."""
    crop = msgspec.structs.replace(JOB.crops[0], measured=tuple(measures.get(pin, THERE) for pin in PINS))
    job = msgspec.structs.replace(JOB, crops=(crop,))
    (found,) = with_measures([make_region(**region)], job, LIMITS.model_copy(update={"missing": missing}))
    return found


def test_a_pin_that_the_model_cannot_decide_about_and_that_is_not_found_is_missing(recipe: Recipe) -> None:
    found = with_missing({"B3": GONE, "A1": GONE}, unsure=("A1", "A2", "B3"))
    assert (found.evaluation, found.reason) == (Evaluation.NOT_OK, Reason.DEFECT_FOUND)
    assert (found.defect_mode, found.defect_position, found.pins_counted) == ("missing", "A1;B3", len(PINS) - 2)
    assert "- quantity of pins->6 pins\n- your judgement->defective\n- defect mode->missing" in found.report
    assert judge(recipe, JOB, [found], None, None).evaluation is Evaluation.NOT_OK
    beside = with_missing({"B3": GONE}, unsure=("B3",), ng=("A2",))
    assert (beside.defect_mode, beside.defect_position, beside.pins_counted) == ("bent", "A2;B3", len(PINS) - 1)


@pytest.mark.parametrize("measure", [THERE, GONE, ASIDE])
@pytest.mark.parametrize("ng", [(), ("A2",)])
@pytest.mark.parametrize("unsure", [(), ("B3",)])
@pytest.mark.parametrize("missing", [True, False])
def test_what_the_model_passed_or_rejected_stays_and_nothing_becomes_ok(
    measure: PinMeasure, ng: tuple[str, ...], unsure: tuple[str, ...], missing: bool
) -> None:
    before = make_region(ng=ng, unsure=unsure)
    after = with_missing(dict.fromkeys(PINS, measure), missing=missing, ng=ng, unsure=unsure)
    for was, now in zip(before.pins, after.pins, strict=True):
        is_gone = missing and measure is GONE and was.evaluation is Evaluation.NOT_DECIDABLE
        assert now.evaluation is (Evaluation.NOT_OK if is_gone else was.evaluation)
        assert now.p_defect == was.p_defect
    assert (after.evaluation is Evaluation.OK) == (before.evaluation is Evaluation.OK)
