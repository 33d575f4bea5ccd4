"""Keeps and reads what the shadow said: lines of shadow.jsonl beside the journal, one a part, only ever added to.

The shadow is a second model that judges parts after the active one has, without outputs. Out: records in the order of
the file; a line that a power cut left unfinished is left out. Raises OSError where the disk does.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from station import durable_file
from station.shadow import ShadowLine

FILE_NAME, OLD_NAME = "shadow.jsonl", "shadow.jsonl.old"
MOST_BYTES = 32 * 1024 * 1024
"""A longer file becomes the old one, whose place it takes."""
_DECODER = msgspec.json.Decoder(ShadowLine)


def shadow_path(journal: Path) -> Path:
    """Return the file that belongs to a journal."""
    return journal.with_name(FILE_NAME)


def append_line(path: Path, line: ShadowLine) -> None:
    """Add a line. Raises OSError. Not synced: a power cut may take the last lines, never a verdict."""
    if path.exists() and path.stat().st_size > MOST_BYTES:
        path.replace(path.with_name(OLD_NAME))
    durable_file.append_line(path, line, is_durable=False)


def read_lines(path: Path) -> Iterator[ShadowLine]:
    """Yield the lines of the old file and of this one; nothing if there is none. Raises OSError."""
    for each in (path.with_name(OLD_NAME), path):
        yield from durable_file.read_lines(each, _DECODER)
