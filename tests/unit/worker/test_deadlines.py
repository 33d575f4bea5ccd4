"""Deadlines: the earliest is next, each is due once."""

from hypothesis import given
from hypothesis import strategies as st

from station.worker.deadlines import Deadlines


def test_without_jobs_nothing_is_due() -> None:
    deadlines = Deadlines()
    assert deadlines.next_due_ns() is None
    assert deadlines.pop_due(10**18) == []


def test_a_deadline_is_due_at_its_very_time_and_only_once() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 100)
    assert deadlines.pop_due(99) == []
    assert deadlines.pop_due(100) == ["a"]
    assert deadlines.pop_due(100) == []


def test_a_removed_job_is_never_due() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 100)
    deadlines.remove("a")
    deadlines.remove("never added")
    assert deadlines.next_due_ns() is None
    assert deadlines.pop_due(100) == []


def test_adding_again_replaces_the_deadline() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 100)
    deadlines.add("a", 200)
    assert deadlines.pop_due(150) == []
    assert deadlines.next_due_ns() == 200


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50)), st.lists(st.integers(0, 60)))
def test_every_job_is_due_exactly_once_and_in_order(dues: dict[str, int], times: list[int]) -> None:
    deadlines = Deadlines()
    for job_id, due_ns in dues.items():
        deadlines.add(job_id, due_ns)
    popped = []
    for now_ns in [*sorted(times), 60]:
        batch = deadlines.pop_due(now_ns)
        assert all(dues[job_id] <= now_ns for job_id in batch)
        next_due_ns = deadlines.next_due_ns()
        assert next_due_ns is None or next_due_ns > now_ns
        popped += batch
    assert [dues[job_id] for job_id in popped] == sorted(dues.values())
    assert sorted(popped) == sorted(dues)
