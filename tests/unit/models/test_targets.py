"""The figures of the targets' table, against cases whose answer is known."""

from typing import Any

import numpy as np
import pytest
import targets
from measure import share


def test_kappa_is_one_for_agreement_and_zero_for_chance() -> None:
    assert targets.kappa([("OK", "OK"), ("NOT_OK", "NOT_OK")]) == 1.0
    assert targets.kappa([("OK", "OK"), ("OK", "NOT_OK"), ("NOT_OK", "OK"), ("NOT_OK", "NOT_OK")]) == 0.0


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_slope_finds_how_much_too_sure_margins_are(factor: float) -> None:
    rng = np.random.default_rng(1)
    margins = rng.normal(0, 2, 40_000)
    bad = rng.random(40_000) < 1 / (1 + np.exp(-factor * margins))
    assert targets.slope(margins, bad) == pytest.approx(factor, rel=0.05)


def test_the_bend_that_half_of_the_parts_show_lies_between_the_measured_ones() -> None:
    curve = {"0.40": share(0, 10), "0.50": share(4, 10), "0.60": share(9, 10)}
    assert targets.bend_at(curve, 0.5) == pytest.approx(0.52)


def test_swapped_pins_and_blank_crops_are_counted() -> None:
    said: dict[str, list[Any]] = {
        "blank": ["NOT_DECIDABLE"] * 299 + ["OK"], "no picture": ["NOT_DECIDABLE"] * 300,
        "swapped": [["NOT_OK", "OK"]] * 298 + [["OK", "OK"], ["NOT_OK", "NOT_OK"]],
    }  # fmt: skip
    found = targets.guards_of(said)
    assert found["blank said OK"]["k"] == 1
    assert found["defect found at its new place"]["k"] == 299
    assert found["good pin passed at its new place"]["k"] == 299
