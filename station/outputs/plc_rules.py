"""The PLC's side of the handshake, as a program that scans: what the shipped function block does, line by line. Pure.

In: the 64 status words of each scan (None: the read failed) and whether a part is in place. Out: the next program, the
control block to write, and at most one act for each part. Used by the simulator and by the tests that look for a
sequence in which a bad part would pass. A part is a reject until everything in `why_no_pass` holds, in time.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from station.outputs import plc_map, plc_words
from station.outputs.plc_control import Control
from station.outputs.plc_state import BEAT_MS, FaultCode
from station.records import Record

HEARTBEAT_TIMEOUT_MS = 2 * BEAT_MS
"""The station's heartbeat must change within this time. A worker's loop that stops is so seen within three beats: one
that its last turn vouched for, and these two."""
PLC_BEAT_MS = 200
PREPARE_RECIPE = 1
"""CommandCode."""
LATE_IN_A_ROW = 3
"""So many parts without an answer of their own, and the line stops."""
TORN_WORD = "StatusComplement is not register 0 inverted"
TORN_BLOCK = "InspectionIdTail is not InspectionId"
STANDS_STILL = "Heartbeat stands still"
LOOK_AGAIN = {TORN_WORD, TORN_BLOCK, STANDS_STILL}
"""What may be gone at the next scan, if the window lasts so long."""


CLEARED_FAULTS = (FaultCode.IMAGE_TRIGGER_MISMATCH, FaultCode.RESULT_BUFFER_OVERRUN)
"""What ClearFault ends; the parts concerned were rejected."""


class Step(enum.IntEnum):
    """Where the program is with the part; the numbers are those of the function block."""

    RESET = 0
    IDLE = 1
    SERIAL = 2
    TRIGGER = 3
    RESULT = 4
    ACK = 5
    RECIPE = 6


class Part(Record, frozen=True):
    """A part that is in place."""

    serial: str = ""


class Acted(Record, frozen=True):
    """What was done with a part. Each part is acted on once."""

    trigger_id: int
    accepted: bool
    why: str
    """Empty when accepted."""
    took_ms: int = 0
    """Since the part came."""
    reason_code: int = 0
    """ReasonCode of its result; 0: none, or OK."""


class Program(Record, frozen=True):
    """The program's memory between two scans. A restart is a new `Program`."""

    window_ms: int
    last_trigger_id: int = 0
    """Kept over a restart by a PLC with retained memory; the rules hold without it too."""
    accepts_simulated: bool = False
    """For trying out without a model; never for real parts."""
    recipe: int = 0
    """Number of the recipe that the parts need; the program has the station change to it. 0: whatever is in force."""
    step: Step = Step.RESET
    control: Control = Control(buffer_clear=True)
    started_ms: int = 0
    """When the part came."""
    reset_beat: int | None = None
    """PlcHeartbeat of the first scan of this reset: once echoed, the station has seen it."""
    has_acked: bool = False
    """The station took this part's trigger."""
    toggle: int = 0
    inspection_id: int = 0
    """Of the last result before this part's."""
    beat: int = -1
    beat_ms: int = -HEARTBEAT_TIMEOUT_MS
    """Value and time of the station's last change of Heartbeat."""
    own_beat_ms: int = -PLC_BEAT_MS
    late: int = 0
    """Parts in a row that had no answer of their own."""

    @property
    def line_stopped(self) -> bool:
        """Too many parts in a row had no answer: somebody has to look."""
        return self.late >= LATE_IN_A_ROW


class Scan(NamedTuple):
    """What one scan leads to; `program.control` is to be written."""

    program: Program
    act: Acted | None = None


