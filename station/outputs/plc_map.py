"""The PLC's status block as one table of data, and the encoding of the station's state into its 64 words. Pure: no I/O.

The table is the only place that knows register numbers: `encode`, `decode` and docs/plc-map.md are made from it.
Names follow what ladder programmers know from smart cameras. 32-bit values have the high word first. What a later
release will serve has its place already and reads 0. A register never moves within a major release.
"""

import enum
from collections.abc import Mapping, Sequence

from station.outputs.plc_state import FaultCode, OfflineReason, PlcState, is_pass
from station.records import Evaluation, Reason, Record, RegionReport, ResultState, Verdict

WORDS = 64
"""Length of the status block."""
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
    """One value of the status block."""

    name: str
    register: int
    """0..63; input register, and holding register 1000 + this."""
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
    _bit(0, 1, "TriggerReady", "a trigger would be taken; always 0 while free running", served=False),
    _bit(0, 2, "TriggerAck", "trigger seen", served=False),
    _bit(0, 3, "ImageReceived", "picture complete, the part may leave", served=False),
    _bit(0, 4, "SystemBusy", "the model is being loaded"),
    _bit(0, 5, "InspectionCompleted", "toggles with each new result"),
    _bit(0, 6, "ResultsValid", "the result fields below belong to InspectionId and may be used"),
    _bit(0, 7, "OK", "pass; only with Online and ResultsValid"),
    _bit(0, 8, "NG", "every valid result that is not OK: defective, not decidable or failed"),
    _bit(0, 9, "NotDecidable", "in addition to NG: the station could not decide"),
    _bit(0, 10, "ResultsBufferOverrun", "results were lost", served=False),
    _bit(0, 11, "MissedTrigger", "a trigger came when none was taken", served=False),
    _bit(0, 12, "Fault", "FaultCode says which"),
    _bit(0, 13, "Warning", "WarningCode says which"),
    _bit(0, 14, "UserDataAck", "user data taken", served=False),
    _bit(1, 0, "CommandExecuting", "", served=False),
    _bit(1, 1, "CommandCompleted", "", served=False),
    _bit(1, 2, "CommandFailed", "", served=False),
    _bit(1, 3, "GoldenCheckDue", "", served=False),
    _bit(1, 4, "GoldenCheckPassed", "", served=False),
    _bit(1, 5, "Degraded", "", served=False),
    _bit(1, 6, "StorageLow", "", served=False),
    _bit(1, 7, "Simulated", "the result was made without a model: never use it for a real part"),
    _bit(1, 8, "Bypassed", "", served=False),
    _bit(1, 9, "PlcHeartbeatLost", "", served=False),
    _bit(1, 10, "ClockUnsynced", "", served=False),
    _word(2, "Heartbeat", "beats", "counts on with each turn of the worker's loop, at least once a second; wraps"),
    _word(3, "PlcHeartbeatEcho", "beats", "heartbeat of the PLC, echoed", served=False),
    _word(4, "OfflineReason", "code", "why Online is 0"),
    _word(5, "FaultCode", "code", "what is broken"),
    _word(6, "WarningCode", "code", "what needs attention"),
    _word(7, "AcquisitionId", "", "counts pictures; equal to InspectionId while free running"),
    _word(8, "InspectionId", "", "low 16 bits of the verdict's seq; seq starts at 1 with each start of the worker"),
    _word(9, "TriggerId", "", "part counter of the PLC, echoed", served=False),
    _word(10, "FreeResultBuffers", "", "", served=False),
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
    _word(23, "ResultAge", "ms", "", served=False),
    _word(24, "RecipeUsed", "hash", "first 2 bytes of the sha256 of the recipe used for this result"),
    _word(25, "RecipeLoaded", "hash", "", served=False),
    _double(26, "ConfigChecksum", "hash", "first 4 bytes of the sha256 of the configuration used for this result"),
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
        meaning="44 ASCII bytes, echoed",
        words=22,
        served=False,
    ),
    _word(62, "InspectionIdTail", "", "InspectionId again: differs from it when a read was torn"),
    _word(63, "StatusComplement", "", "register 0 with every bit inverted: shows a stuck or broken word"),
)


