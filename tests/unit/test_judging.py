"""From answers to a judgement: OK is the last branch, never the default."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import report
from station.engine.base import Answer, Choice
from station.inspection import Inspection
from station.judge import evaluate_probability, judge
from station.recipe import Box, Pin, Recipe, Region, Thresholds
from station.records import Evaluation, Failure, ImageRef, Job, Reason, RegionCrop, RegionReport, ResultState
from tests.pictures import make_recipe

IMAGE = ImageRef(name="part.jpg", sha256="0" * 64, size_bytes=1)
LIMITS = Thresholds(ok_max_p_defect=0.3, not_ok_min_p_defect=0.6, min_mass=0.9)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = make_recipe(tmp_path_factory.mktemp("recipe"))
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins", "thresholds": LIMITS})})


def crop(recipe: Recipe) -> RegionCrop:
    region = recipe.file.regions[0]
    pixels = bytes(region.box.width * region.box.height * 3)
    return RegionCrop(
        region_id=region.region_id, width_px=region.box.width, height_px=region.box.height, pixels_rgb=pixels
    )


def job(recipe: Recipe, failure: Failure | None = None) -> Job:
    return Job(
        job_id="20260101T000000000-00000000", part_id=None, image=IMAGE, recipe="r", recipe_sha256="0" * 64,
        registration=None, crops=() if failure else (crop(recipe),), failure=failure,
        captured_utc="2026-01-01T00:00:00.000", capture_ms=1.0,
    )  # fmt: skip


def inspection(recipe: Recipe, ask: str = "pins") -> Inspection:
    changed = recipe.model_copy(update={"file": recipe.file.model_copy(update={"ask": ask})})
    return Inspection(changed, {recipe.file.regions[0].region_id: crop(recipe)})


def pin_answer(query_id: str, passed: float, defective: float, undecidable: float = 0.0, mode: str = "bent") -> Answer:
    best = max(zip((passed, defective, undecidable), report.JUDGEMENTS, strict=True))[1]
    mode = mode if best == report.DEFECTIVE else report.NONE
    modes = (report.NONE, "missing", "bent", "deformed", "contaminated", "short")
    return Answer(
        query_id=query_id,
        choices=(
            Choice(chosen=best, probabilities=(passed, defective, undecidable)),
            Choice(chosen=mode, probabilities=tuple(float(m == mode) for m in modes)),
        ),
        text=report.pin_text(report.PinAnswer(best, mode)),
    )


def asked(recipe: Recipe, **special: tuple[float, float, float, str]) -> tuple[RegionReport, ...]:
    """Return the reports when every pin is clearly passed but those in `special`."""
    looked = inspection(recipe)
    answers = []
    for query in looked.queries(job(recipe)):
        pin = query.query_id.split("/")[1]
        passed, defective, undecidable, mode = special.get(pin, (0.99, 0.01, 0.0, "none"))
        answers.append(pin_answer(query.query_id, passed, defective, undecidable, mode))
    return looked.regions(tuple(answers), 5.0)


def test_all_pins_passed_is_ok_with_the_full_count(recipe: Recipe) -> None:
    reports = asked(recipe)
    judgement = judge(recipe, job(recipe), reports, None, None)
    assert (judgement.evaluation, judgement.result_state) == (Evaluation.OK, ResultState.COMPLETED)
    assert reports[0].pins_counted == reports[0].pins_expected == 8
    assert reports[0].defect_position == reports[0].defect_mode == "none"


def test_a_missing_pin_is_not_ok_lowers_the_count_and_is_named(recipe: Recipe) -> None:
    reports = asked(recipe, B2=(0.01, 0.99, 0.0, "missing"))
    judgement = judge(recipe, job(recipe), reports, None, None)
    assert judgement.evaluation is Evaluation.NOT_OK
    assert (reports[0].pins_counted, reports[0].defect_mode, reports[0].defect_position) == (7, "missing", "B2")
    assert "missing at B2" in judgement.detail
    assert "- defect position->B2" in reports[0].report


def test_several_bad_pins_are_all_named_in_recipe_order(recipe: Recipe) -> None:
    reports = asked(recipe, B1=(0.0, 1.0, 0.0, "bent"), A3=(0.2, 0.8, 0.0, "short"))
    assert (reports[0].defect_position, reports[0].defect_mode, reports[0].pins_counted) == ("A3;B1", "bent", 8)


@pytest.mark.parametrize(
    ("said", "evaluation", "reason"),
    [
        ((0.5, 0.5, 0.0, "bent"), Evaluation.NOT_DECIDABLE, Reason.MODEL_UNSURE),
        ((0.1, 0.1, 0.8, "none"), Evaluation.NOT_DECIDABLE, Reason.MODEL_SAYS_UNDECIDABLE),
        ((0.5, 0.01, 0.0, "none"), Evaluation.NOT_DECIDABLE, Reason.MODEL_UNSURE),  # half the mass elsewhere
        ((0.55, 0.02, 0.43, "none"), Evaluation.NOT_DECIDABLE, Reason.MODEL_UNSURE),
    ],
)
def test_one_unsure_pin_makes_the_part_not_decidable(
    recipe: Recipe, said: tuple[float, float, float, str], evaluation: Evaluation, reason: Reason
) -> None:
    judgement = judge(recipe, job(recipe), asked(recipe, A2=said), None, None)
    assert (judgement.evaluation, judgement.reason) == (evaluation, reason)


def test_a_pin_that_was_not_answered_makes_the_part_undefined(recipe: Recipe) -> None:
    looked = inspection(recipe)
    answers = [pin_answer(query.query_id, 0.99, 0.01) for query in looked.queries(job(recipe))][:-1]
    judgement = judge(recipe, job(recipe), looked.regions(answers, 1.0), None, None)
    assert (judgement.evaluation, judgement.reason) == (Evaluation.UNDEFINED, Reason.WRONG_ANSWER_FORM)


def test_an_answer_outside_the_form_is_never_ok(recipe: Recipe) -> None:
    looked = inspection(recipe)
    answers = [pin_answer(query.query_id, 0.99, 0.01) for query in looked.queries(job(recipe))]
    broken = Answer(query_id=answers[0].query_id, choices=answers[0].choices, text="It is fine.")
    reports = looked.regions([broken, *answers[1:]], 1.0)
    assert judge(recipe, job(recipe), reports, None, None).evaluation is not Evaluation.OK


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason >= 1000])
def test_a_failure_of_capture_or_worker_is_never_ok(recipe: Recipe, reason: Reason) -> None:
    failure = Failure(reason=reason, detail="what happened")
    for given_to in (
        judge(recipe, job(recipe, failure), None, None, None),
        judge(recipe, job(recipe), None, failure, None),
        judge(recipe, job(recipe), asked(recipe), failure, None),
    ):
        assert given_to.evaluation in (Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED)
        assert (given_to.reason, given_to.detail) == (reason, "what happened")


def region_report(recipe: Recipe, evaluation: Evaluation, counted: int | None) -> RegionReport:
    return RegionReport(
        region_id=recipe.file.regions[0].region_id, evaluation=evaluation, reason=Reason.NONE, p_defect=0.0,
        pins_counted=counted, pins_expected=8, defect_mode="none", defect_position="none", report="", ms=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(("evaluation", "counted"), list(itertools.product(Evaluation, (8, 7, 9, 0, None))))
def test_ok_needs_every_region_ok_and_counted_right(
    recipe: Recipe, evaluation: Evaluation, counted: int | None
) -> None:
    judgement = judge(recipe, job(recipe), [region_report(recipe, evaluation, counted)], None, None)
    assert (judgement.evaluation is Evaluation.OK) == (evaluation is Evaluation.OK and counted == 8)


@pytest.mark.parametrize(("evaluation", "counted"), list(itertools.product(Evaluation, (8, 7, None))))
def test_barred_nothing_is_ok_and_everything_else_stays(
    recipe: Recipe, evaluation: Evaluation, counted: int | None
) -> None:
    reports = [region_report(recipe, evaluation, counted)]
    bar = Failure(reason=Reason.NO_CERTIFICATE, detail="calibrate")
    free, barred = (judge(recipe, job(recipe), reports, None, bars) for bars in (None, bar))
    if free.evaluation is Evaluation.OK:
        assert barred.evaluation is Evaluation.NOT_DECIDABLE
        assert (barred.reason, barred.detail) == (bar.reason, bar.detail)
    else:
        assert barred == free


BAD = (0.01, 0.99, 0.0, "missing")


@pytest.mark.parametrize(
    ("bad", "evaluation"),
    [
        (["A1", "A2", "A3", "A4"], Evaluation.NOT_DECIDABLE),  # a whole row
        (["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4"], Evaluation.NOT_DECIDABLE),
        (["A1", "A2", "A3"], Evaluation.NOT_OK),
        (["A1", "A2", "A3", "B4"], Evaluation.NOT_OK),
        (["A1", "B1"], Evaluation.NOT_OK),  # a column, but a short one
    ],
)
def test_a_whole_row_of_defects_is_a_part_that_stands_wrong(
    recipe: Recipe, bad: list[str], evaluation: Evaluation
) -> None:
    judgement = judge(recipe, job(recipe), asked(recipe, **dict.fromkeys(bad, BAD)), None, None)
    assert judgement.evaluation is evaluation
    if evaluation is Evaluation.NOT_DECIDABLE:
        assert judgement.reason is Reason.IMPLAUSIBLE_PATTERN
        assert "A1, A2, A3, A4" in judgement.detail


def test_rows_and_columns_are_found_whatever_the_order_and_a_little_slant() -> None:
    places = {"B1": (2, 41), "A1": (0, 0), "A2": (40, 2), "B2": (42, 43)}
    pins = tuple(Pin(pin_id=name, x=x, y=y) for name, (x, y) in places.items())
    region = Region(region_id="r", box=Box(x=0, y=0, width=90, height=90), pins=pins)
    assert region.pitch_px == pytest.approx(40.05, abs=0.01)
    whole, *lines = region.lines
    assert whole == set(places)
    assert set(map(frozenset, lines)) == {frozenset(line.split()) for line in ("A1 A2", "B1 B2", "A1 B1", "A2 B2")}


def test_ok_needs_the_recipes_regions_no_less_no_more(recipe: Recipe) -> None:
    good = region_report(recipe, Evaluation.OK, 8)
    for reports in ([], [good, good], None):
        assert judge(recipe, job(recipe), reports, None, None).evaluation is Evaluation.UNDEFINED


@given(p_defect=st.floats(allow_nan=True), mass=st.floats(allow_nan=True))
def test_only_a_small_probability_with_enough_mass_is_ok(p_defect: float, mass: float) -> None:
    evaluation, _ = evaluate_probability(p_defect, mass, LIMITS)
    assert (evaluation is Evaluation.OK) == (mass >= 0.9 and p_defect <= 0.3)


def report_answer(region: str, count: int, passed: float, mode: str, position: str) -> Answer:
    judgement = report.PASSED if passed > 0.5 else report.DEFECTIVE
    lines = report.ReportAnswer(count, judgement, mode, position)
    return Answer(
        query_id=region,
        choices=(
            Choice(chosen=str(count), probabilities=(1.0,)),
            Choice(chosen=judgement, probabilities=(passed, 1 - passed, 0.0)),
            Choice(chosen=mode, probabilities=(1.0,)),
            Choice(chosen=position, probabilities=(1.0,)),
        ),
        text=report.report_text(lines),
    )


@pytest.mark.parametrize(
    ("count", "passed", "mode", "position", "evaluation"),
    [
        (8, 0.99, "none", "none", Evaluation.OK),
        (7, 0.99, "none", "none", Evaluation.NOT_DECIDABLE),  # says passed, but counts a pin too few
        (8, 0.99, "bent", "none", Evaluation.UNDEFINED),  # contradicts itself
        (7, 0.01, "missing", "A2", Evaluation.NOT_OK),
        (8, 0.60, "none", "none", Evaluation.NOT_DECIDABLE),
    ],
)
def test_asked_by_report_the_model_must_agree_with_itself(
    recipe: Recipe, count: int, passed: float, mode: str, position: str, evaluation: Evaluation
) -> None:
    looked = inspection(recipe, ask="report")
    region = recipe.file.regions[0].region_id
    reports = looked.regions([report_answer(region, count, passed, mode, position)], 1.0)
    assert judge(recipe, job(recipe), reports, None, None).evaluation is evaluation
    assert len(looked.queries(job(recipe))[0].pictures) == recipe.file.report.images
