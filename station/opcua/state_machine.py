"""The state machine of OPC 40100-1 (Machine Vision): for every (state, cause) what follows. Pure data and one step.

Operational is shown by its automatic mode: Initialized, Ready, SingleExecution, ContinuousExecution. A cause that has
no cell in its state is refused. Numbers of states and transitions are those of the specification.
"""

import enum
from typing import NamedTuple


class State(enum.Enum):
    """Where the station is; the value is the specification's StateNumber."""

    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    INITIALIZED = 5
    READY = 6
    SINGLE_EXECUTION = 7
    CONTINUOUS_EXECUTION = 8

    @property
    def is_operational(self) -> bool:
        """True in the automatic mode; the outer state is Operational then."""
        return self in OPERATIONAL


OPERATIONAL = frozenset({State.INITIALIZED, State.READY, State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION})


class Cause(enum.Enum):
    """All that can move the machine: methods that a client calls, and what happens in the station."""

    HALT = "Halt"
    RESET = "Reset"
    SELECT_MODE_AUTOMATIC = "SelectModeAutomatic"
    PREPARE_RECIPE = "PrepareRecipe"
    UNPREPARE_RECIPE = "UnprepareRecipe"
    START_SINGLE_JOB = "StartSingleJob"
    START_CONTINUOUS = "StartContinuous"
    STOP = "Stop"
    ABORT = "Abort"
    JOB_DONE = "the job has its result"
    FAULT = "the station cannot inspect"
    FAULT_GONE = "the station can inspect again"
    AUTO_START = "free running: the next step towards ContinuousExecution"


class Transition(enum.IntEnum):
    """The specification's transitions that this server makes; the value is the TransitionNumber."""

    PREOPERATIONAL_TO_HALTED = 121
    PREOPERATIONAL_TO_ERROR_AUTO = 130
    PREOPERATIONAL_TO_OPERATIONAL_AUTO = 140
    PREOPERATIONAL_TO_OPERATIONAL = 141
    PREOPERATIONAL_TO_INITIALIZED_AUTO = 150
    PREOPERATIONAL_TO_INITIALIZED = 151
    HALTED_TO_PREOPERATIONAL = 211
    ERROR_TO_PREOPERATIONAL_AUTO = 310
    ERROR_TO_PREOPERATIONAL = 311
    ERROR_TO_HALTED = 321
    OPERATIONAL_TO_PREOPERATIONAL = 411
    OPERATIONAL_TO_HALTED = 421
    OPERATIONAL_TO_ERROR_AUTO = 430
    INITIALIZED_TO_READY_AUTO = 560
    INITIALIZED_TO_READY_RECIPE = 561
    READY_TO_INITIALIZED_RECIPE = 651
    READY_TO_SINGLE_EXECUTION = 671
    READY_TO_CONTINUOUS_EXECUTION_AUTO = 680
    READY_TO_CONTINUOUS_EXECUTION = 681
    SINGLE_EXECUTION_TO_READY_AUTO = 760
    SINGLE_EXECUTION_TO_READY_STOP = 761
    SINGLE_EXECUTION_TO_READY_ABORT = 762
    CONTINUOUS_EXECUTION_TO_READY_STOP = 861
    CONTINUOUS_EXECUTION_TO_READY_ABORT = 862


class Step(NamedTuple):
    """One cell of the table."""

    then: State
    outer: Transition | None = None
    """Transition of VisionStateMachine; None: it stays where it is."""
    automatic: Transition | None = None
    """Transition of AutomaticModeStateMachine; None: it stays, or is left with the outer one."""


S, C, T = State, Cause, Transition

_LEAVE = {
    C.HALT: Step(S.HALTED, T.OPERATIONAL_TO_HALTED),
    C.RESET: Step(S.PREOPERATIONAL, T.OPERATIONAL_TO_PREOPERATIONAL),
    C.FAULT: Step(S.ERROR, T.OPERATIONAL_TO_ERROR_AUTO),
}
"""How every state of the automatic mode is left."""

_CELLS: dict[State, dict[Cause, Step]] = {
    S.PREOPERATIONAL: {
        C.HALT: Step(S.HALTED, T.PREOPERATIONAL_TO_HALTED),
        C.SELECT_MODE_AUTOMATIC: Step(S.INITIALIZED, T.PREOPERATIONAL_TO_OPERATIONAL, T.PREOPERATIONAL_TO_INITIALIZED),
        C.FAULT: Step(S.ERROR, T.PREOPERATIONAL_TO_ERROR_AUTO),
        C.AUTO_START: Step(S.INITIALIZED, T.PREOPERATIONAL_TO_OPERATIONAL_AUTO, T.PREOPERATIONAL_TO_INITIALIZED_AUTO),
    },
    S.HALTED: {
        C.RESET: Step(S.PREOPERATIONAL, T.HALTED_TO_PREOPERATIONAL),
    },
    S.ERROR: {
        C.HALT: Step(S.HALTED, T.ERROR_TO_HALTED),
        C.RESET: Step(S.PREOPERATIONAL, T.ERROR_TO_PREOPERATIONAL),
        C.FAULT_GONE: Step(S.PREOPERATIONAL, T.ERROR_TO_PREOPERATIONAL_AUTO),
    },
    S.INITIALIZED: {
        **_LEAVE,
        C.PREPARE_RECIPE: Step(S.READY, automatic=T.INITIALIZED_TO_READY_RECIPE),
        C.AUTO_START: Step(S.READY, automatic=T.INITIALIZED_TO_READY_AUTO),
    },
    S.READY: {
        **_LEAVE,
        C.PREPARE_RECIPE: Step(S.READY),
        C.UNPREPARE_RECIPE: Step(S.INITIALIZED, automatic=T.READY_TO_INITIALIZED_RECIPE),
        C.START_SINGLE_JOB: Step(S.SINGLE_EXECUTION, automatic=T.READY_TO_SINGLE_EXECUTION),
        C.START_CONTINUOUS: Step(S.CONTINUOUS_EXECUTION, automatic=T.READY_TO_CONTINUOUS_EXECUTION),
        C.AUTO_START: Step(S.CONTINUOUS_EXECUTION, automatic=T.READY_TO_CONTINUOUS_EXECUTION_AUTO),
    },
    S.SINGLE_EXECUTION: {
        **_LEAVE,
        C.JOB_DONE: Step(S.READY, automatic=T.SINGLE_EXECUTION_TO_READY_AUTO),
        C.STOP: Step(S.READY, automatic=T.SINGLE_EXECUTION_TO_READY_STOP),
        C.ABORT: Step(S.READY, automatic=T.SINGLE_EXECUTION_TO_READY_ABORT),
    },
    S.CONTINUOUS_EXECUTION: {
        **_LEAVE,
        C.STOP: Step(S.READY, automatic=T.CONTINUOUS_EXECUTION_TO_READY_STOP),
        C.ABORT: Step(S.READY, automatic=T.CONTINUOUS_EXECUTION_TO_READY_ABORT),
    },
}

TABLE = {(state, cause): step for state, cells in _CELLS.items() for cause, step in cells.items()}


def step(state: State, cause: Cause) -> Step | None:
    """Return what `cause` leads to in `state`; None: it is refused and changes nothing."""
    return TABLE.get((state, cause))
