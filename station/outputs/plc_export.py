"""The status block in forms that PLC tools take in: CSV for tag lists, IEC 61131-3 Structured Text. Pure.

Both are made from the table in `plc_map`, so they cannot differ from what the station serves. The Structured Text has
no vendor's extension: bits are masked, 32-bit values put together from two words, high word first.
"""

import csv
import io
from collections.abc import Iterator

from station.outputs.plc_map import STATUS, WORDS, Field, Type

_ST_TYPES = {Type.BIT: "BOOL", Type.UINT16: "UINT", Type.UINT32: "UDINT"}


def as_csv() -> str:
    """Return the map with a heading and one line per field; reserved fields too, so that addresses stay planned."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["register", "bit", "words", "name", "type", "unit", "served", "meaning"])
    for field in STATUS:
        bit = field.bit if field.type is Type.BIT else ""
        served = "yes" if field.served else "reserved"
        table.writerow([field.register, bit, field.words, field.name, field.type, field.unit, served, field.meaning])
    return out.getvalue()


def as_structured_text() -> str:
    """Return a structure and a function block that fills it from the 64 words, and says whether the part passed."""
    served = [field for field in STATUS if field.served]
    lines = [
        f"(* Made by `station plc-map --format st`: {WORDS} words, input registers 0 to {WORDS - 1}. Do not edit. *)",
        "TYPE STATION_STATUS :",
        "STRUCT",
        *(f"    {field.name} : {_ST_TYPES[field.type]}; (* {field.meaning or field.unit} *)" for field in served),
        "END_STRUCT",
        "END_TYPE",
        "",
        "FUNCTION_BLOCK FB_STATION_STATUS",
        "VAR_INPUT",
        f"    Words : ARRAY[0..{WORDS - 1}] OF WORD; (* read in one request *)",
        "END_VAR",
        "VAR_OUTPUT",
        "    Status : STATION_STATUS;",
        "    Whole : BOOL; (* nothing torn or stuck in the words *)",
        "    Pass : BOOL; (* use only when Status.InspectionId is the one you wait for and Status.Heartbeat moves *)",
        "END_VAR",
        *(f"Status.{field.name} := {_expression(field)};" for field in served),
        "Whole := (Status.InspectionId = Status.InspectionIdTail) AND (Words[63] = (NOT Words[0]));",
        *_pass(),
        "END_FUNCTION_BLOCK",
    ]
    return "\n".join(lines) + "\n"


def _expression(field: Field) -> str:
    if field.type is Type.BIT:
        mask = f"16#{1 << field.bit:04X}"
        return f"(Words[{field.register}] AND {mask}) = {mask}"
    if field.type is Type.UINT16:
        return f"WORD_TO_UINT(Words[{field.register}])"
    high, low = (f"WORD_TO_DWORD(Words[{field.register + place}])" for place in (0, 1))
    return f"DWORD_TO_UDINT(SHL({high}, 16) OR {low})"


def _pass() -> Iterator[str]:
    yield "Pass := Whole AND Status.Online AND Status.ResultsValid AND Status.OK AND NOT Status.NG"
    yield "    AND NOT Status.Simulated AND (Status.ResultEvaluation = 1);"
