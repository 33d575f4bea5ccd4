"""The states of the handshake with the PLC, and for every (state, event) what follows: five small tables. Pure data."""

import enum
from collections.abc import Mapping
from typing import NamedTuple


class Acquisition(enum.Enum):
    """What is done about the PLC's trigger."""

    CLOSED = "no trigger is taken now"
    READY = "TriggerReady"
    HELD = "TriggerAck, its picture window is open"
    EXPOSING = "the PLC took its trigger back, the picture window is open"
    CLOSED_HELD = "TriggerAck, its picture window is over"


class Results(enum.Enum):
    """What is done about the result shown."""

    EMPTY = "nothing is shown"
    SHOWN = "ResultsValid"
    ACKED = "the PLC has it and still says so"


class UserData(enum.Enum):
    """What is done about the serial."""

    IDLE = "no request"
    LATCHED = "UserDataAck"


class Command(enum.Enum):
    """What is done about the PLC's command."""

    IDLE = "no command"
    EXECUTING = "CommandExecuting"
    COMPLETED = "CommandCompleted"
    FAILED = "CommandFailed"


class PlcLink(enum.Enum):
    """What is known of the PLC's own heartbeat."""

    UNKNOWN = "it never changed"
    ALIVE = "it changes"
    LOST = "it stopped: PlcHeartbeatLost"


class Event(enum.Enum):
    """All that can happen. Each event is of one machine."""

    OPEN = "a trigger may be taken"
    SHUT = "no trigger may be taken"
    TRIGGER_RISE = "Trigger 0 to 1 with a usable TriggerId"
    TRIGGER_REFUSED = "Trigger 0 to 1 with TriggerId 0, or one that is still open or was the last"
    TRIGGER_FALL = "Trigger 1 to 0"
    TRIGGER_RESET = "TriggerEnable 1 to 0, abort or reset"
    WINDOW_CLOSED = "the picture window is over"

    RESULT_TO_BUFFER = "a result came, buffering is on"
    RESULT_TO_SHOW = "a result came, buffering is off"
    ACK_RISE = "ResultsAck 0 to 1"
    ACK_FALL = "ResultsAck 1 to 0"
    RESULTS_CLEAR = "the PLC wants no result of before"
    OK_WITHDRAWN = "the OK shown holds no longer"
    NEXT = "a result waits"

    USER_DATA_RISE = "SetUserData 0 to 1"
    USER_DATA_FALL = "SetUserData 1 to 0"

    EXECUTE_RISE = "ExecuteCommand 0 to 1"
    EXECUTE_FALL = "ExecuteCommand 1 to 0"
    COMMAND_DONE = "the command was carried out"
    COMMAND_REFUSED = "the command cannot be carried out"

    PLC_BEAT = "the PLC's heartbeat changed"
    PLC_SILENT = "the PLC's heartbeat did not change for long"


class Act(enum.Enum):
    """What a transition does besides changing the state."""

    NOTHING = ""
    TAKE = "take the trigger"
    MISS = "say that a trigger was missed"
    SHOW = "show this result"
    QUEUE = "keep this result for later, or say overrun"
    HIDE = "show no result"
    SHOW_NEXT = "show the oldest result kept"
    LATCH = "keep the serial for the next trigger"
    START = "begin the command"


class Step(NamedTuple):
    """One cell of a table."""

    then: enum.Enum
    act: Act = Act.NOTHING


def _row(state: enum.Enum, **cells: Step) -> dict[tuple[enum.Enum, Event], Step]:
    return {(state, Event[name]): step for name, step in cells.items()}


A, R, U, C, P = Acquisition, Results, UserData, Command, PlcLink

