"""Exactly one picture for each trigger, in its window; everything else belongs to nobody."""

import itertools

import pytest

from station.records import Failure, Reason, TriggerRef
from station.worker.pairing import CLOCK_TICK_NS, QUIET_WINDOWS, Pairing, State

WINDOW_MS = 100
MS = 1_000_000
FIRST = TriggerRef(trigger_id=5, acquisition_id=1, serial="")
SECOND = TriggerRef(trigger_id=6, acquisition_id=2, serial="")
_hashes = itertools.count()


def new_hash() -> str:
    return f"{next(_hashes):064x}"


@pytest.fixture
def pairing() -> Pairing:
    """A trigger taken at 1000 ms; its window ends at 1100 ms, its answer is due at 3000 ms."""
    pairing = Pairing(WINDOW_MS)
    pairing.trigger(FIRST, 1000 * MS, 3000 * MS)
    return pairing


def reason_of(fate: TriggerRef | Failure) -> Reason | None:
    return fate.reason if isinstance(fate, Failure) else None


def test_one_picture_in_the_window_is_the_triggers(pairing: Pairing) -> None:
    assert pairing.picture("a", new_hash(), 1050 * MS) == FIRST
    assert pairing.is_open(FIRST)
    assert [pair.state for pair in pairing.closed(1100 * MS)] == [State.PAIRED]
    assert not pairing.is_open(FIRST)
    assert pairing.reopened(1100 * MS) == [FIRST]
    assert pairing.unanswered(2999 * MS) == []
    assert pairing.picture("a", "", None) == FIRST, "a job that comes again has the same trigger"


@pytest.mark.parametrize("captured_ms", [0, 980, 1101, 5000])
def test_a_picture_of_another_time_is_nobodys(pairing: Pairing, captured_ms: int) -> None:
    assert reason_of(pairing.picture("a", new_hash(), captured_ms * MS)) is Reason.PICTURE_UNPAIRED


def test_the_coarse_clock_of_the_file_system_is_allowed_for(pairing: Pairing) -> None:
    assert pairing.picture("a", new_hash(), 1000 * MS - CLOCK_TICK_NS) == FIRST
    assert reason_of(pairing.picture("b", new_hash(), 1000 * MS - CLOCK_TICK_NS - 1)) is Reason.PICTURE_UNPAIRED


def test_a_picture_of_no_known_time_is_nobodys(pairing: Pairing) -> None:
    assert reason_of(pairing.picture("a", new_hash(), None)) is Reason.PICTURE_UNPAIRED


def test_no_picture_in_the_window_is_a_reject_and_a_pause(pairing: Pairing) -> None:
    pairing.closed(1100 * MS)
    (pair,) = pairing.unanswered(1100 * MS)
    assert pair.trigger == FIRST
    assert pair.trouble
    assert pair.trouble.reason is Reason.PICTURE_MISSING
    assert pairing.reopened(1100 * MS + (QUIET_WINDOWS * WINDOW_MS - 1) * MS) == []
    assert pairing.reopened(1100 * MS + QUIET_WINDOWS * WINDOW_MS * MS) == [FIRST]
    assert reason_of(pairing.picture("late", new_hash(), 1150 * MS)) is Reason.PICTURE_UNPAIRED


def test_two_pictures_in_the_window_are_a_reject_and_neither_is_the_parts(pairing: Pairing) -> None:
    pairing.picture("a", new_hash(), 1020 * MS)
    pairing.picture("b", new_hash(), 1080 * MS)
    (pair,) = pairing.closed(1100 * MS)
    assert pair.state is State.SPOILT
    assert [reason_of(pairing.picture(job_id, "", None)) for job_id in "ab"] == [Reason.TOO_MANY_PICTURES] * 2
    assert [pair.trigger for pair in pairing.unanswered(1100 * MS)] == [FIRST]


def test_a_second_picture_that_is_told_after_the_window_spoils_the_pair_too(pairing: Pairing) -> None:
    pairing.picture("a", new_hash(), 1020 * MS)
    pairing.closed(1100 * MS)
    assert reason_of(pairing.picture("b", new_hash(), 1080 * MS)) is Reason.TOO_MANY_PICTURES
    assert [pair.trigger for pair in pairing.unanswered(1101 * MS)] == [FIRST]


def test_a_frozen_camera_is_found_by_the_same_bytes(pairing: Pairing) -> None:
    assert pairing.picture("a", "same", 1050 * MS) == FIRST
    pairing.closed(1100 * MS)
    pairing.answered(FIRST)
    pairing.trigger(SECOND, 2000 * MS, 4000 * MS)
    assert reason_of(pairing.picture("b", "same", 2050 * MS)) is Reason.PICTURE_REPEATED
    pairing.closed(2100 * MS)
    assert [pair.trigger for pair in pairing.unanswered(2100 * MS)] == [SECOND]


def test_a_pair_without_verdict_is_answered_when_due_and_its_picture_is_too_late_then(pairing: Pairing) -> None:
    pairing.picture("a", new_hash(), 1050 * MS)
    pairing.closed(1100 * MS)
    assert pairing.next_due_ns() == 1100 * MS, "the next trigger may be taken"
    pairing.reopened(1100 * MS)
    assert pairing.next_due_ns() == 3000 * MS
    assert [pair.trigger for pair in pairing.unanswered(3000 * MS)] == [FIRST]
    assert reason_of(pairing.picture("a", "", None)) is Reason.PICTURE_UNPAIRED
    assert pairing.next_due_ns() is None


def test_triggers_that_overlap_in_time_keep_their_own_pictures(pairing: Pairing) -> None:
    pairing.picture("a", new_hash(), 1050 * MS)
    pairing.closed(1100 * MS)
    pairing.trigger(SECOND, 1200 * MS, 3200 * MS)
    assert pairing.picture("b", new_hash(), 1250 * MS) == SECOND
    assert pairing.picture("a", "", None) == FIRST
