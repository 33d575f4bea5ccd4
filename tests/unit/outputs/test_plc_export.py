"""The exported maps are the served map."""

import csv
import io
import re

from station.outputs.plc_export import as_csv, as_structured_text
from station.outputs.plc_map import STATUS, Type


def test_csv_has_every_field_of_the_map() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv())))
    assert [(row["name"], int(row["register"])) for row in rows] == [(field.name, field.register) for field in STATUS]
    assert [row["bit"] for row in rows] == [str(field.bit) if field.type is Type.BIT else "" for field in STATUS]


def test_structured_text_declares_and_fills_every_served_field() -> None:
    text = as_structured_text()
    served = [field.name for field in STATUS if field.served]
    assert re.findall(r"^    (\w+) : (?:BOOL|UINT|UDINT); ", text, re.MULTILINE) == [*served, "Whole", "Pass"]
    assert re.findall(r"^Status\.(\w+) := ", text, re.MULTILINE) == served


def test_structured_text_finds_the_ok_bit_and_the_high_word_first() -> None:
    text = as_structured_text()
    assert "Status.OK := (Words[0] AND 16#0080) = 16#0080;" in text
    high, low = "WORD_TO_DWORD(Words[32])", "WORD_TO_DWORD(Words[33])"
    assert f"Status.CountOK := DWORD_TO_UDINT(SHL({high}, 16) OR {low});" in text
