"""The measurement may take an OK away, and nothing else."""

import itertools

import msgspec
import pytest

from station.judge import judge
from station.measurement import objection, with_measures
from station.recipe import Measurement, Recipe
from station.records import Evaluation, PinMeasure, Reason
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
    return list(with_measures([make_region(**region)], msgspec.structs.replace(JOB, crops=(crop,))))


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
    assert with_measures([make_region()], JOB) == (make_region(),)
    assert objection(LIMITS, [make_region()]) == ""


def test_no_number_is_an_objection() -> None:
    nan = msgspec.structs.replace(THERE, presence=float("nan"))
    assert "A1" in objection(LIMITS, asked({"A1": nan}))  # type: ignore[arg-type]
