"""Records as JSON text for `--json`. Verdicts have the form of the verdict stream. Pure."""

import json
from pathlib import Path
from typing import Any

import msgspec

from station import verdict_json
from station.records import Record, Verdict


def as_text(value: Any) -> str:
    """Return records, lists and plain data as indented JSON."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    match value:
        case Verdict():
            return json.loads(verdict_json.encode(value))
        case Record():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
        case _:
            return msgspec.to_builtins(value)
