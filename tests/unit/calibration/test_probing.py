"""The OK limit lies where the challenge passes: above the golden picture's score, below that of what is not there."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from calibration.calibrate import with_challenge
from calibration.probing import Probed
from calibration.thresholds import Promise
from station import report
from station.capture.crop import golden_crops
from station.engine.base import Answer, Choice, Picture, Query
from station.guards import start_probes
from station.recipe import Recipe
from station.records import Failure, Reason
from tests.pictures import make_recipe
from tests.unit.calibration.test_certificate import line_of

GOLDEN, BLIND, DEFECT = 0.02, 0.2, 0.99
"""p(defect) of a pin like the golden one, of a tile without any structure, of a pin that looks otherwise."""
PROMISE = Promise(max_escape=0.05, max_reject=0.05, confidence=0.95)
Score = Callable[[Picture], float]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = make_recipe(tmp_path_factory.mktemp("recipe"))
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins"})})


def score(picture: Picture) -> float:
    """Return what an engine says that sees, but is not sure of what it never saw."""
    pixels = np.frombuffer(picture.pixels_rgb, np.uint8).reshape(picture.height_px, 3, picture.width_px // 3, 3)
    golden, test, _ = np.moveaxis(pixels.mean(axis=3), 1, 0)
    if test.std() < 5 or golden.std() < 5:
        return BLIND
    height, width = test.shape
    middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    return DEFECT if np.abs(test - golden)[middle].mean() > 8 else GOLDEN


def answer(query: Query, modes: tuple[str, ...], score: Score) -> Answer:
    p_defect = score(query.pictures[0])
    judgement = report.DEFECTIVE if p_defect > 0.5 else report.PASSED
    mode = modes[0] if judgement == report.DEFECTIVE else report.NONE
    return Answer(
        query_id=query.query_id,
        choices=(
            Choice(chosen=judgement, probabilities=(1 - p_defect, p_defect, 0.0)),
            Choice(chosen=mode, probabilities=tuple(float(mode == one) for one in (report.NONE, *modes))),
        ),
        text=report.pin_text(report.PinAnswer(judgement, mode)),
    )


def probed(recipe: Recipe, score: Score = score) -> Probed:
    modes = recipe.file.defect_modes
    probes = start_probes(recipe, golden_crops(recipe))
    return Probed(recipe, {probe.name: [answer(query, modes, score) for query in probe.queries] for probe in probes})


def test_the_challenge_passes_between_the_golden_picture_and_what_is_not_there(recipe: Recipe) -> None:
    asked = probed(recipe)
    assert asked.problems(0.1) == ()
    unseen = ["blank", "black", "grey on grey", "wrong golden", "planted missing"]
    assert [text.split(" (")[0] for text in asked.problems(0.5)] == unseen
    assert any(text.startswith("golden (G5) must be OK") for text in asked.problems(0.01))


@pytest.mark.parametrize("most", [0.1, 0.5, 1.0])
def test_the_largest_limit_that_passes_is_found(recipe: Recipe, most: float) -> None:
    found = probed(recipe).ok_limit(most)
    assert found is not None
    assert found == min(most, float(np.nextafter(BLIND, 0)))


def test_there_is_none_where_nothing_tells_a_blank_from_a_good_pin(recipe: Recipe) -> None:
    assert probed(recipe, lambda picture: max(BLIND, score(picture))).ok_limit(1.0) is None


def test_a_probe_without_an_answer_passes_with_no_limit(recipe: Recipe) -> None:
    asked = probed(recipe)
    lost = Failure(reason=Reason.ENGINE_FAILED, detail="it ended")
    answers = dict.fromkeys((probe.name for probe in start_probes(recipe, golden_crops(recipe))), lost)
    assert Probed(recipe, answers).ok_limit(1.0) is None
    assert asked.ok_limit(1.0) is not None


def test_a_limit_that_the_parts_allow_is_lowered_until_the_challenge_passes(recipe: Recipe) -> None:
    seen = line_of(600)
    alone = with_challenge(seen, PROMISE, None)
    found = with_challenge(seen, PROMISE, probed(recipe))
    assert alone.limits is not None
    assert found.limits is not None
    assert GOLDEN < found.limits.ok_max_p_defect < BLIND < alone.limits.ok_max_p_defect
    assert len(found.challenged) == 5
    assert alone.challenged == ()
    assert found.verified == "proven"


def test_without_a_limit_that_passes_there_is_no_certificate(recipe: Recipe) -> None:
    found = with_challenge(line_of(600), PROMISE, probed(recipe, lambda picture: max(BLIND, score(picture))))
    assert found.limits is None
    assert found.challenged
    assert msgspec.to_builtins(found)["verified"] == "no limits"
