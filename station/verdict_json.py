"""A verdict as JSON: the body of the verdict stream and what the journal stores. Pure: no I/O.

Enums are words; `reason` is its name in lower case, e.g. "deadline_passed". The keys are the fields of `Verdict`.
Reading is strict: what is not a verdict of this release raises, it is never half read.
"""

from datetime import datetime
from typing import Any

import msgspec

from station.errors import JournalError
from station.records import Reason, Verdict


def encode(verdict: Verdict) -> bytes:
    """Return the verdict as UTF-8 JSON, keys in the order of the record."""
    fields = msgspec.to_builtins(verdict)
    for holder in (fields, *fields["regions"]):
        holder["reason"] = Reason(holder["reason"]).name.lower()
    return msgspec.json.encode(fields)


def decode(data: bytes) -> Verdict:
    """Return the verdict in `data`. Raises JournalError if it is not one of this release."""
    try:
        fields = msgspec.json.decode(data)
        for holder in (fields, *fields["regions"]):
            holder["reason"] = _reason(holder["reason"])
        verdict = msgspec.convert(fields, Verdict)
        _check_time(verdict.created_utc)
        return verdict
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(data, error) from error


def reason_and_detail(data: bytes) -> tuple[Reason, str]:
    """Return why the verdict in `data` is as it is, also if another release wrote it. Raises JournalError."""
    try:
        fields = msgspec.json.decode(data)
        return _reason(fields["reason"]), str(fields["detail"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _unreadable(data, error) from error


def _check_time(text: str) -> None:
    """Raise ValueError if `text` is no ISO 8601 time with its offset from UTC; readers reckon with it."""
    if datetime.fromisoformat(text).utcoffset() is None:
        raise ValueError(f"{text!r} does not say its time zone")


def _unreadable(data: bytes, error: Exception) -> JournalError:
    return JournalError(
        f"A verdict of {len(data)} bytes cannot be read: {type(error).__name__}: {error}.",
        "It was written by another release, or is damaged: compare the releases of writer and reader.",
    )


def _reason(word: Any) -> Reason:
    """Return the reason named by the lower-case `word`. Raises KeyError or TypeError."""
    if not isinstance(word, str) or not word.islower():
        raise TypeError(f"reason is {word!r}, expected a lower-case word")
    return Reason[word.upper()]
