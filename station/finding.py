"""What `station check` says of one thing it looked at. Pure."""

import enum

from station.records import Record


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Record):
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    to_do: str = ""
    """What to do about it; empty when it is ok."""
