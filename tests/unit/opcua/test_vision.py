"""What the OPC UA face tells: each job's own result and no other, errors once, and nothing after a job was given up."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from station.opcua import vision
from station.opcua.state_machine import OPERATIONAL, Cause, State
from station.opcua.vision import (
    AcquisitionDone,
    ErrorRaised,
    ErrorResolved,
    JobStarted,
    OpenJob,
    Outcome,
    Ready,
    ResultReady,
    StateChanged,
    Vision,
)
from station.records import Reason, ResultState, TriggerRef, Verdict
from tests.verdicts import make_verdict

DANCE = (Cause.SELECT_MODE_AUTOMATIC, Cause.PREPARE_RECIPE)


def of_trigger(acquisition_id: int, epoch: int = 1) -> Verdict:
    trigger = TriggerRef(trigger_id=acquisition_id, acquisition_id=acquisition_id, serial="")
    return msgspec.structs.replace(make_verdict(acquisition_id), epoch=epoch, trigger=trigger)


def job(acquisition_id: int) -> OpenJob:
    return OpenJob(job_id=f"1-{acquisition_id}", epoch=1, acquisition_id=acquisition_id)


def ready() -> Vision:
    face = vision.begun(free_running=False)
    for cause in DANCE:
        face = vision.called(face, cause).vision
    assert face.state is State.READY
    return face


def told(outcome: Outcome) -> list[type]:
    return [type(one) for one in outcome.told]


def test_a_single_job_from_start_to_result() -> None:
    started = vision.job_started(ready(), job(7))
    assert told(started) == [StateChanged, JobStarted]
    exposed = vision.exposed(started.vision, 1, 7)
    assert told(exposed) == [AcquisitionDone]
    assert not vision.exposed(exposed.vision, 1, 7).told
    done = vision.judged(exposed.vision, of_trigger(7))
    assert told(done) == [ResultReady, StateChanged, Ready]
    assert done.vision.state is State.READY
    assert not vision.judged(done.vision, of_trigger(7)).told


def test_the_verdict_of_another_trigger_or_another_epoch_is_no_result() -> None:
    started = vision.job_started(ready(), job(7)).vision
    for verdict in (of_trigger(6), of_trigger(7, epoch=2), make_verdict(7)):
        assert vision.judged(started, verdict) == Outcome(started)


def test_a_job_that_was_given_up_has_no_result() -> None:
    for cause in (Cause.STOP, Cause.ABORT, Cause.HALT, Cause.RESET):
        started = vision.job_started(ready(), job(7)).vision
        assert not vision.judged(vision.called(started, cause).vision, of_trigger(7)).told


def test_a_mismatch_is_an_error_until_a_client_resets_and_the_rejected_job_still_has_its_result() -> None:
    started = vision.job_started(ready(), job(7)).vision
    wrong = vision.mismatched(started)
    assert told(wrong) == [StateChanged, ErrorRaised]
    rejected = vision.judged(wrong.vision, of_trigger(7))
    assert told(rejected) == [ResultReady]
    still = vision.heard(rejected.vision, "")
    assert still.vision.state is State.ERROR
    reset = vision.called(still.vision, Cause.RESET)
    assert (reset.vision.state, reset.vision.mismatch) == (State.PREOPERATIONAL, "")
    assert told(reset) == [StateChanged, ErrorResolved]


def test_a_job_whose_picture_is_missing_has_its_result_and_is_an_error_too() -> None:
    started = vision.job_started(ready(), job(7)).vision
    missing = msgspec.structs.replace(of_trigger(7), result_state=ResultState.FAILED, reason=Reason.PICTURE_MISSING)
    wrong = vision.judged(started, missing)
    assert told(wrong) == [ResultReady, StateChanged, Ready, StateChanged, ErrorRaised]
    assert wrong.vision.state is State.ERROR


def test_a_fault_is_told_once_and_ends_by_itself_with_the_client_starting_again() -> None:
    lost = vision.heard(ready(), "the worker is silent")
    assert told(lost) == [StateChanged, ErrorRaised]
    assert not vision.heard(lost.vision, "the worker is silent").told
    back = vision.heard(lost.vision, "")
    assert told(back) == [StateChanged, ErrorResolved]
    assert back.vision.state is State.PREOPERATIONAL


def test_a_restart_of_the_worker_ends_the_open_job_with_an_error() -> None:
    started = vision.job_started(ready(), job(7)).vision
    assert vision.heard(started, "", 1) == Outcome(started)
    restarted = vision.heard(started, "", 2)
    assert told(restarted) == [StateChanged, ErrorRaised]
    assert restarted.vision.job is None
    assert vision.heard(restarted.vision, "", 2).vision.state is State.PREOPERATIONAL


def test_a_reset_while_the_fault_lasts_leads_back_to_error() -> None:
    lost = vision.heard(ready(), "the worker is silent").vision
    assert vision.called(lost, Cause.RESET).vision.state is State.ERROR


def test_free_running_starts_by_itself_and_goes_on_after_a_fault() -> None:
    face = vision.begun(free_running=True)
    face = vision.heard(face, "").vision
    assert face.state is State.CONTINUOUS_EXECUTION
    assert told(vision.judged(face, make_verdict(1))) == [ResultReady]
    lost = vision.heard(face, "no model").vision
    assert lost.state is State.ERROR
    assert told(vision.judged(lost, make_verdict(2))) == [ResultReady]
    assert vision.heard(lost, "").vision.state is State.CONTINUOUS_EXECUTION


def test_free_running_a_client_that_stops_it_starts_it_again() -> None:
    face = vision.called(vision.heard(vision.begun(free_running=True), "").vision, Cause.STOP).vision
    assert vision.heard(face, "").vision.state is State.READY
    assert not vision.judged(face, make_verdict(1)).told
    assert vision.continuous_started(face, "c").vision.state is State.CONTINUOUS_EXECUTION


ACTS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from([cause for cause in Cause if cause.value[0].isupper()])),
    st.tuples(st.just("job"), st.integers(1, 5)),
    st.tuples(st.just("continuous"), st.none()),
    st.tuples(st.just("heard"), st.sampled_from(["", "fault"])),
    st.tuples(st.just("mismatch"), st.none()),
    st.tuples(st.just("exposed"), st.integers(1, 5)),
    st.tuples(st.just("judged"), st.integers(0, 5)),
)


def act(face: Vision, what: str, value: Any) -> Outcome:
    match what:
        case "call":
            simple = value not in {Cause.START_SINGLE_JOB, Cause.START_CONTINUOUS}
            return vision.called(face, value) if simple else Outcome(face)
        case "job":
            return vision.job_started(face, job(value))
        case "continuous":
            return vision.continuous_started(face, "c")
        case "heard":
            return vision.heard(face, value)
        case "mismatch":
            return vision.mismatched(face)
        case "exposed":
            return vision.exposed(face, 1, value)
        case _:
            return vision.judged(face, of_trigger(value) if value else make_verdict(9))


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(ACTS, max_size=60))
def test_whatever_happens_the_face_tells_only_results_that_are_its_own(
    free_running: bool, acts: list[tuple[str, Any]]
) -> None:
    face = vision.begun(free_running=free_running)
    for what, value in acts:
        outcome = act(face, what, value)
        after = outcome.vision
        states = [one for one in outcome.told if isinstance(one, StateChanged)]
        # The told steps lead from the state before to the state after, without a jump.
        assert [one.before for one in states] == [face.state, *(one.step.then for one in states)][: len(states)]
        assert after.state is (states[-1].step.then if states else face.state)
        results = [one for one in outcome.told if isinstance(one, ResultReady)]
        if results:
            assert what == "judged"
            assert face.gives_all or (face.job and value == face.job.acquisition_id)
        assert not (after.trouble and after.state in OPERATIONAL)
        assert (after.state is State.SINGLE_EXECUTION) <= (after.job is not None)
        face = after
