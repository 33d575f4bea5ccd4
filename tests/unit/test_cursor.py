"""Walking an answer form over logits."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.engine.base import Slot
from station.engine.cursor import Cursor, Scores, SlotTokens, scores_of
from station.errors import EngineError

VOCABULARY = 12
FORM = (
    SlotTokens(Slot("judgement ", ("good", "bad")), (9, 8), ((1,), (2,))),
    SlotTokens(Slot(" place ", ("none", "A1", "A2", "B1")), (7,), ((3,), (4, 5), (4, 6), (2, 5, 10))),
)
EXPECTED = [(), ("good",), ("good", "none"), ("bad", "A2"), ("bad", "B1"), ("good", "A1")]

Model = Callable[[Sequence[int]], Scores]


def shares(**share: float) -> Scores:
    """Return scores that give token `t<n>` its share; the rest is spread over token 0."""
    values = np.full(VOCABULARY, -60.0, np.float32)
    values[0] = math.log(max(1e-9, 1 - sum(share.values())))
    for name, value in share.items():
        values[int(name[1:])] = math.log(value)
    return scores_of(values)


def model_of(seed: int) -> Model:
    """Return a model whose opinion depends on every token before, as a real one's does."""

    def opinion(before: Sequence[int]) -> Scores:
        dice = random.Random(f"{seed} {list(before)}")
        return scores_of(np.array([dice.uniform(-4, 4) for _ in range(VOCABULARY)], np.float32))

    return opinion


def walk(cursor: Cursor, model: Model) -> tuple[list[int], int]:
    """Walk to the end; return the tokens that stand, and how many times the model was asked."""
    stand: list[int] = []
    asked = 0
    while cursor.tokens:
        tokens = cursor.tokens
        kept = cursor.take([model([*stand, *tokens[: place + 1]]) for place in cursor.wanted])
        assert 0 < kept <= len(tokens)
        stand += tokens[:kept]
        asked += 1
    return stand, asked


def test_the_fixed_text_comes_first_and_the_likeliest_allowed_answer_is_taken() -> None:
    cursor = Cursor(FORM)
    given = [cursor.tokens]
    for score in (shares(t1=0.2, t2=0.3, t11=0.5), shares(t3=0.1, t4=0.8), shares(t5=0.25, t6=0.75)):
        cursor.take([score])
        given.append(cursor.tokens)
    assert given == [(9, 8), (2, 7), (4,), ()]
    assert [choice.chosen for choice in cursor.choices] == ["bad", "A2"]
    assert cursor.text() == "judgement bad place A2"


def test_probabilities_are_of_the_whole_vocabulary_and_of_all_tokens() -> None:
    cursor = Cursor(FORM)
    cursor.take([shares(t1=0.2, t2=0.3, t11=0.5)])
    judgement = cursor.choices[0]
    assert judgement.probabilities == pytest.approx((0.2, 0.3), abs=1e-4)
    assert judgement.mass == pytest.approx(0.5, abs=1e-4)
    cursor.take([shares(t3=0.1, t4=0.8)])
    cursor.take([shares(t5=0.25, t6=0.75)])
    assert cursor.choices[1].probabilities[1:3] == pytest.approx((0.2, 0.6), abs=1e-4)


def test_the_expected_answer_is_put_in_whole_and_needs_one_pass_when_the_model_agrees() -> None:
    cursor = Cursor(FORM, ("good", "none"))
    assert (cursor.tokens, cursor.wanted) == ((9, 8, 1, 7), (1, 3))
    assert cursor.take([shares(t1=0.9, t2=0.1), shares(t3=0.8)]) == 4
    assert cursor.text() == "judgement good place none"
    assert not cursor.tokens


def test_where_the_model_disagrees_what_was_put_in_behind_is_dropped_and_nothing_more_is_expected() -> None:
    cursor = Cursor(FORM, ("good", "none"))
    assert cursor.take([shares(t1=0.1, t2=0.9), shares(t3=0.8)]) == 2
    assert cursor.tokens == (2, 7)
    assert [choice.chosen for choice in cursor.choices] == ["bad"]
    assert cursor.take([shares(t3=0.1, t2=0.9)]) == 2
    assert cursor.tokens == (2, 5), "what only one answer can have is put in at once"
    assert cursor.take([shares(t5=0.5), shares(t10=0.5)]) == 2
    assert cursor.choices[1].probabilities[3] == pytest.approx(0.9 * 0.5 * 0.5, abs=1e-4)


@given(st.integers(0, 10_000), st.sampled_from(EXPECTED))
def test_what_is_expected_changes_only_the_number_of_passes(seed: int, expected: tuple[str, ...]) -> None:
    plain, hoping = Cursor(FORM), Cursor(FORM, expected)
    stand, asked = walk(plain, model_of(seed))
    same, fewer = walk(hoping, model_of(seed))
    assert same == stand
    assert hoping.choices == plain.choices
    assert fewer <= asked
    chosen = tuple(choice.chosen for choice in plain.choices)
    if len(expected) == 2 and chosen == expected:
        assert fewer == 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_an_engine_error(wrong: float) -> None:
    values = np.zeros(VOCABULARY, np.float32)
    values[3] = wrong
    with pytest.raises(EngineError, match="not finite"):
        Cursor(FORM).take([scores_of(values)])


@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=40))
def test_a_share_is_the_softmax_over_all_words(logits: list[float]) -> None:
    scores = scores_of(np.array(logits, np.float32))
    total = sum(math.exp(value - max(logits)) for value in logits)
    for token, value in enumerate(logits):
        assert scores.share(token) == pytest.approx(math.exp(value - max(logits)) / total, rel=1e-4, abs=1e-30)


@given(st.integers(0, 10_000))
def test_whatever_the_model_says_the_answer_stays_in_the_form(seed: int) -> None:
    cursor = Cursor(FORM)
    walk(cursor, model_of(seed))
    assert [c.chosen in part.slot.choices for c, part in zip(cursor.choices, FORM, strict=True)] == [True, True]
    for choice in cursor.choices:
        assert all(0 <= p <= 1 + 1e-9 for p in choice.probabilities)
    assert cursor.choices[0].mass <= 1 + 1e-9
