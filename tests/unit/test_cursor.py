"""Walking an answer form over logits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.engine.base import Slot
from station.engine.cursor import Cursor, SlotTokens
from station.errors import EngineError

VOCABULARY = 12
FORM = (
    SlotTokens(Slot("judgement ", ("good", "bad")), (9, 8), ((1,), (2,))),
    SlotTokens(Slot(" place ", ("none", "A1", "A2", "B1")), (7,), ((3,), (4, 5), (4, 6), (2, 5))),
)


def logits(**share: float) -> np.ndarray:
    """Return logits that give token `t<n>` its share; the rest is spread over token 0."""
    values = np.full(VOCABULARY, -60.0, np.float32)
    values[0] = math.log(max(1e-9, 1 - sum(share.values())))
    for name, value in share.items():
        values[int(name[1:])] = math.log(value)
    return values


def test_the_fixed_text_comes_first_and_the_likeliest_allowed_answer_is_taken() -> None:
    cursor = Cursor(FORM)
    given = [cursor.tokens]
    for row in (logits(t1=0.2, t2=0.3, t11=0.5), logits(t3=0.1, t4=0.8), logits(t5=0.25, t6=0.75)):
        cursor.take(row)
        given.append(cursor.tokens)
    assert given == [(9, 8), (2, 7), (4,), ()]
    assert [choice.chosen for choice in cursor.choices] == ["bad", "A2"]
    assert cursor.text() == "judgement bad place A2"


def test_probabilities_are_of_the_whole_vocabulary_and_of_all_tokens() -> None:
    cursor = Cursor(FORM)
    cursor.take(logits(t1=0.2, t2=0.3, t11=0.5))
    judgement = cursor.choices[0]
    assert judgement.probabilities == pytest.approx((0.2, 0.3), abs=1e-4)
    assert judgement.mass == pytest.approx(0.5, abs=1e-4)
    cursor.take(logits(t3=0.1, t4=0.8))
    cursor.take(logits(t5=0.25, t6=0.75))
    assert cursor.choices[1].probabilities[1:3] == pytest.approx((0.2, 0.6), abs=1e-4)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_an_engine_error(wrong: float) -> None:
    values = logits(t1=0.5)
    values[3] = wrong
    with pytest.raises(EngineError, match="not finite"):
        Cursor(FORM).take(values)


@given(st.lists(st.lists(st.floats(-30, 30), min_size=VOCABULARY, max_size=VOCABULARY), min_size=3, max_size=3))
def test_whatever_the_model_says_the_answer_stays_in_the_form(rows: list[list[float]]) -> None:
    cursor = Cursor(FORM)
    for row in rows:
        if cursor.tokens:
            cursor.take(np.array(row, np.float32))
    assert cursor.tokens == ()
    assert [c.chosen in part.slot.choices for c, part in zip(cursor.choices, FORM, strict=True)] == [True, True]
    for choice in cursor.choices:
        assert all(0 <= p <= 1 for p in choice.probabilities)
    assert cursor.choices[0].mass <= 1 + 1e-9
