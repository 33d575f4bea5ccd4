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