ACQUISITION = {
    **_row(
        A.CLOSED,
        OPEN=Step(A.READY),
        SHUT=Step(A.CLOSED),
        TRIGGER_RISE=Step(A.CLOSED, Act.MISS),
        TRIGGER_REFUSED=Step(A.CLOSED, Act.MISS),
        TRIGGER_FALL=Step(A.CLOSED),
        TRIGGER_RESET=Step(A.CLOSED),
        WINDOW_CLOSED=Step(A.CLOSED),
    ),
    **_row(
        A.READY,
        OPEN=Step(A.READY),
        SHUT=Step(A.CLOSED),
        TRIGGER_RISE=Step(A.HELD, Act.TAKE),
        TRIGGER_REFUSED=Step(A.READY, Act.MISS),
        TRIGGER_FALL=Step(A.READY),
        TRIGGER_RESET=Step(A.CLOSED),
        WINDOW_CLOSED=Step(A.READY),
    ),
    **_row(
        A.HELD,
        OPEN=Step(A.HELD),
        SHUT=Step(A.HELD),
        TRIGGER_RISE=Step(A.HELD, Act.MISS),
        TRIGGER_REFUSED=Step(A.HELD, Act.MISS),
        TRIGGER_FALL=Step(A.EXPOSING),
        TRIGGER_RESET=Step(A.CLOSED),
        WINDOW_CLOSED=Step(A.CLOSED_HELD),
    ),
    **_row(
        A.EXPOSING,
        OPEN=Step(A.EXPOSING),
        SHUT=Step(A.EXPOSING),
        TRIGGER_RISE=Step(A.EXPOSING, Act.MISS),
        TRIGGER_REFUSED=Step(A.EXPOSING, Act.MISS),
        TRIGGER_FALL=Step(A.EXPOSING),
        TRIGGER_RESET=Step(A.CLOSED),
        WINDOW_CLOSED=Step(A.CLOSED),
    ),
    **_row(
        A.CLOSED_HELD,
        OPEN=Step(A.CLOSED_HELD),
        SHUT=Step(A.CLOSED_HELD),
        TRIGGER_RISE=Step(A.CLOSED_HELD, Act.MISS),
        TRIGGER_REFUSED=Step(A.CLOSED_HELD, Act.MISS),
        TRIGGER_FALL=Step(A.CLOSED),
        TRIGGER_RESET=Step(A.CLOSED),
        WINDOW_CLOSED=Step(A.CLOSED_HELD),
    ),
}
RESULTS = {
    **_row(
        R.EMPTY,
        RESULT_TO_BUFFER=Step(R.SHOWN, Act.SHOW),
        RESULT_TO_SHOW=Step(R.SHOWN, Act.SHOW),
        ACK_RISE=Step(R.EMPTY),
        ACK_FALL=Step(R.EMPTY),
        RESULTS_CLEAR=Step(R.EMPTY, Act.HIDE),
        OK_WITHDRAWN=Step(R.EMPTY),
        NEXT=Step(R.SHOWN, Act.SHOW_NEXT),
    ),
    **_row(
        R.SHOWN,
        RESULT_TO_BUFFER=Step(R.SHOWN, Act.QUEUE),
        RESULT_TO_SHOW=Step(R.SHOWN, Act.SHOW),
        ACK_RISE=Step(R.ACKED, Act.HIDE),
        ACK_FALL=Step(R.SHOWN),
        RESULTS_CLEAR=Step(R.EMPTY, Act.HIDE),
        OK_WITHDRAWN=Step(R.EMPTY, Act.HIDE),
        NEXT=Step(R.SHOWN),
    ),
    **_row(
        R.ACKED,
        RESULT_TO_BUFFER=Step(R.ACKED, Act.QUEUE),
        RESULT_TO_SHOW=Step(R.SHOWN, Act.SHOW),
        ACK_RISE=Step(R.ACKED),
        ACK_FALL=Step(R.EMPTY),
        RESULTS_CLEAR=Step(R.EMPTY, Act.HIDE),
        OK_WITHDRAWN=Step(R.ACKED),
        NEXT=Step(R.ACKED),
    ),
}
USER_DATA = {
    **_row(U.IDLE, USER_DATA_RISE=Step(U.LATCHED, Act.LATCH), USER_DATA_FALL=Step(U.IDLE)),
    **_row(U.LATCHED, USER_DATA_RISE=Step(U.LATCHED, Act.LATCH), USER_DATA_FALL=Step(U.IDLE)),
}
COMMAND = {
    **_row(
        C.IDLE,
        EXECUTE_RISE=Step(C.EXECUTING, Act.START),
        EXECUTE_FALL=Step(C.IDLE),
        COMMAND_DONE=Step(C.IDLE),
        COMMAND_REFUSED=Step(C.IDLE),
    ),
    **_row(
        C.EXECUTING,
        EXECUTE_RISE=Step(C.EXECUTING),
        EXECUTE_FALL=Step(C.EXECUTING),
        COMMAND_DONE=Step(C.COMPLETED),
        COMMAND_REFUSED=Step(C.FAILED),
    ),
    **_row(
        C.COMPLETED,
        EXECUTE_RISE=Step(C.EXECUTING, Act.START),
        EXECUTE_FALL=Step(C.IDLE),
        COMMAND_DONE=Step(C.COMPLETED),
        COMMAND_REFUSED=Step(C.COMPLETED),
    ),
    **_row(
        C.FAILED,
        EXECUTE_RISE=Step(C.EXECUTING, Act.START),
        EXECUTE_FALL=Step(C.IDLE),
        COMMAND_DONE=Step(C.FAILED),
        COMMAND_REFUSED=Step(C.FAILED),
    ),
}
PLC_LINK = {
    **_row(P.UNKNOWN, PLC_BEAT=Step(P.ALIVE), PLC_SILENT=Step(P.UNKNOWN)),
    **_row(P.ALIVE, PLC_BEAT=Step(P.ALIVE), PLC_SILENT=Step(P.LOST)),
    **_row(P.LOST, PLC_BEAT=Step(P.ALIVE), PLC_SILENT=Step(P.LOST)),
}
TABLES: tuple[Mapping[tuple[enum.Enum, Event], Step], ...] = (ACQUISITION, RESULTS, USER_DATA, COMMAND, PLC_LINK)
MACHINE_OF = {
    event: name
    for name, table in zip(("acquisition", "results", "user_data", "command", "plc_link"), TABLES, strict=True)
    for _, event in table
}
"""Event -> the field of `Handshake` with its machine's state."""
TABLE_OF = {event: table for table in TABLES for _, event in table}