def scan(program: Program, words: Sequence[int] | None, part: Part | None, now_ms: int) -> Scan:
    """Run the program once. `part` is looked at in the step IDLE only: the line waits while another is judged."""
    shown = plc_words.decode(words) if words is not None and len(words) == plc_map.WORDS else None
    program = _beaten(program, shown, now_ms)
    match program.step:
        case Step.RESET | Step.RECIPE:
            return Scan(_reset(program, shown) if program.step is Step.RESET else _changing(program, shown))
        case Step.IDLE:
            return Scan(_idle(program, shown, part, now_ms))
        case Step.ACK:
            return Scan(_acking(program, shown, now_ms))
    if now_ms - program.started_ms >= program.window_ms:
        return _late(program, "no answer in the inspect window", now_ms)
    if shown is None:
        return Scan(program)
    match program.step:
        case Step.SERIAL:
            return Scan(_serial(program, shown))
        case Step.TRIGGER:
            return Scan(_triggering(program, shown))
        case _:
            return _result(program, shown, now_ms)


def why_no_pass(program: Program, shown: dict[str, int], now_ms: int) -> str:
    """Return what is missing for a pass of the part in place; empty: it passes. The acceptance rule."""
    conditions = {
        TORN_WORD: shown["StatusComplement"] == 0xFFFF ^ _word0(shown),
        TORN_BLOCK: shown["InspectionIdTail"] == shown["InspectionId"],
        STANDS_STILL: now_ms - program.beat_ms < HEARTBEAT_TIMEOUT_MS,
        "Online is 0": shown["Online"],
        "ResultsValid is 0": shown["ResultsValid"],
        "the trigger was not acknowledged": program.has_acked,
        "TriggerId is of another part": shown["TriggerId"] == program.control.trigger_id,
        "InspectionCompleted did not change": shown["InspectionCompleted"] != program.toggle,
        "InspectionId did not change": shown["InspectionId"] != program.inspection_id,
        "RecipeUsed is another recipe": not program.recipe or shown["RecipeUsed"] == program.recipe,
        "Simulated is 1": program.accepts_simulated or not shown["Simulated"],
        "NG is 1": not shown["NG"],
        "OK is 0": shown["OK"],
        "ResultEvaluation is not 1": shown["ResultEvaluation"] == 1,
        "the inspect window is over": now_ms - program.started_ms < program.window_ms,
    }
    return next((what for what, holds in conditions.items() if not holds), "")


def _word0(shown: dict[str, int]) -> int:
    return sum(
        shown[field.name] << field.bit
        for field in plc_map.STATUS
        if field.register == 0 and field.type is plc_map.Type.BIT and field.served
    )


def _beaten(program: Program, shown: dict[str, int] | None, now_ms: int) -> Program:
    """Look at the station's heartbeat and make our own."""
    if shown is not None and shown["Heartbeat"] != program.beat:
        program = msgspec.structs.replace(program, beat=shown["Heartbeat"], beat_ms=now_ms)
    if now_ms - program.own_beat_ms >= PLC_BEAT_MS or (program.step is Step.RESET and program.reset_beat is None):
        beat = program.control.plc_heartbeat % 0xFFFF + 1
        program = msgspec.structs.replace(_with(program, plc_heartbeat=beat), own_beat_ms=now_ms)
    return program


def _reset(program: Program, shown: dict[str, int] | None) -> Program:
    """Make the station forget every trigger and result of before, and see that it did."""
    if program.reset_beat is None:
        beat = program.control.plc_heartbeat
        cleared = Control(buffer_clear=True, clear_fault=True, plc_heartbeat=beat)
        return msgspec.structs.replace(program, control=cleared, reset_beat=beat)
    if shown is None or (shown["PlcHeartbeatEcho"] - program.reset_beat) % 0xFFFF > 1000:
        return program
    if shown["TriggerReady"] or shown["TriggerAck"] or shown["ResultsValid"] or shown["FreeResultBuffers"] != 8:
        return program
    control = Control(trigger_enable=True, buffer_results_enable=True, plc_heartbeat=program.control.plc_heartbeat)
    return msgspec.structs.replace(program, step=Step.IDLE, control=control, reset_beat=None)


