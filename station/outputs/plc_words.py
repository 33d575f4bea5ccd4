"""Between the PLC's registers and the station's records: each value to its place in the tables of `plc_map`, and back.

Pure: no I/O. 32-bit values have the high word first, text its first character in the high byte.
"""

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from station.outputs.plc_control import Control
from station.outputs.plc_map import CONTROL, CONTROL_WORDS, STATUS, WORDS, Field, Type
from station.outputs.plc_state import FaultCode, OfflineReason, PlcState, is_pass
from station.records import Evaluation, RegionReport, Verdict

UNPAIRED = 1
"""Warning: results come in the order of the pictures, nothing ties them to a trigger of the PLC."""
BITMAP_PINS = 32


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
    warning = signals.refusal or (0 if signals.is_paired else UNPAIRED)
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
        "GoldenCheckDue": signals.challenge_due,
        "GoldenCheckPassed": signals.challenge_passed,
        "PlcHeartbeatLost": signals.plc_heartbeat_lost,
        "PlcHeartbeatEcho": signals.plc_heartbeat,
        "FreeResultBuffers": signals.free_buffers,
        "QueueDepth": signals.waiting_jobs,
        "StorageLow": signals.storage_low,
        "RecipeLoaded": signals.recipe_loaded,
        "RecipeUsed": signals.recipe_used,
        "Online": state.online,
        "SystemBusy": state.offline_reason is OfflineReason.MODEL_LOADING,
        "InspectionCompleted": state.toggle,
        "Fault": state.fault is not FaultCode.NONE,
        "Warning": bool(warning),
        "WarningCode": warning,
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
