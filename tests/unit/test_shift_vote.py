"""A pin that is OK by little stays OK only if it is so a pixel aside too; nothing is ever made OK by the vote."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import report
from station.capture.crop import golden_crops
from station.engine.base import Answer, Choice
from station.recipe import Recipe
from station.records import Evaluation, Job, RegionCrop
from station.shift_vote import SHIFTS_MODEL_PX, VotingInspection
from tests.pictures import PINS, draw_part, make_recipe
from tests.worker_parts import make_job

LIMIT = math.log(0.2 / 0.8)
"""The test recipe's OK limit, in log odds; from 0.8 on it is NOT_OK."""
CLEAR, NEAR = -9.0, LIMIT - 0.5
Votes = tuple[float, float]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = make_recipe(tmp_path_factory.mktemp("recipe"))
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins"})})


@pytest.fixture(scope="module")
def inspection(recipe: Recipe) -> VotingInspection:
    return VotingInspection(recipe, golden_crops(recipe))


@pytest.fixture(scope="module")
def job(recipe: Recipe) -> Job:
    box = recipe.file.regions[0].box
    crop = draw_part(noise=1.0)[box.y : box.y + box.height, box.x : box.x + box.width, ::-1]
    pixels = np.ascontiguousarray(crop).tobytes()
    made = RegionCrop(region_id="pins", width_px=box.width, height_px=box.height, pixels_rgb=pixels)
    plain = make_job("part")
    return Job(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"crops": (made,)})


def answer(query_id: str, margin: float, mass: float = 1.0) -> Answer:
    """Return an answer with these log odds of a defect."""
    bad = 1 / (1 + math.exp(-margin))
    judgement = report.DEFECTIVE if bad > 0.5 else report.PASSED
    mode = "missing" if bad > 0.5 else report.NONE
    return Answer(
        query_id=query_id,
        choices=(
            Choice(chosen=judgement, probabilities=(mass * (1 - bad), mass * bad, 0.0)),
            Choice(chosen=mode, probabilities=(float(mode == "none"), float(mode == "missing"), 0.0)),
        ),
        text=report.pin_text(report.PinAnswer(judgement, mode)),
    )


def answers(**near: float) -> tuple[Answer, ...]:
    return tuple(answer(f"pins/{pin}", near.get(pin, CLEAR)) for pin in PINS)


def voted(inspection: VotingInspection, first: float, votes: Votes, mass: float = 1.0) -> tuple[Evaluation, float]:
    """Return what is said of pin B3 and its p(defect), after these votes."""
    asked = answers(B3=first)
    cast = [answer(f"pins/B3{shift:+d}", vote, mass) for shift, vote in zip(SHIFTS_MODEL_PX, votes, strict=True)]
    (region,) = inspection.regions(inspection.settled(asked, cast), 1.0)
    (pin,) = (pin for pin in region.pins if pin.pin_id == "B3")
    assert region.evaluation is pin.evaluation, "the other pins are OK"
    return pin.evaluation, pin.p_defect


def test_clear_answers_and_rejected_parts_are_asked_once(inspection: VotingInspection, job: Job) -> None:
    assert inspection.doubts(job, answers()) == ()
    assert inspection.doubts(job, answers(B3=NEAR, A1=8.0)) == ()
    assert inspection.doubts(job, answers(B3=LIMIT - 1.1)) == ()


def test_a_pin_near_the_limit_is_asked_about_a_pixel_to_each_side(
    recipe: Recipe, inspection: VotingInspection, job: Job
) -> None:
    asked = inspection.doubts(job, answers(B3=NEAR))
    assert [query.query_id for query in asked] == ["pins/B3+1", "pins/B3-1"]
    (plain,) = (query for query in inspection.queries(job) if query.query_id == "pins/B3")
    side = recipe.file.pins.tile_model_px

    def tile(pixels: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.frombuffer(pixels, np.uint8).reshape(side, 3 * side, 3)[:, side : 2 * side]

    first = tile(plain.pictures[0].pixels_rgb)
    assert (tile(asked[0].pictures[0].pixels_rgb)[:-1, :-1] == first[1:, 1:]).all()
    assert (tile(asked[1].pictures[0].pixels_rgb)[1:, 1:] == first[:-1, :-1]).all()


@pytest.mark.parametrize("votes", [(NEAR, NEAR), (NEAR - 0.9, NEAR), (NEAR + 0.4, NEAR - 0.4)])
def test_votes_that_agree_leave_it_ok(inspection: VotingInspection, votes: Votes) -> None:
    assert voted(inspection, NEAR, votes)[0] is Evaluation.OK


@pytest.mark.parametrize(
    "votes", [(NEAR, LIMIT + 0.1), (LIMIT + 0.3, NEAR), (NEAR, 12.0), (NEAR - 1.1, NEAR), (CLEAR, CLEAR)]
)
def test_a_vote_beyond_the_limit_or_far_off_makes_it_undecidable(inspection: VotingInspection, votes: Votes) -> None:
    evaluation, p_defect = voted(inspection, NEAR, votes)
    assert evaluation is Evaluation.NOT_DECIDABLE
    assert p_defect == pytest.approx(1 / (1 + math.exp(-NEAR))), "the score is that of the first tile"


def test_a_vote_of_a_model_that_wants_to_say_something_else_makes_it_undecidable(inspection: VotingInspection) -> None:
    assert voted(inspection, NEAR, (NEAR, NEAR), mass=0.3)[0] is Evaluation.NOT_DECIDABLE


@given(first=st.floats(-12, 12), votes=st.tuples(st.floats(-12, 12), st.floats(-12, 12)))
def test_a_vote_can_only_take_an_ok_away(inspection: VotingInspection, first: float, votes: Votes) -> None:
    (region,) = inspection.regions(answers(B3=first), 1.0)
    before = next(pin for pin in region.pins if pin.pin_id == "B3")
    after, p_defect = voted(inspection, first, votes)
    assert p_defect == pytest.approx(before.p_defect)
    if after is Evaluation.OK:
        assert before.evaluation is Evaluation.OK
        assert max(first, *votes) <= LIMIT
    else:
        assert after in {before.evaluation, Evaluation.NOT_DECIDABLE}


def test_asked_by_report_there_is_no_vote(recipe: Recipe, job: Job) -> None:
    file = recipe.file.model_copy(update={"ask": "report"})
    by_report = VotingInspection(recipe.model_copy(update={"file": file}), golden_crops(recipe))
    assert by_report.doubts(job, answers(B3=NEAR)) == ()
