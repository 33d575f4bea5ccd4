"""Decisions are counted as the AIAG's manual counts them, repetitions are kept apart, limits are those of parts."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.agreement import (
    OTHER_SET_UP,
    OTHER_STATION,
    RE_PRESENTED,
    SAME_PICTURE,
    Reading,
    decisions,
    kappa,
    rate,
    repetitions,
)
from calibration.confidence import upper
from station.records import Evaluation

OK, NOT_OK, UNSURE = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE


def reading(
    part: str,
    said: Evaluation,
    *,
    bad: bool = False,
    set_up: str = "day",
    again: int = 1,
    station: str = "S",
    m: float = 0,
) -> Reading:
    return Reading(f"{part}-{station}-{set_up}-{again}", part, bad, station, set_up, str(again), said, m)


def study(said: Mapping[str, tuple[bool, Sequence[Sequence[Evaluation]]]]) -> list[Reading]:
    """Return readings of part -> (is bad, for each set-up what was said)."""
    return [
        reading(part, word, bad=bad, set_up=f"set-up {number}", again=again)
        for part, (bad, set_ups) in said.items()
        for number, words in enumerate(set_ups, 1)
        for again, word in enumerate(words, 1)
    ]


def test_the_manuals_appraisers_have_the_manuals_rates() -> None:
    """AIAG MSA, 4th edition, III C: 16 bad and 34 good parts, three trials; cross-tables with the reference.

    Printed there: A 84 % [71, 93], 6.3 %, 4.9 %, kappa 0.88; B 90 %, 6.3 %, 2.0 %, 0.92; C 80 %, 12.5 %, 8.8 %, 0.77.
    The trials are put so that as many parts are mixed as the manual says.
    """
    printed = {"A": (3, 3, 5, 5, 42, 0.88), "B": (3, 3, 2, 2, 45, 0.92), "C": (6, 4, 9, 6, 40, 0.77)}
    rates = {"A": (6.3, 4.9), "B": (6.3, 2.0), "C": (12.5, 8.8)}
    for name, (missed, missed_parts, alarms, alarm_parts, right, value) in printed.items():
        said = {}
        for number in range(16):
            wrong = missed // missed_parts + (number < missed % missed_parts) if number < missed_parts else 0
            said[f"bad {number}"] = (True, [[OK] * wrong + [NOT_OK] * (3 - wrong)])
        for number in range(34):
            wrong = alarms // alarm_parts + (number < alarms % alarm_parts) if number < alarm_parts else 0
            said[f"good {number}"] = (False, [[NOT_OK] * wrong + [OK] * (3 - wrong)])
        (found,) = decisions(study(said))
        assert (found.missed.wrong, found.false_alarms.wrong) == (missed, alarms)
        assert (round(100 * found.missed.share + 1e-9, 1), round(100 * found.false_alarms.share, 1)) == rates[name]
        assert (found.effectiveness.k, found.effectiveness.n) == (right, 50)
        assert found.kappa.kappa == pytest.approx(value, abs=0.005)


def test_a_reject_without_a_decision_is_a_false_alarm_and_no_miss() -> None:
    (found,) = decisions([reading("good", UNSURE), reading("bad", UNSURE, bad=True)])
    assert (found.false_alarms.wrong, found.missed.wrong, found.undecided) == (1, 0, 2)


def test_all_set_ups_together_count_a_part_right_only_if_each_was() -> None:
    found = decisions(study({"P1": (False, [[OK, OK], [OK, NOT_OK]]), "P2": (True, [[NOT_OK] * 2, [NOT_OK] * 2])}))
    assert [(one.name, one.effectiveness.k) for one in found] == [("set-up 1", 2), ("set-up 2", 1), ("all", 1)]
    assert (found[-1].false_alarms.wrong, found[-1].false_alarms.of) == (1, 4)


def test_the_three_kinds_of_repetition_are_kept_apart() -> None:
    first = reading("P1", OK, m=-3.0)
    readings = [
        first,
        reading("P1", OK, again=2, m=-2.5),
        reading("P1", NOT_OK, set_up="night", m=1.0),
        reading("P1", NOT_OK, station="T", m=1.5),
    ]
    found = {one.kind: one for one in repetitions(readings, [(first, first)])}
    assert list(found) == [SAME_PICTURE, RE_PRESENTED, OTHER_SET_UP, OTHER_STATION]
    assert {kind: (one.differing.wrong, one.differing.of) for kind, one in found.items()} == {
        SAME_PICTURE: (0, 1), RE_PRESENTED: (0, 1), OTHER_SET_UP: (2, 2), OTHER_STATION: (2, 3),
    }  # fmt: skip
    assert {kind: one.largest_step for kind, one in found.items()} == {
        SAME_PICTURE: 0.0, RE_PRESENTED: 0.5, OTHER_SET_UP: 4.0, OTHER_STATION: 4.5,
    }  # fmt: skip


words = st.lists(st.sampled_from([OK, NOT_OK]), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=2, max_size=12))
def test_re_presented_in_one_set_up_is_the_kappa_of_fleiss(said: list[list[Evaluation]]) -> None:
    readings = study({f"P{number}": (False, [row]) for number, row in enumerate(said)})
    (found,) = repetitions(readings, [])
    counts = np.array([[Counter(row)[OK], Counter(row)[NOT_OK]] for row in said])
    shares = counts.sum(0) / counts.sum()
    chance = float((shares**2).sum())
    agreement = float(((counts**2).sum(1) - 3).mean() / 6)  # Fleiss 1971
    if chance == 1:
        assert found.kappa.kappa is None
    else:
        assert found.kappa.kappa == pytest.approx((agreement - chance) / (1 - chance))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), words), min_size=1, max_size=12))
def test_kappa_against_the_reference_is_that_of_cohen(said: list[tuple[bool, list[Evaluation]]]) -> None:
    (found,) = decisions(study({f"P{number}": (bad, [row]) for number, (bad, row) in enumerate(said)}))
    pairs = [(not bad, word is OK) for bad, row in said for word in row]
    seen = sum(a == b for a, b in pairs) / len(pairs)
    chance = sum(
        sum(a == value for a, _ in pairs) * sum(b == value for _, b in pairs) for value in (True, False)
    ) / len(pairs) ** 2  # fmt: skip
    if chance > 1 - 1e-12:
        assert found.kappa.kappa is None
    else:
        assert found.kappa.kappa == pytest.approx((seen - chance) / (1 - chance))


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=12))
def test_limits_enclose_the_share_and_kappa(said: list[list[Evaluation]]) -> None:
    found = rate({str(number): [float(word is NOT_OK) for word in row] for number, row in enumerate(said)})
    assert found.lower95 <= found.share <= found.upper95
    value = kappa(found, 0.5)
    assert value.lower95 is not None
    assert value.kappa is not None
    assert value.upper95 is not None
    assert max(-1, value.lower95) <= value.kappa <= value.upper95


def test_agreement_without_a_flaw_proves_only_what_the_number_of_parts_can() -> None:
    found = rate({str(number): [0.0] * 9 for number in range(25)})
    assert found.upper95 == pytest.approx(upper(0, 25)) == pytest.approx(0.113, abs=0.001)
    assert kappa(found, 0.5).lower95 == pytest.approx(1 - 2 * 0.1129, abs=0.001)


def test_the_limit_of_the_miss_rate_holds_when_readings_of_a_part_come_together() -> None:
    rng = np.random.default_rng(2)
    held, runs = 0, 400
    for _ in range(runs):
        of_parts = rng.beta(0.2, 1.8, 30)  # a few parts are hard, most are easy: on average 10 % of readings are wrong
        found = rate(
            {str(part): (rng.random(9) < chance).astype(float).tolist() for part, chance in enumerate(of_parts)}
        )
        held += found.upper95 >= 0.1
    assert held >= 0.95 * runs


def test_the_limit_of_kappa_holds_when_readings_of_a_part_come_together() -> None:
    rng = np.random.default_rng(4)
    chances = rng.beta(0.2, 1.8, 100_000)  # of a wrong decision, for each part; half of the parts are bad
    accepted = float(np.concatenate([chances[::2], 1 - chances[1::2]]).mean())
    true = 1 - float((2 * chances * (1 - chances)).mean()) / (2 * accepted * (1 - accepted))
    held, runs = 0, 100
    for _ in range(runs):
        said: dict[str, tuple[bool, list[list[Evaluation]]]] = {}
        for number, chance in enumerate(rng.choice(chances, 30)):
            is_wrong, bad = rng.random(3) < chance, bool(number % 2)
            said[f"P{number}"] = (bad, [[OK if wrong == bad else NOT_OK for wrong in is_wrong]])
        (found,) = repetitions(study(said), [])
        held += found.kappa.lower95 is not None and found.kappa.lower95 <= true
    assert held >= 0.95 * runs


def test_no_pairs_no_row() -> None:
    assert repetitions([reading("P1", OK)], []) == ()
    assert {one.kind for one in repetitions([reading("P1", OK), reading("P2", OK)], [])} == set()
