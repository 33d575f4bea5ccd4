"""The PLC's registers as two tables of data, and the encoding between them and the station's records. Pure: no I/O.

The tables are the only place that knows register numbers: encoding, decoding, the documents and the exports are made
from them. Names follow what ladder programmers know from smart cameras. 32-bit values have the high word first. What a
later release will serve has its place already and reads 0. A register never moves within a major release.
"""

import enum
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from station.outputs.plc_control import Control
from station.outputs.plc_state import FaultCode, OfflineReason, PlcState, is_pass
from station.records import Evaluation, Record, RegionReport, Verdict

WORDS = 64
"""Length of the status block."""
CONTROL_WORDS = 32
"""Length of the control block."""
MIRROR = 1000
"""First holding register of the read-only copy of the status block."""
UNPAIRED = 1
"""Warning: results come in the order of the pictures, nothing ties them to a trigger of the PLC."""
BITMAP_PINS = 32


class Type(enum.StrEnum):
    """How a value lies in the registers."""

    BIT = "bit"
    UINT16 = "uint16"
    UINT32 = "uint32"
    TEXT = "text"


class Field(Record, frozen=True):
    """One value of a block."""

    name: str
    register: int
    """Counted from the block's first word."""
    type: Type
    unit: str
    meaning: str
    bit: int = 0
    """0..15, 0 is the lowest; only for bits."""
    words: int = 1
    served: bool = True
    """False: reserved, reads 0 in this release."""


def _bit(register: int, bit: int, name: str, meaning: str, *, served: bool = True) -> Field:
    return Field(name=name, register=register, type=Type.BIT, unit="", meaning=meaning, bit=bit, served=served)


def _word(register: int, name: str, unit: str, meaning: str, *, served: bool = True) -> Field:
    return Field(name=name, register=register, type=Type.UINT16, unit=unit, meaning=meaning, served=served)


def _double(register: int, name: str, unit: str, meaning: str) -> Field:
    return Field(name=name, register=register, type=Type.UINT32, unit=unit, meaning=meaning, words=2)


