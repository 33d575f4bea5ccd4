"""Splits a set into disjoint groups of parts, the same way every time. Pure.

A part goes where the hash of its name says: all its pictures together, whatever else is in the set, so that a part that
was once used for tuning never verifies later.
"""

import hashlib

TUNE, CALIBRATE, VERIFY = "tune", "calibrate", "verify"
SHARES = ((TUNE, 0.2), (CALIBRATE, 0.6), (VERIFY, 1.0))
"""Upper end of each group."""


def place_of(part: str) -> float:
    """Return the part's place, 0 <= place < 1, evenly spread."""
    return int.from_bytes(hashlib.sha256(part.encode()).digest()[:7]) / 2**56


def half_of(part: str) -> int:
    """Return 0 or 1."""
    return int(place_of(part) * 2)


def group_of(part: str) -> str:
    """Return TUNE, CALIBRATE or VERIFY."""
    place = place_of(part)
    return next(name for name, end in SHARES if place < end)