def _idle(program: Program, shown: dict[str, int] | None, part: Part | None, now_ms: int) -> Program:
    """Wait for a part; before it, change the recipe and clear what keeps the station from taking triggers."""
    if shown is not None and program.recipe and shown["RecipeLoaded"] != program.recipe:
        asked = _with(program, command_code=PREPARE_RECIPE, command_argument=program.recipe, execute_command=True)
        return msgspec.structs.replace(asked, step=Step.RECIPE)
    if shown is not None and shown["FaultCode"] in CLEARED_FAULTS:
        return _begin_reset(program)
    if part is None:
        return program
    trigger_id = program.last_trigger_id % 0xFFFF + 1
    return msgspec.structs.replace(
        _with(program, trigger_id=trigger_id, serial=part.serial, set_user_data=bool(part.serial)),
        step=Step.SERIAL,
        last_trigger_id=trigger_id,
        started_ms=now_ms,
        has_acked=False,
    )


def _changing(program: Program, shown: dict[str, int] | None) -> Program:
    """Hold ExecuteCommand until the station has answered, and until it has seen that it was taken back."""
    if shown is None:
        return program
    has_ended = shown["CommandCompleted"] or shown["CommandFailed"]
    if program.control.execute_command:
        return _with(program, execute_command=False) if has_ended else program
    return program if has_ended else msgspec.structs.replace(program, step=Step.IDLE)


def _serial(program: Program, shown: dict[str, int]) -> Program:
    """Wait until the station has the serial, and is ready; then trigger."""
    if program.control.set_user_data:
        return _with(program, set_user_data=False) if shown["UserDataAck"] else program
    if shown["UserDataAck"] or shown["TriggerAck"] or not shown["TriggerReady"]:
        return program
    return msgspec.structs.replace(
        _with(program, trigger=True, inspect_window=program.window_ms),
        step=Step.TRIGGER,
        toggle=shown["InspectionCompleted"],
        inspection_id=shown["InspectionId"],
    )


def _triggering(program: Program, shown: dict[str, int]) -> Program:
    if not shown["TriggerAck"]:
        return program
    return msgspec.structs.replace(_with(program, trigger=False), step=Step.RESULT, has_acked=True)


def _result(program: Program, shown: dict[str, int], now_ms: int) -> Scan:
    if not shown["ResultsValid"]:
        return Scan(program)
    why = why_no_pass(program, shown, now_ms)
    if why in LOOK_AGAIN:
        return Scan(program)
    acked = _with(program, results_ack=True)
    if why and shown["TriggerId"] != program.control.trigger_id:  # of another part: taken, not used
        return _late(program, why, now_ms)
    done = msgspec.structs.replace(acked, step=Step.ACK, late=0)
    return Scan(done, _act(program, why, now_ms, shown["ReasonCode"]))


def _acking(program: Program, shown: dict[str, int] | None, now_ms: int) -> Program:
    """Hold ResultsAck until the station has seen it."""
    if shown is not None and not shown["ResultsValid"]:
        return msgspec.structs.replace(_with(program, results_ack=False), step=Step.IDLE)
    return _begin_reset(program) if now_ms - program.started_ms >= program.window_ms else program


def _act(program: Program, why: str, now_ms: int, reason_code: int = 0) -> Acted:
    return Acted(
        trigger_id=program.control.trigger_id,
        accepted=not why,
        why=why,
        took_ms=now_ms - program.started_ms,
        reason_code=reason_code,
    )


def _late(program: Program, why: str, now_ms: int) -> Scan:
    """Reject the part and begin anew, so that its result, should it still come, meets nobody."""
    late = _begin_reset(msgspec.structs.replace(program, late=program.late + 1))
    return Scan(late, _act(program, why, now_ms))


def _begin_reset(program: Program) -> Program:
    cleared = Control(plc_heartbeat=program.control.plc_heartbeat)
    return msgspec.structs.replace(program, step=Step.RESET, control=cleared, reset_beat=None)


def _with(program: Program, **changes: object) -> Program:
    return msgspec.structs.replace(program, control=msgspec.structs.replace(program.control, **changes))
