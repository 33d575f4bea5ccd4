"""docs/plc-map.md, made from the tables of `plc_map`. Pure."""

from collections.abc import Mapping, Sequence

from station.outputs.plc_map import CONTROL, CONTROL_WORDS, MIRROR, STATUS, WORDS, Field, Type
from station.outputs.plc_orders import CommandCode, Refusal
from station.outputs.plc_state import FaultCode, OfflineReason
from station.outputs.plc_words import UNPAIRED
from station.records import Evaluation, Reason, ResultState


def markdown() -> str:
    """Return the document."""
    lines = [
        "# PLC register map",
        "",
        "Made from the tables in `station/outputs/plc_map.py`; do not edit. How to use it: [plc.md](plc.md).",
        "Any unit id. 32-bit values: high word first. Text: first character in the high byte.",
        "*Reserved* fields read 0 in this release.",
        "",
        "## Status block, station to PLC",
        "",
        f"{WORDS} words, read with one request: input registers 0 to {WORDS - 1} (function code 4), or the same words",
        f"as holding registers {MIRROR} to {MIRROR + WORDS - 1} (function code 3). They cannot be written.",
        "",
        *_table(STATUS),
        "",
        "## Control block, PLC to station",
        "",
        f"{CONTROL_WORDS} words, holding registers 0 to {CONTROL_WORDS - 1}: write all of them with one request",
        "(function code 16), or single ones (6, 22, 23). They read back as written (3). Others do not count.",
        "",
        *_table(CONTROL),
        "",
        "## Codes",
        "",
        *_code_table("ResultEvaluation", {value.name: value.code for value in Evaluation}),
        *_code_table("ResultState", {value.name: value.code for value in ResultState}),
        *_code_table("ReasonCode", Reason.__members__),
        *_code_table("OfflineReason", OfflineReason.__members__),
        *_code_table("FaultCode", FaultCode.__members__),
        *_code_table("WarningCode", {"NONE": 0, "UNPAIRED": UNPAIRED, **Refusal.__members__}),
        *_code_table("CommandCode", CommandCode.__members__),
    ]
    return "\n".join(lines)


def _table(fields: Sequence[Field]) -> list[str]:
    return [
        "| Register | Name | Type | Unit | Meaning |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, fields),
    ]


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
