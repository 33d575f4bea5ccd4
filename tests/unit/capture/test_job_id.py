"""Job ids sort by time and tell it again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.capture.job_id import JobIds, captured_at, new_job_id

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  hypothesis adds UTC


@given(TIMES)
def test_an_id_tells_its_time_to_the_millisecond(now: datetime) -> None:
    assert timedelta() <= now - captured_at(new_job_id(now)) < timedelta(milliseconds=1)


@given(TIMES)
def test_a_later_id_sorts_behind(now: datetime) -> None:
    assert new_job_id(now) < new_job_id(now + timedelta(milliseconds=1))


def test_two_ids_of_one_moment_differ() -> None:
    now = datetime.now(UTC)
    assert new_job_id(now) != new_job_id(now)


@pytest.mark.parametrize(
    "text", ["", "lost+found", "20260101T000000000", "20260101T000000000-1", "20261301T000000000-00000000"]
)
def test_what_is_no_job_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the message is strptime's in one case
        captured_at(text)


def test_ids_made_in_the_same_millisecond_keep_their_order() -> None:
    now, ids = datetime(2026, 1, 2, tzinfo=UTC), JobIds()
    made = [ids.next(now) for _ in range(50)]
    assert made == sorted(made)


def test_ids_keep_their_order_when_the_clock_is_set_back_even_across_a_restart() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    first = JobIds().next(now)
    ids = JobIds()
    ids.follow(first)
    assert first < ids.next(now - timedelta(days=1)) < ids.next(now - timedelta(days=2))


def test_ids_tell_the_time_again_once_it_is_later() -> None:
    now, ids = datetime(2026, 1, 2, tzinfo=UTC), JobIds()
    ids.next(now)
    assert captured_at(ids.next(now + timedelta(hours=1))) == now + timedelta(hours=1)
