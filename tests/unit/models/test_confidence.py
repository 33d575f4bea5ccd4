"""Exact limits against known values."""

import pytest
from confidence import at_most, upper


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