STATUS: tuple[Field, ...] = (
    _bit(0, 0, "Online", "the station judges parts"),
    _bit(0, 1, "TriggerReady", "a trigger would be taken; always 0 while free running"),
    _bit(0, 2, "TriggerAck", "trigger taken; AcquisitionId is its number"),
    _bit(0, 3, "ImageReceived", "the trigger's picture is complete, the part may leave"),
    _bit(0, 4, "SystemBusy", "the model is being loaded"),
    _bit(0, 5, "InspectionCompleted", "toggles with each new result"),
    _bit(0, 6, "ResultsValid", "the result fields below belong to InspectionId and may be used"),
    _bit(0, 7, "OK", "pass; only with Online and ResultsValid"),
    _bit(0, 8, "NG", "every valid result that is not OK: defective, not decidable or failed"),
    _bit(0, 9, "NotDecidable", "in addition to NG: the station could not decide"),
    _bit(0, 10, "ResultsBufferOverrun", "a result was not shown: the buffer was full; until ClearFault"),
    _bit(0, 11, "MissedTrigger", "a trigger came when none was taken; until ClearFault"),
    _bit(0, 12, "Fault", "FaultCode says which"),
    _bit(0, 13, "Warning", "WarningCode says which"),
    _bit(0, 14, "UserDataAck", "PartSerial holds the serial for the next trigger"),
    _bit(1, 0, "CommandExecuting", "the command is being carried out"),
    _bit(1, 1, "CommandCompleted", "the command was carried out; until ExecuteCommand is 0"),
    _bit(1, 2, "CommandFailed", "the command was refused or failed; until ExecuteCommand is 0"),
    _bit(1, 3, "GoldenCheckDue", "", served=False),
    _bit(1, 4, "GoldenCheckPassed", "", served=False),
    _bit(1, 5, "Degraded", "", served=False),
    _bit(1, 6, "StorageLow", "", served=False),
    _bit(1, 7, "Simulated", "the result was made without a model: never use it for a real part"),
    _bit(1, 8, "Bypassed", "", served=False),
    _bit(1, 9, "PlcHeartbeatLost", "PlcHeartbeat did not change for 3 s"),
    _bit(1, 10, "ClockUnsynced", "", served=False),
    _word(2, "Heartbeat", "beats", "counts on each 200 ms while the worker's loop turns; wraps"),
    _word(3, "PlcHeartbeatEcho", "beats", "PlcHeartbeat, echoed"),
    _word(4, "OfflineReason", "code", "why Online is 0"),
    _word(5, "FaultCode", "code", "what is broken"),
    _word(6, "WarningCode", "code", "what needs attention"),
    _word(7, "AcquisitionId", "", "counts triggers taken; equal to InspectionId while free running"),
    _word(8, "InspectionId", "", "low 16 bits of the verdict's seq; seq starts at 1 with each start of the worker"),
    _word(9, "TriggerId", "", "TriggerId that the result belongs to; 0: no result, or free running"),
    _word(10, "FreeResultBuffers", "results", "8: no result is kept"),
    _word(11, "ResultEvaluation", "code", "OPC 40001-101"),
    _word(12, "ResultState", "code", "OPC 40100-1"),
    _word(13, "ReasonCode", "code", "why the result is not OK"),
    _word(14, "PinsInspected", "pins", "pins of the regions that the model was asked about"),
    _word(15, "PinsNG", "pins", "pins found defective"),
    _word(16, "FirstNGPin", "pin number", "lowest defective pin; 0: none, or not known (ask: report)"),
    _double(17, "NGPins", "bitmap", "defective pins 1 to 32, pin 1 is the lowest bit; 0 with ask: report"),
    _double(19, "NotDecidablePins", "bitmap", "pins 1 to 32 without a decision; 0 with ask: report"),
    _word(21, "ProcessingTime", "ms", "from the complete file to the journal; 65535: that or more"),
    _word(22, "QueueDepth", "jobs", "", served=False),
    _word(23, "ResultAge", "ms", "since the verdict of this result; 65535: that or more"),
    _word(24, "RecipeUsed", "number", "of the recipe that this result was judged with; 0: it has none (recipes)"),
    _word(25, "RecipeLoaded", "number", "of the recipe in force; 0: it has no number, or there is none now"),
    _double(26, "ConfigChecksum", "hash", "of configuration, recipe and model of this result: differs when one does"),
    _double(28, "ModelHash", "hash", "first 4 bytes of the sha256 of the manifest of the model that judged"),
    _double(30, "CountTriggers", "parts", "results since the start of the worker; the sum of the next four"),
    _double(32, "CountOK", "parts", ""),
    _double(34, "CountNG", "parts", "found defective"),
    _double(36, "CountNotDecidable", "parts", ""),
    _double(38, "CountFailed", "parts", "inspections that gave no evaluation"),
    Field(
        name="PartSerial",
        register=40,
        type=Type.TEXT,
        unit="",
        meaning="44 ASCII bytes: serial of the result, without one the serial latched",
        words=22,
    ),
    _word(62, "InspectionIdTail", "", "InspectionId again: differs from it when a read was torn"),
    _word(63, "StatusComplement", "", "register 0 with every bit inverted: shows a stuck or broken word"),
)

CONTROL: tuple[Field, ...] = (
    _bit(0, 0, "TriggerEnable", "triggers are wanted; 1 to 0 gives up every trigger without a result"),
    _bit(0, 1, "Trigger", "a part is in place; hold until TriggerAck"),
    _bit(0, 2, "ResultsAck", "the result is taken; hold until ResultsValid is 0"),
    _bit(0, 3, "BufferResultsEnable", "hold each result until ResultsAck; up to 8 are kept"),
    _bit(0, 4, "ClearFault", "0 to 1 clears FaultCode 23 and 40, MissedTrigger and ResultsBufferOverrun"),
    _bit(0, 5, "SetOffline", "while 1 the station is offline"),
    _bit(0, 6, "ExecuteCommand", "0 to 1 carries out CommandCode; hold until CommandCompleted or CommandFailed"),
    _bit(0, 7, "SetUserData", "0 to 1 takes Serial for the next trigger; hold until UserDataAck"),
    _bit(0, 8, "ClearExposureComplete", "0 to 1 clears ImageReceived"),
    _bit(0, 9, "BufferClear", "0 to 1 drops every result shown or kept"),
    _word(1, "PlcHeartbeat", "beats", "any other value at least once a second"),
    _word(2, "CommandCode", "code", "what ExecuteCommand does"),
    _word(3, "CommandArgument", "", "1 prepare recipe: its number in the configuration (recipes)"),
    _word(4, "TriggerId", "", "the PLC's own part counter, 1 to 65535, another one for each trigger"),
    _word(5, "InspectWindow", "ms", "the result comes within this time of the trigger; 0: the recipe's deadline"),
    Field(name="Serial", register=8, type=Type.TEXT, unit="", meaning="44 ASCII bytes, padded with 0", words=22),
)


