"""What a PLC, on whatever line, wants of the worker: triggers taken and commands given. Pure: records only."""

import enum

from station.records import Record, TriggerRef


class CommandCode(enum.IntEnum):
    """What the PLC may ask for. All others are refused."""

    PREPARE_RECIPE = 1
    UNPREPARE_RECIPE = 2
    RUN_GOLDEN_CHECK = 3
    HALT = 4
    RESET = 5
    ABORT = 6
    ACKNOWLEDGE_ERROR = 7
    PROMOTE_MODEL = 8
    ROLLBACK_MODEL = 9


class Refusal(enum.IntEnum):
    """Why a command was refused or failed; the PLC sees it as WarningCode while CommandFailed is 1."""

    UNKNOWN_COMMAND = 100
    COMMAND_OF_ANOTHER_LINE = 101
    """OPC UA and Modbus may both give commands."""
    PART_UNDER_WAY = 102
    EXECUTE_HELD = 103
    """ExecuteCommand was 1 since the worker's start: its rise was not seen, it may be a command of before."""
    UNKNOWN_RECIPE = 110
    RECIPE_NOT_FOLLOWED = 111
    NO_MODEL = 120
    CHALLENGE_FAILED = 121
    NO_BETTER_MODEL = 130
    SEVERAL_BETTER_MODELS = 131
    NO_EARLIER_MODEL = 132
    MODEL_DAMAGED = 133
    CONFIGURATION_NOT_WRITABLE = 134
    CHANGE_FAILED = 135


class TriggerTaken(Record, frozen=True):
    """For the worker: a part is in front of the camera."""

    trigger: TriggerRef
    taken_ns: int
    """time.monotonic_ns()."""
    window_ms: int
    """The PLC's inspect window; 0: the station's own."""


class CommandGiven(Record, frozen=True):
    """For the worker: answer with `command_done`."""

    code: CommandCode
    argument: int


class FreeRunning(Record, frozen=True):
    """For the worker: from now on every picture is a part of its own, or none without a trigger."""

    is_on: bool


Order = TriggerTaken | CommandGiven | FreeRunning
