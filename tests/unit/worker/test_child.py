"""What an engine must not get away with."""

import math

import pytest

from station.engine import frames
from station.engine.base import Answer, Choice, Query
from station.engine.child import _answer
from station.engine.scripted import Script, ScriptedEngine

ASK = frames.Ask(job_id="a", queries=(Query(query_id="q1", pictures=()), Query(query_id="q2", pictures=())))


class WrongEngine(ScriptedEngine):
    """Gives the answers that it was made with."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(Script())
        self._answers = answers

    def ask(self, queries: tuple[Query, ...]) -> tuple[Answer, ...]:  # noqa: ARG002
        return self._answers


def _said(query_id: str, probability: float = 0.9) -> Answer:
    choice = Choice(chosen="passed", probabilities=(probability, 0.1))
    return Answer(query_id=query_id, choices=(choice,), text="passed")


def test_answers_that_fit_go_through() -> None:
    answers = (_said("q1"), _said("q2"))
    assert _answer(WrongEngine(*answers), ASK) == frames.Answered(job_id="a", answers=answers)


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (_said("q1"),),
        (_said("q2"), _said("q1")),
        (_said("q1"), _said("q2"), _said("q3")),
        (_said("q1"), _said("q2", math.nan)),
        (_said("q1", math.inf), _said("q2")),
    ],
)
def test_missing_swapped_and_meaningless_answers_are_refused(answers: tuple[Answer, ...]) -> None:
    assert isinstance(_answer(WrongEngine(*answers), ASK), frames.Refused)


def test_a_frame_that_is_no_ask_ends_the_child() -> None:
    with pytest.raises(TypeError):
        _answer(WrongEngine(), frames.Refused(job_id=None, detail=""))
