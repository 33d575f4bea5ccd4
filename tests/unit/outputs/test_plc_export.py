"""The exported maps are the served map."""

import csv
import io
import re

from station.outputs import plc_rules
from station.outputs.plc_export import as_csv, as_structured_text
from station.outputs.plc_map import CONTROL, STATUS, Type


def test_csv_has_every_field_of_both_blocks() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv())))
    status = [(row["name"], int(row["input_register"])) for row in rows if row["block"] == "status"]
    assert status == [(field.name, field.register) for field in STATUS]
    control = [(row["name"], int(row["holding_register"])) for row in rows if row["block"] == "control"]
    assert control == [(field.name, field.register) for field in CONTROL]
    bits = [str(field.bit) if field.type is Type.BIT else "" for field in (*STATUS, *CONTROL)]
    assert [row["bit"] for row in rows] == bits


def test_structured_text_declares_fills_and_writes_every_field() -> None:
    text = as_structured_text()
    numbers = [field.name for field in STATUS if field.served and field.type is not Type.TEXT]
    assert re.findall(r"^Status\.(\w+) := ", text, re.MULTILINE) == numbers
    (declared,) = re.findall(r"TYPE STATION_STATUS :\nSTRUCT\n(.*?)END_STRUCT", text, re.DOTALL)
    assert re.findall(r"^    (\w+) : (?:BOOL|UINT|UDINT); ", declared, re.MULTILINE) == numbers
    control = [field for field in CONTROL if field.type is not Type.TEXT]
    written = set(re.findall(r"^IF Ctl\.(\w+) THEN Control\[0\]", text, re.MULTILINE))
    written |= set(re.findall(r"^Control\[\d+\] := UINT_TO_WORD\(Ctl\.(\w+)\)", text, re.MULTILINE))
    assert written == {field.name for field in control}


def test_structured_text_finds_the_ok_bit_and_the_high_word_first() -> None:
    text = as_structured_text()
    assert "Status.OK := (Words[0] AND 16#0080) = 16#0080;" in text
    high, low = "WORD_TO_DWORD(Words[32])", "WORD_TO_DWORD(Words[33])"
    assert f"Status.CountOK := DWORD_TO_UDINT(SHL({high}, 16) OR {low});" in text


def test_the_function_block_asks_for_all_that_the_rules_ask_for() -> None:
    """Every signal that `why_no_pass` looks at stands in the block's acceptance rule."""
    text = as_structured_text()
    (rule,) = re.findall(r"^Pass := (.*?);", text, re.MULTILINE | re.DOTALL)
    asked = "Whole Fresh Online ResultsValid HasAcked IsMine InspectionCompleted InspectionId Simulated NG OK"
    assert not [name for name in f"{asked} ResultEvaluation Window".split() if name not in rule]
    assert f"T#{plc_rules.HEARTBEAT_TIMEOUT_MS}MS" in text
    assert text.count("IF ") == text.count("END_IF;") + text.count("ELSIF ")
