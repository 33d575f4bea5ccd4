"""Reads JSON that somebody else wrote: a message says which file and key is wrong, never a traceback.

Used by everything on the export path for config.json, tokenizer.json, adapter_config.json and safetensors headers.
"""

import json
import math
from pathlib import Path

MAX_JSON_BYTES = 64 * 2**20
"""The largest file read here, Pixtral's tokenizer.json, has 17 MB."""


class ExportError(Exception):
    """The export cannot be right. `code` names the check (see docs/export.md), `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        if len(message) > 800:  # a damaged name can have any length
            message = f"{message[:400]} [...] {message[-400:]}"
        super().__init__(f"{code}: {message} {hint}".strip())
        self.code, self.message, self.hint = code, message, hint


class Fields:
    """One JSON object. Takes typed values out; raises ExportError with `code` for anything else."""

    def __init__(self, value: object, where: str, code: str, hint: str) -> None:
        self.where, self.code, self.hint = where, code, hint
        if not isinstance(value, dict):
            raise ExportError(code, f"{where} is no JSON object.", hint)
        self.values: dict[str, object] = value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number from `low` to `high`; `default` stands for an absent key or null."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite positive number."""
        value = self.values.get(key)
        value = default if value is None else value
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30
        if not good or not math.isfinite(value):
            raise self.wrong(key, "a positive number")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, str) or not is_unicode(value):
            raise self.wrong(key, "a text")
        return value

    def items(self, key: str, default: list[object] | None = None) -> list[object]:
        """Return a list."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def table(self, key: str, *, optional: bool = False) -> "Fields":
        """Return an object; an absent optional one is empty."""
        value = self.values.get(key)
        if value is None and optional:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self.where}: {key}", self.code, self.hint)

    def wrong(self, key: str, expected: str) -> ExportError:
        """Return the error for a value that is not as expected."""
        value = self.values.get(key)
        found = "nothing" if value is None else f"{value!r:.60}" if _is_shown(value) else type(value).__name__
        return ExportError(self.code, f"{self.where}: {key}: found {found}; expected {expected}.", self.hint)


def _is_shown(value: object) -> bool:
    return isinstance(value, str | float | bool) or (isinstance(value, int) and value.bit_length() < 200)


def is_unicode(text: str) -> bool:
    """Return False for half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def parse(data: bytes, where: str, code: str, hint: str) -> Fields:
    """Return the JSON object in `data`. Raises ExportError."""
    try:
        return Fields(json.loads(data), where, code, hint)
    except (ValueError, RecursionError) as error:
        raise ExportError(code, f"{where} is no JSON: {str(error)[:80]}.", hint) from error


def read(path: Path, code: str, hint: str) -> Fields:
    """Return the JSON object in a file. Raises ExportError."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ExportError(code, f"{path} has {size} bytes, more than any file of its name.", hint)
        return parse(path.read_bytes(), str(path), code, hint)
    except OSError as error:
        raise ExportError(code, f"{path} cannot be read: {error.strerror}.", hint) from error
