"""Gauge R&R gives the published figures, the components that went in, and limits that hold as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.gauge import GAUGE_RR, PART, TOTAL, Gauge, Numbers, f_tail, gauge

AIAG = np.array([
    [[0.29, 0.41, 0.64], [0.08, 0.25, 0.07], [0.04, -0.11, -0.15]],
    [[-0.56, -0.68, -0.58], [-0.47, -1.22, -0.68], [-1.38, -1.13, -0.96]],
    [[1.34, 1.17, 1.27], [1.19, 0.94, 1.34], [0.88, 1.09, 0.67]],
    [[0.47, 0.50, 0.64], [0.01, 1.03, 0.20], [0.14, 0.20, 0.11]],
    [[-0.80, -0.92, -0.84], [-0.56, -1.20, -1.28], [-1.46, -1.07, -1.45]],
    [[0.02, -0.11, -0.21], [-0.20, 0.22, 0.06], [-0.29, -0.67, -0.49]],
    [[0.59, 0.75, 0.66], [0.47, 0.55, 0.83], [0.02, 0.01, 0.21]],
    [[-0.31, -0.20, -0.17], [-0.63, 0.08, -0.34], [-0.46, -0.56, -0.49]],
    [[2.26, 1.99, 2.01], [1.80, 2.12, 2.19], [1.77, 1.45, 1.87]],
    [[-1.36, -1.25, -1.31], [-1.68, -1.62, -1.50], [-1.49, -1.77, -2.16]],
])[:, None]  # fmt: skip
"""The example of the AIAG's MSA manual (4th edition, chapter III B): parts x 1 station x appraisers x trials."""


def sigmas(found: Gauge) -> dict[str, float]:
    return {one.name: one.sigma for one in found.spreads}


def made(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    part: float,
    station: float,
    set_up: float,
    repeat: float,
) -> Numbers:
    """Return margins with these standard deviations and no interactions."""
    parts, stations, set_ups, _ = shape
    return (
        rng.normal(0, part, (parts, 1, 1, 1))
        + rng.normal(0, station, (1, stations, 1, 1))
        + rng.normal(0, set_up, (1, stations, set_ups, 1))
        + rng.normal(0, repeat, shape)
    )


def test_the_manuals_example_has_the_manuals_figures() -> None:
    found = gauge(AIAG)
    sums = {one.name: (round(one.sum_of_squares, 4), one.df) for one in found.sources}
    assert sums == {
        "parts": (88.3619, 9), "set-ups": (3.1673, 2), "parts x set-ups": (0.3590, 18), "recaptures": (2.7589, 60),
    }  # fmt: skip
    assert found.is_pooled
    assert found.interaction_p == pytest.approx(0.974, abs=0.001)
    published = {
        "repeatability (EV)": 0.199933,
        "set-up (AV)": 0.226838,
        GAUGE_RR: 0.302373,
        PART: 1.042327,
        TOTAL: 1.0853,
    }
    assert {name: sigmas(found)[name] for name in published} == pytest.approx(published, abs=2e-5)
    shares = {one.name: round(100 * one.share_of_total, 1) for one in found.spreads}
    assert (shares["repeatability (EV)"], shares["set-up (AV)"], shares[GAUGE_RR], shares[PART]) == (
        18.4,
        20.9,
        27.9,
        96.0,
    )
    assert found.categories == 4


def test_sums_of_squares_are_those_of_nested_least_squares() -> None:
    """An independent way: each source is what its columns explain beyond those of the sources before it."""
    shape = (4, 2, 3, 2)
    margins = np.random.default_rng(5).normal(size=shape)
    part, station, set_up, _ = np.indices(shape).reshape(4, -1)
    factors: dict[str, list[tuple[int, ...]]] = {
        "parts": list(zip(part)),
        "stations": list(zip(station)),
        "set-ups": list(zip(station, set_up, strict=True)),
        "parts x stations": list(zip(part, station, strict=True)),
        "parts x set-ups": list(zip(part, station, set_up, strict=True)),
    }
    design, left = np.ones((margins.size, 1)), {}
    before = float(((margins - margins.mean()) ** 2).sum())
    for name, levels in factors.items():
        dummies = np.array([[level == one for one in sorted(set(levels))] for level in levels], float)
        design = np.hstack([design, dummies])
        fitted = design @ np.linalg.lstsq(design, margins.ravel(), rcond=None)[0]
        after = float(((margins.ravel() - fitted) ** 2).sum())
        left[name], before = before - after, after
    left["recaptures"] = before
    assert {one.name: one.sum_of_squares for one in gauge(margins).sources} == pytest.approx(left)


