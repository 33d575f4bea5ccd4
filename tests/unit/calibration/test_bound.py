"""The promise kept: on 200 random splits of a drawn set, the escape bound is broken no more often than it may be.

The set: 600 parts of five drawn products, judged once the way of the line by the base without any training, which errs
often enough for the limits to matter (models/pins-tiny/training/base-on-unseen-products.json).
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from calibration.confidence import upper
from calibration.thresholds import fixed_sequence

SCORES = Path(__file__).parents[3] / "models/pins-tiny/training/base-on-unseen-products.json"
SPLITS, CONFIDENCE = 200, 0.95
BROKEN_AT_MOST = round((1 - CONFIDENCE) * SPLITS)


def scores(is_bad: bool) -> npt.NDArray[np.float64]:
    return np.array([part["margin"] for part in json.loads(SCORES.read_text()) if part["is_bad"] is is_bad])


def broken(values: npt.NDArray[np.float64], promised: float) -> tuple[int, int, int]:
    """Return in how many splits the other half, and the whole set, break the promise, and in how many there is a limit.

    The two halves of one set are no independent samples: where the one has few errors, the other has more. So the
    other half is the harder test, the whole set (from which the half was drawn) the one that the promise speaks of.
    """
    rng = np.random.default_rng(17)
    other_half = whole = limits = 0
    for _ in range(SPLITS):
        order = rng.permutation(len(values))
        calibrate, rest = values[order[: len(values) // 2]], values[order[len(values) // 2 :]]
        limit = fixed_sequence(calibrate, promised, CONFIDENCE)
        if limit is not None:
            limits += 1
            other_half += float((rest <= limit).mean()) > promised
            whole += float((values <= limit).mean()) > promised
    return other_half, whole, limits


@pytest.mark.parametrize("promised", [0.03, 0.05, 0.10])
def test_escapes_stay_below_the_promise_in_95_of_100_splits(promised: float) -> None:
    other_half, whole, limits = broken(scores(is_bad=True), promised)
    assert limits == SPLITS, "150 defective parts are enough for 3 %"
    assert other_half <= BROKEN_AT_MOST
    assert whole <= BROKEN_AT_MOST


@pytest.mark.parametrize("promised", [0.03, 0.05, 0.10])
def test_false_rejects_stay_below_the_promise_in_95_of_100_splits(promised: float) -> None:
    _, whole, limits = broken(-scores(is_bad=False), promised)
    assert limits == SPLITS
    assert whole <= BROKEN_AT_MOST


def test_the_lowest_limit_without_an_escape_would_break_it() -> None:
    """What people do by hand: the limit just below the worst part seen. With 20 parts it breaks 5 % very often."""
    values, rng = scores(is_bad=True), np.random.default_rng(17)
    count = 0
    for _ in range(SPLITS):
        order = rng.permutation(len(values))
        limit = values[order[:20]].min() - 0.1
        count += float((values[order[20:]] <= limit).mean()) > 0.05
    assert count > 2 * BROKEN_AT_MOST
    assert upper(0, 20) > 0.05, "20 parts prove less"