def encode(state: PlcState) -> list[int]:
    """Return the 64 words that show `state`, each 0..65535; what changes with time alone is 0, see `with_time`."""
    values = _station_values(state) | (_result_values(state.result) if state.result else {})
    words = _packed(STATUS, WORDS, values)
    _put_text(words, _PART_SERIAL, _serial(state))
    words[63] = words[0] ^ 0xFFFF
    return words


def with_time(words: Sequence[int], beat: int, result_age_ms: int) -> list[int]:
    """Return the words with Heartbeat and ResultAge as they are now."""
    now = list(words)
    _put(now, _HEARTBEAT, beat)
    _put(now, _RESULT_AGE, min(result_age_ms, 0xFFFF))
    return now


def decode(words: Sequence[int]) -> dict[str, int]:
    """Return name -> value of every served field that is a number, from 64 words read in one request."""
    return {field.name: _get(words, field) for field in STATUS if field.served and field.type is not Type.TEXT}


def part_serial(words: Sequence[int]) -> str:
    """Return PartSerial of the status block."""
    return _get_text(words, _PART_SERIAL)


def encode_control(control: Control) -> list[int]:
    """Return the 32 words that the PLC writes."""
    values = {field.name: getattr(control, name) for name, field in _CONTROL_OF.items()}
    words = _packed(CONTROL, CONTROL_WORDS, values)
    _put_text(words, _SERIAL, control.serial)
    return words


def decode_control(words: Sequence[int]) -> Control:
    """Return what the PLC wants, from the 32 words as they are now."""
    values: dict[str, Any] = {
        name: bool(_get(words, field)) if field.type is Type.BIT else _get(words, field)
        for name, field in _CONTROL_OF.items()
    }
    return Control(**values, serial=_get_text(words, _SERIAL))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _packed(table: Sequence[Field], length: int, values: Mapping[str, int]) -> list[int]:
    words = [0] * length
    for field in table:
        if field.served and field.type is not Type.TEXT:
            _put(words, field, values.get(field.name, 0))
    return words


def _put_text(words: list[int], field: Field, text: str) -> None:
    """Put ASCII into the words, first character in the high byte, padded with 0."""
    data = text.encode("ascii", "replace")[: 2 * field.words].ljust(2 * field.words, b"\0")
    words[field.register : field.register + field.words] = struct.unpack(f">{field.words}H", data)


def _get_text(words: Sequence[int], field: Field) -> str:
    """Return the text up to its first 0; what is no printable ASCII reads as '?'."""
    data = struct.pack(f">{field.words}H", *words[field.register : field.register + field.words])
    text = data.partition(b"\0")[0].decode("ascii", "replace").rstrip()
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)


_STATUS_OF = {field.name: field for field in STATUS}
_PART_SERIAL, _HEARTBEAT, _RESULT_AGE = (_STATUS_OF[name] for name in ("PartSerial", "Heartbeat", "ResultAge"))
_SERIAL = next(field for field in CONTROL if field.name == "Serial")
_CONTROL_OF = {_snake(field.name): field for field in CONTROL if field.type is not Type.TEXT}
"""Field of `Control` -> its place."""


def _serial(state: PlcState) -> str:
    trigger = state.result.trigger if state.result else None
    return trigger.serial if trigger else state.signals.serial


def _put(words: list[int], field: Field, value: int) -> None:
    if field.type is Type.BIT:
        words[field.register] |= bool(value) << field.bit
        return
    if field.type is Type.UINT32:
        words[field.register] = value >> 16 & 0xFFFF
    words[field.register + field.words - 1] = value & 0xFFFF


def _get(words: Sequence[int], field: Field) -> int:
    if field.type is Type.BIT:
        return words[field.register] >> field.bit & 1
    value = 0
    for word in words[field.register : field.register + field.words]:
        value = value << 16 | word
    return value