def encode(state: PlcState) -> list[int]:
    """Return the 64 words that show `state`, each 0..65535. Fields not served are 0."""
    values = _station_values(state) | (_result_values(state.result) if state.result else {})
    words = [0] * WORDS
    for field in STATUS:
        if field.served:
            _put(words, field, values.get(field.name, 0))
    words[63] = words[0] ^ 0xFFFF
    return words


def decode(words: Sequence[int]) -> dict[str, int]:
    """Return name -> value of every served field, from 64 words read in one request."""
    return {field.name: _get(words, field) for field in STATUS if field.served}


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
    return {
        "Online": state.online,
        "SystemBusy": state.offline_reason is OfflineReason.MODEL_LOADING,
        "InspectionCompleted": state.toggle,
        "Fault": state.fault is not FaultCode.NONE,
        "Warning": True,
        "WarningCode": UNPAIRED,
        "Heartbeat": state.heartbeat,
        "OfflineReason": state.offline_reason,
        "FaultCode": state.fault,
        "AcquisitionId": state.inspection_id,
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
        "ResultEvaluation": verdict.evaluation.code,
        "ResultState": verdict.result_state.code,
        "ReasonCode": verdict.reason,
        "PinsInspected": sum(region.pins_expected for region in verdict.regions if region.p_defect is not None),
        "PinsNG": sum(_ng_pins_of(region) for region in verdict.regions),
        "FirstNGPin": min(ng_pins, default=0),
        "NGPins": _bitmap(ng_pins),
        "NotDecidablePins": _bitmap(unsure_pins),
        "ProcessingTime": min(round(verdict.ms.total), 0xFFFF),
        "RecipeUsed": _hash_value(verdict.recipe_sha256, 2),
        "ConfigChecksum": _hash_value(verdict.config_sha256, 4),
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


def _hash_value(sha256: str, length_bytes: int) -> int:
    """Return the first bytes of a hex hash as a number; 0 when there is no hash (an engine without a model)."""
    return int(sha256[: 2 * length_bytes] or "0", 16)


def markdown() -> str:
    """Return docs/plc-map.md, made from the table."""
    lines = [
        "# PLC register map: status block",
        "",
        "Made from the table in `station/outputs/plc_map.py`; do not edit. How to use it: [plc.md](plc.md).",
        "",
        f"{WORDS} words, read with one request: input registers 0 to {WORDS - 1} (function code 4), or the same words",
        f"as holding registers {MIRROR} to {MIRROR + WORDS - 1} (function code 3). Any unit id. Nothing is writable.",
        "32-bit values: high word first. *Reserved* fields read 0 in this release.",
        "",
        "| Register | Name | Type | Unit | Meaning |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, STATUS),
        "",
        "## Codes",
        "",
        *_code_table("ResultEvaluation", {value.name: value.code for value in Evaluation}),
        *_code_table("ResultState", {value.name: value.code for value in ResultState}),
        *_code_table("ReasonCode", Reason.__members__),
        *_code_table("OfflineReason", OfflineReason.__members__),
        *_code_table("FaultCode", FaultCode.__members__),
        *_code_table("WarningCode", {"NONE": 0, "UNPAIRED": UNPAIRED}),
    ]
    return "\n".join(lines)


def _row(field: Field) -> str:
    last = field.register + field.words - 1
    place = f"{field.register}" if field.words == 1 else f"{field.register}-{last}"
    if field.type is Type.BIT:
        place += f".{field.bit}"
    meaning = field.meaning if field.served else f"*reserved* {field.meaning}".strip()
    return f"| {place} | {field.name} | {field.type} | {field.unit} | {meaning} |"


def _code_table(name: str, codes: Mapping[str, int]) -> list[str]:
    rows = [f"| {code} | {word.lower().replace('_', ' ')} |" for word, code in codes.items()]
    return [f"{name}:", "", "| Code | Meaning |", "| --- | --- |", *rows, ""]
