"""The times in a verdict."""

import pytest

from station.records import Timing
from station.worker.pending import Pending
from tests.worker_parts import make_job

MS = 1_000_000


def test_an_answered_job_has_all_its_times() -> None:
    pending = Pending(b"peer", make_job("a"), received_ns=100 * MS, asked_ns=130 * MS)
    assert pending.timing(200 * MS, 60.0) == Timing(capture=12.5, queue=30.0, inference=60.0, total=112.5)


def test_a_job_that_was_asked_in_vain_counts_the_engine_until_now() -> None:
    pending = Pending(b"peer", make_job("a"), received_ns=100 * MS, asked_ns=130 * MS)
    assert pending.timing(200 * MS, None).inference == pytest.approx(70.0)


def test_a_job_that_was_never_asked_spent_its_time_in_the_queue() -> None:
    timing = Pending(b"peer", make_job("a"), received_ns=100 * MS).timing(200 * MS, None)
    assert (timing.queue, timing.inference) == (100.0, 0.0)
