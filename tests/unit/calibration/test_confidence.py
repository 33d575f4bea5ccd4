"""Exact limits against known values."""

import pytest

from calibration.confidence import at_most, by_chance, lower, parts_needed, upper


@pytest.mark.parametrize(
    ("errors", "of", "limit"), [(0, 299, 0.01), (1, 473, 0.01), (2, 628, 0.01), (0, 59, 0.05), (0, 29, 0.10)]
)
def test_the_table_of_zero_to_two_errors(errors: int, of: int, limit: float) -> None:
    assert upper(errors, of) <= limit
    assert upper(errors, of - 1) > limit


def test_ends() -> None:
    assert upper(0, 0) == upper(5, 5) == 1.0
    assert at_most(3, 10, 0.0) == 1.0
    assert at_most(3, 10, 1.0) == 0.0
    assert at_most(1, 2, 0.5) == pytest.approx(0.75)


def test_the_lower_limit_mirrors_the_upper() -> None:
    assert lower(0, 10) == 0.0
    assert lower(10, 10) == pytest.approx(0.05 ** (1 / 10))
    assert lower(3, 10) == pytest.approx(1 - upper(7, 10))
    assert lower(0, 0) == 0.0


@pytest.mark.parametrize(("errors", "of", "share"), [(3, 20, 0.35), (7, 100, 0.13), (50, 1000, 0.063)])
def test_the_limit_is_where_so_few_errors_become_unlikely(errors: int, of: int, share: float) -> None:
    assert at_most(errors, of, upper(errors, of)) == pytest.approx(0.05, abs=1e-9)
    assert upper(errors, of) < share


@pytest.mark.parametrize(("errors", "of"), [(0, 10), (3, 20), (50, 1000), (999, 1000)])
def test_limits_agree_with_scipy_where_it_is_installed(errors: int, of: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install -e .[oracle]")
    interval = stats.binomtest(errors, of).proportion_ci(0.90, "exact")
    assert (lower(errors, of), upper(errors, of)) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("share", "errors", "needed"), [(0.01, 0, 299), (0.01, 1, 473), (0.01, 2, 628), (0.05, 0, 59)])
def test_how_many_parts_prove_a_share(share: float, errors: int, needed: int) -> None:
    assert parts_needed(errors, share) == needed


@pytest.mark.parametrize(
    ("seen", "other", "chance"),
    [((3, 4), (1, 4), 17 / 70), ((4, 4), (0, 4), 1 / 70), ((0, 16), (0, 16), 1.0), ((0, 5), (5, 5), 1.0)],
)
def test_fishers_tea_and_the_ends(seen: tuple[int, int], other: tuple[int, int], chance: float) -> None:
    assert by_chance(*seen, *other) == pytest.approx(chance)
