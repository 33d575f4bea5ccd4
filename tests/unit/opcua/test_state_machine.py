"""The table of OPC 40100-1: every (state, cause) is decided, and the numbers are the specification's."""

import itertools

import pytest

from station.opcua.state_machine import OPERATIONAL, TABLE, Cause, State, Transition, step

ALLOWED = {
    State.PREOPERATIONAL: "HALT SELECT_MODE_AUTOMATIC FAULT AUTO_START",
    State.HALTED: "RESET",
    State.ERROR: "HALT RESET FAULT_GONE",
    State.INITIALIZED: "HALT RESET FAULT PREPARE_RECIPE AUTO_START",
    State.READY: "HALT RESET FAULT PREPARE_RECIPE UNPREPARE_RECIPE START_SINGLE_JOB START_CONTINUOUS AUTO_START",
    State.SINGLE_EXECUTION: "HALT RESET FAULT JOB_DONE STOP ABORT",
    State.CONTINUOUS_EXECUTION: "HALT RESET FAULT STOP ABORT",
}
"""Written a second time here, in the words of the specification's state diagrams."""


@pytest.mark.parametrize(("state", "cause"), list(itertools.product(State, Cause)))
def test_every_pair_of_state_and_cause_is_decided(state: State, cause: Cause) -> None:
    assert (step(state, cause) is not None) == (cause.name in ALLOWED[state].split())


def outer(state: State) -> str:
    return "OPERATIONAL" if state in OPERATIONAL else state.name


@pytest.mark.parametrize(("state", "cause"), sorted(TABLE, key=str))
def test_a_transition_is_named_after_its_states_and_its_cause(state: State, cause: Cause) -> None:
    found = TABLE[state, cause]
    changes_outer = outer(state) != outer(found.then)
    assert (found.outer is not None) == changes_outer
    if found.outer:
        assert found.outer.name.startswith(f"{outer(state)}_TO_{outer(found.then)}")
        is_automatic = cause in {Cause.FAULT, Cause.FAULT_GONE, Cause.AUTO_START}
        assert found.outer.name.endswith("_AUTO") == is_automatic
    if found.automatic:
        first = state.name if state in OPERATIONAL else outer(state)
        assert found.automatic.name.startswith(f"{first}_TO_{found.then.name}")
    assert (found.automatic is not None) == (found.then in OPERATIONAL and found.then is not state)


def test_every_transition_is_made_by_some_cause() -> None:
    made = {transition for cell in TABLE.values() for transition in (cell.outer, cell.automatic) if transition}
    assert made == set(Transition)


def test_the_first_digits_of_a_transition_are_its_states() -> None:
    for (state, _), cell in TABLE.items():
        if cell.outer:
            then = 4 if cell.then in OPERATIONAL else cell.then.value
            assert divmod(cell.outer, 10)[0] == 10 * (4 if state in OPERATIONAL else state.value) + then
        if cell.automatic:
            assert divmod(cell.automatic, 10)[0] == 10 * state.value + cell.then.value
