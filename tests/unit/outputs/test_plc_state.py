"""Rules of what the PLC is told."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.outputs import plc_state
from station.outputs.plc_state import FaultCode, OfflineReason, PlcState, after_turn, after_verdict, safe
from station.records import Evaluation, Reason, ResultState
from tests.verdicts import make_verdict

ONLINE = after_turn(PlcState(), ready=True)


@pytest.mark.parametrize(("evaluation", "result_state"), [*itertools.product(Evaluation, ResultState)])
def test_only_a_completed_ok_is_a_pass(evaluation: Evaluation, result_state: ResultState) -> None:
    verdict = make_verdict(evaluation=evaluation, result_state=result_state)
    expected = (evaluation, result_state) == (Evaluation.OK, ResultState.COMPLETED)
    assert plc_state.is_pass(verdict) is expected


def test_booting_until_the_first_turn_of_the_loop() -> None:
    assert PlcState().offline_reason is OfflineReason.BOOTING
    assert after_turn(PlcState(), ready=False).offline_reason is OfflineReason.MODEL_LOADING
    assert ONLINE.online


@given(st.integers(0, 2**40), st.lists(st.integers(0, 300), min_size=2, max_size=40))
def test_the_heartbeat_counts_with_the_clock_and_stands_still_one_beat_after_the_last_turn(
    started_ms: int, pauses_ms: list[int]
) -> None:
    def beat(turned_ms: int, now_ms: int) -> int:
        return plc_state.heartbeat_at(started_ms * 1_000_000, turned_ms * 1_000_000, now_ms * 1_000_000)

    turned_ms = started_ms
    for pause_ms in pauses_ms:
        last_ms = turned_ms + plc_state.VOUCHED_MS
        assert beat(turned_ms, turned_ms + pause_ms) == (min(last_ms, turned_ms + pause_ms) - started_ms) // 200
        assert beat(turned_ms, last_ms + 10_000) == beat(turned_ms, last_ms)
        assert beat(turned_ms + pause_ms, turned_ms + pause_ms) >= beat(turned_ms, turned_ms + pause_ms)
        turned_ms += pause_ms


def test_an_ok_is_withdrawn_when_the_station_goes_offline_and_never_comes_back() -> None:
    state = after_turn(after_verdict(ONLINE, make_verdict()), ready=False)
    assert state.result is None
    assert after_turn(state, ready=True).result is None


def test_an_ok_of_an_offline_station_is_not_shown_but_counted() -> None:
    state = after_verdict(PlcState(), make_verdict(5))
    assert state.result is None
    assert (state.inspection_id, state.toggle, sum(state.counts)) == (5, True, 1)


@pytest.mark.parametrize("evaluation", [Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED])
def test_a_reject_is_shown_even_when_offline(evaluation: Evaluation) -> None:
    verdict = make_verdict(evaluation=evaluation)
    assert after_turn(after_verdict(PlcState(), verdict), ready=False).result == verdict


def test_safe_state_keeps_id_toggle_and_counts() -> None:
    before = after_verdict(ONLINE, make_verdict(7))
    state = safe(before)
    assert not state.online
    assert state.result is None
    kept = ("inspection_id", "toggle", "counts")
    assert [getattr(state, name) for name in kept] == [getattr(before, name) for name in kept]


def test_a_failed_inspection_is_a_fault_until_the_next_completed_one() -> None:
    unreadable = make_verdict(1, Evaluation.UNDEFINED, reason=Reason.IMAGE_UNREADABLE)
    state = after_verdict(ONLINE, unreadable)
    assert state.fault is FaultCode.IMAGE_UNREADABLE
    assert after_verdict(state, make_verdict(2)).fault is FaultCode.NONE


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason >= Reason.IMAGE_UNREADABLE])
def test_every_reason_of_a_failed_inspection_has_its_fault_code(reason: Reason) -> None:
    state = after_verdict(ONLINE, make_verdict(1, Evaluation.UNDEFINED, reason=reason))
    assert state.fault not in (FaultCode.NONE, FaultCode.OTHER)


@given(st.lists(st.sampled_from(list(Evaluation)), max_size=40))
def test_toggle_flips_with_each_result_and_counts_add_up(evaluations: list[Evaluation]) -> None:
    state = ONLINE
    for seq, evaluation in enumerate(evaluations, start=1):
        before = state
        state = after_verdict(before, make_verdict(seq, evaluation))
        assert state.toggle is not before.toggle
    assert state.counts == tuple(evaluations.count(evaluation) for evaluation in Evaluation)