def _station_values(state: PlcState) -> dict[str, int]:
    """Return what is shown with and without a result."""
    undefined, ok, not_ok, not_decidable = state.counts
    signals = state.signals
    acquisition_id = state.inspection_id if signals.acquisition_id is None else signals.acquisition_id
    return {
        "TriggerReady": signals.trigger_ready,
        "TriggerAck": signals.trigger_ack,
        "ImageReceived": signals.image_received,
        "ResultsBufferOverrun": signals.overrun,
        "MissedTrigger": signals.missed_trigger,
        "UserDataAck": signals.user_data_ack,
        "CommandExecuting": signals.command_executing,
        "CommandCompleted": signals.command_completed,
        "CommandFailed": signals.command_failed,
        "PlcHeartbeatLost": signals.plc_heartbeat_lost,
        "PlcHeartbeatEcho": signals.plc_heartbeat,
        "FreeResultBuffers": signals.free_buffers,
        "RecipeLoaded": signals.recipe_loaded,
        "RecipeUsed": signals.recipe_used,
        "Online": state.online,
        "SystemBusy": state.offline_reason is OfflineReason.MODEL_LOADING,
        "InspectionCompleted": state.toggle,
        "Fault": state.fault is not FaultCode.NONE,
        "Warning": not signals.is_paired,
        "WarningCode": 0 if signals.is_paired else UNPAIRED,
        "OfflineReason": state.offline_reason,
        "FaultCode": state.fault,
        "AcquisitionId": acquisition_id,
        "InspectionId": state.inspection_id,
        "InspectionIdTail": state.inspection_id,
        "CountTriggers": sum(state.counts),
        "CountOK": ok,
        "CountNG": not_ok,
        "CountNotDecidable": not_decidable,
        "CountFailed": undefined,
    }


def _result_values(verdict: Verdict) -> dict[str, int]:
    """Return what belongs to the result shown. Exactly one of OK and NG is set."""
    ng_pins = _pin_numbers(verdict.regions, {Evaluation.NOT_OK})
    unsure_pins = _pin_numbers(verdict.regions, {Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED})
    return {
        "ResultsValid": True,
        "OK": is_pass(verdict),
        "NG": not is_pass(verdict),
        "NotDecidable": verdict.evaluation is Evaluation.NOT_DECIDABLE,
        "Simulated": verdict.is_simulated,
        "TriggerId": verdict.trigger.trigger_id if verdict.trigger else 0,
        "ResultEvaluation": verdict.evaluation.code,
        "ResultState": verdict.result_state.code,
        "ReasonCode": verdict.reason,
        "PinsInspected": sum(region.pins_expected for region in verdict.regions if region.p_defect is not None),
        "PinsNG": sum(_ng_pins_of(region) for region in verdict.regions),
        "FirstNGPin": min(ng_pins, default=0),
        "NGPins": _bitmap(ng_pins),
        "NotDecidablePins": _bitmap(unsure_pins),
        "ProcessingTime": min(round(verdict.ms.total), 0xFFFF),
        "ConfigChecksum": _hash_value(_checksum(verdict), 4),
        "ModelHash": _hash_value(verdict.model.sha256, 4),
    }


def _pin_numbers(regions: Sequence[RegionReport], wanted: set[Evaluation]) -> list[int]:
    """Return the numbers of the pins with a wanted evaluation. Pins count from 1 through all regions of the recipe."""
    numbers: list[int] = []
    before = 0
    for region in regions:
        numbers += [before + at for at, pin in enumerate(region.pins, start=1) if pin.evaluation in wanted]
        before += region.pins_expected
    return numbers


def _ng_pins_of(region: RegionReport) -> int:
    """Return how many pins are defective: of the pins asked about, else (ask: report) of the positions named."""
    if region.pins:
        return sum(pin.evaluation is Evaluation.NOT_OK for pin in region.pins)
    if region.evaluation is not Evaluation.NOT_OK or region.defect_position == "none":
        return 0
    return len(region.defect_position.split(";"))


def _bitmap(pin_numbers: Sequence[int]) -> int:
    return sum(1 << number - 1 for number in pin_numbers if number <= BITMAP_PINS)


def _checksum(verdict: Verdict) -> str:
    """Return the hash of all that decides how a part is judged, hex."""
    parts = verdict.config_sha256, verdict.recipe_sha256, verdict.model.sha256
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _hash_value(sha256: str, length_bytes: int) -> int:
    """Return the first bytes of a hex hash as a number; 0 when there is no hash (an engine without a model)."""
    return int(sha256[: 2 * length_bytes] or "0", 16)
