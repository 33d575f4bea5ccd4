"""A model whose judgement hangs on the words of the question is found out, one that looks at the picture is not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from calibration.run_set import LabelledSet
from calibration.seen import Seen, seen_of
from calibration.wordings import FORM, PICTURES, RATES, ColonInspection, changed_by_wording, spread
from station import report
from station.certificate import prompt_sha256
from station.engine.base import Answer, Choice, Question
from station.errors import EngineError
from station.labels import Label
from station.recipe import Recipe
from station.records import Evaluation
from station.settings_file import load_settings
from station.shift_vote import VotingInspection
from tests.pictures import PINS, make_recipe
from tests.running_station import write_config
from tests.scenarios.test_calibration_verbs import write_set
from tests.verdicts import IMAGE, make_region, make_verdict

Decide = Callable[[Question, str], Evaluation]
"""What is asked, and the picture -> what is said."""


class WordedSet(LabelledSet):
    """A set that is judged by `decide` instead of a model."""

    decide: Decide
    asked: list[Question]

    def seen(self, model: Path | None = None, inspection: VotingInspection | None = None) -> Iterator[Seen]:
        assert model is None
        question = (inspection or VotingInspection(self.recipe, {})).question
        self.asked.append(question)
        for name in self.labels:
            said = self.decide(question, name)
            image = msgspec.structs.replace(IMAGE, name=name)
            verdict = make_verdict(evaluation=said, image=image, regions=(make_region(),))
            yield seen_of([Label(name, Evaluation.OK)], verdict, None)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    made = make_recipe(tmp_path / "recipe")
    pins = made.file.pins.model_copy(update={"instruction": "Look. Judge the pin."})
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins", "pins": pins})})


def changed(recipe: Recipe, folder: Path, decide: Decide) -> tuple[dict[str, float], list[Question]]:
    """Return the share of changed pictures by wording, and what was asked."""
    labelled = WordedSet(load_settings(write_config(folder)), recipe, write_set(folder / "set"))
    labelled.decide, labelled.asked = decide, []
    own = list(labelled.seen())
    rates = changed_by_wording(labelled, own, None)
    return {name: rate.share for name, rate in rates.items()}, labelled.asked


def test_a_model_that_looks_at_the_picture_does_not_change_and_each_wording_is_another(
    recipe: Recipe, tmp_path: Path
) -> None:
    def by_picture(_question: Question, name: str) -> Evaluation:
        return Evaluation.OK if name.startswith("good") else Evaluation.NOT_OK

    rates, asked = changed(recipe, tmp_path, by_picture)
    assert rates == dict.fromkeys(RATES, 0.0)
    assert len({prompt_sha256(question) for question in asked}) == len(RATES) + 1
    assert all(set("Look. Judge the pin.".split()) <= set(question.instruction.split()) for question in asked)


def test_a_model_that_hangs_on_the_words_is_found_out(recipe: Recipe, tmp_path: Path) -> None:
    def by_words(question: Question, name: str) -> Evaluation:
        is_kind = question.instruction.startswith("Please")
        return Evaluation.OK if is_kind or name.startswith("good") else Evaluation.NOT_OK

    rates, _ = changed(recipe, tmp_path, by_words)
    assert rates.pop("changed, asked with a request") == pytest.approx(2 / 3)
    assert set(rates.values()) == {0.0}


def test_an_answer_that_contradicts_itself_is_no_change_and_is_told_apart(recipe: Recipe, tmp_path: Path) -> None:
    def by_picture(question: Question, name: str) -> Evaluation:
        has_colons = "judgement:" in question.slots[0].before
        if name.startswith("good"):
            return Evaluation.UNDEFINED if has_colons else Evaluation.OK
        return Evaluation.OK if has_colons else Evaluation.NOT_OK

    rates, _ = changed(recipe, tmp_path, by_picture)
    assert rates.pop("unanswered, asked with colons") == pytest.approx(1 / 3)
    assert rates.pop("changed, asked with colons") == 1.0, "of the two that were answered, both"
    assert rates == dict.fromkeys(RATES[:-1], 0.0)


def test_a_form_that_cannot_be_asked_is_left_out_and_an_engine_that_fails_is_not(
    recipe: Recipe, tmp_path: Path
) -> None:
    def failing(where: str) -> Decide:
        def decide(question: Question, _name: str) -> Evaluation:
            if where in question.instruction + question.slots[0].before:
                raise EngineError("the tokenizer does not fit")
            return Evaluation.OK

        return decide

    assert changed(recipe, tmp_path / "form", failing("judgement:"))[0].keys() == set(RATES[:-1])
    with pytest.raises(EngineError):
        changed(recipe, tmp_path / "words", failing("Please"))


def test_answers_in_the_other_form_are_read_as_in_the_own(recipe: Recipe) -> None:
    inspection = ColonInspection(recipe)
    assert [slot.before for slot in inspection.question.slots] == ["- your judgement:", "\n- defect mode:"]
    answers = [
        Answer(
            query_id=f"pins/{pin}",
            choices=(
                Choice(chosen=report.PASSED, probabilities=(0.99, 0.01, 0.0)),
                Choice(chosen=report.NONE, probabilities=(1.0, 0.0, 0.0)),
            ),
            text="- your judgement:passed\n- defect mode:none",
        )
        for pin in PINS
    ]
    (region,) = inspection.regions(answers, 1.0)
    assert region.evaluation is Evaluation.OK
    assert FORM in RATES[-1]


@pytest.mark.parametrize("count", [0, 1, PICTURES, PICTURES + 1, 100, 1000])
def test_pictures_are_spread_over_the_set(count: int) -> None:
    names = [f"{number:04}" for number in range(count)]
    chosen = spread(names)
    assert len(chosen) <= PICTURES
    assert chosen == sorted(set(chosen))
    assert chosen[:1] == names[:1]
    assert count < PICTURES or len(chosen) > PICTURES // 2