def test_each_component_is_found_again() -> None:
    rng = np.random.default_rng(7)
    found = [sigmas(gauge(made(rng, (20, 6, 6, 3), 4.0, 1.5, 1.0, 0.5))) for _ in range(40)]
    mean = {name: math.sqrt(float(np.mean([one[name] ** 2 for one in found]))) for name in found[0]}
    assert mean["repeatability (EV)"] == pytest.approx(0.5, rel=0.02)
    assert mean["set-up (AV)"] == pytest.approx(1.0, rel=0.1)
    assert mean["station"] == pytest.approx(1.5, rel=0.15)
    assert mean[PART] == pytest.approx(4.0, rel=0.1)
    assert mean["parts x set-ups (INT)"] < 0.1


def test_the_upper_limits_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    true = {"repeatability (EV)": 0.5, GAUGE_RR: math.hypot(0.5, 1.0), PART: 3.0}
    held = dict.fromkeys(true, 0)
    runs = 200
    for _ in range(runs):
        found = gauge(made(rng, (10, 1, 3, 3), 3.0, 0.0, 1.0, 0.5))
        for name, sigma in true.items():
            held[name] += found.spread(name).upper95 >= sigma
    # 95 % of 200 is 190, give or take 3.1; generalized limits may be a little wide.
    assert all(count >= 181 for count in held.values()), held
    assert held["repeatability (EV)"] <= 199


@settings(max_examples=25, deadline=None)
@given(
    arrays(float, (3, 2, 2, 2), elements=st.floats(-20, 20, width=32)),
    st.floats(-9, 9, width=32),
    st.sampled_from([0.25, 4.0]),
)
def test_a_shift_changes_nothing_and_a_scale_scales(margins: Numbers, shift: float, scale: float) -> None:
    before, after = gauge(margins), gauge(scale * margins + shift)
    assert sigmas(after) == pytest.approx({name: scale * one for name, one in sigmas(before).items()}, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(arrays(float, (4, 1, 3, 2), elements=st.floats(-20, 20, width=32)), st.permutations(range(4)))
def test_the_order_of_parts_does_not_matter_and_sums_add_up(margins: Numbers, order: list[int]) -> None:
    found = gauge(margins)
    assert sigmas(gauge(margins[order])) == pytest.approx(sigmas(found), abs=1e-6)
    total = float(((margins - margins.mean()) ** 2).sum())
    assert sum(one.sum_of_squares for one in found.sources) == pytest.approx(total, abs=1e-6)
    assert sum(one.df for one in found.sources) == margins.size - 1
    assert sigmas(found)[TOTAL] == pytest.approx(math.hypot(sigmas(found)[GAUGE_RR], sigmas(found)[PART]), abs=1e-9)


def test_a_gauge_that_never_scatters_has_no_categories() -> None:
    found = gauge(np.repeat(np.arange(6.0), 4).reshape(6, 1, 2, 2))
    assert sigmas(found)[GAUGE_RR] == 0
    assert found.categories is None


@pytest.mark.parametrize(
    ("ratio", "df", "df_below", "tail"),
    [
        (4.9646, 1, 10, 0.05),
        (3.4928, 2, 20, 0.05),
        (5.0503, 5, 5, 0.05),
        (4.8491, 10, 10, 0.01),
        (1.0, 7, 7, 0.5),
        (0.0, 3, 9, 1.0),
    ],
)
def test_the_tail_of_f_is_that_of_tables(ratio: float, df: int, df_below: int, tail: float) -> None:
    assert f_tail(ratio, df, df_below) == pytest.approx(tail, abs=2e-4)


@pytest.mark.parametrize(("df", "df_below"), [(1, 3), (18, 60), (98, 300), (998, 3000)])
def test_the_tail_of_f_is_that_of_drawn_ratios(df: int, df_below: int) -> None:
    drawn = np.random.default_rng(3).f(df, df_below, 200_000)
    for ratio in np.quantile(drawn, [0.1, 0.5, 0.95]):
        assert f_tail(float(ratio), df, df_below) == pytest.approx(float((drawn >= ratio).mean()), abs=0.004)


@given(st.floats(0, 50), st.integers(1, 300), st.integers(1, 3000))
@settings(max_examples=200, deadline=None)
def test_the_tail_of_f_is_that_of_scipy(ratio: float, df: int, df_below: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install -e .[oracle]")
    assert f_tail(ratio, df, df_below) == pytest.approx(float(stats.f.sf(ratio, df, df_below)), abs=1e-5)
