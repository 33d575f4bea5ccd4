"""The tables of the journal, and how a journal of an earlier release becomes one of this release.

A journal is made, or brought up to date, in one transaction: a kill or a power cut at any moment leaves the old one or
the new one, whole. Steps only add tables; rows of verdicts are never touched, so no verdict can be lost by a step. A
journal of a later release is refused. Called by `worker.journal` with its one connection. Raises JournalError.
"""

import logging
import sqlite3

from station.errors import JournalError
from station.journal_reader import VERSION

KEEP_ASIDE = "Move it aside with its -wal and -shm files and start again: a new journal is made; keep the old one."

_VERDICTS = """
CREATE TABLE epoch (
    epoch INTEGER PRIMARY KEY,
    started_utc TEXT NOT NULL
);
CREATE TABLE verdict (
    job_id TEXT PRIMARY KEY NOT NULL,
    epoch INTEGER NOT NULL REFERENCES epoch (epoch),
    seq INTEGER NOT NULL,
    evaluation TEXT NOT NULL,
    result_state TEXT NOT NULL,
    recipe TEXT NOT NULL,
    image_name TEXT NOT NULL,
    part_id TEXT,
    created_utc TEXT NOT NULL,
    json BLOB NOT NULL,
    UNIQUE (epoch, seq)
);
CREATE INDEX verdict_by_image ON verdict (image_name);
CREATE INDEX verdict_by_part ON verdict (part_id) WHERE part_id IS NOT NULL;
CREATE TRIGGER verdict_is_never_changed BEFORE UPDATE ON verdict
    BEGIN SELECT RAISE(ABORT, 'a verdict is never changed'); END;
CREATE TRIGGER verdict_is_never_deleted BEFORE DELETE ON verdict
    BEGIN SELECT RAISE(ABORT, 'a verdict is never deleted'); END;
"""
_REMOVALS = """
CREATE TABLE removal (
    job_id TEXT PRIMARY KEY NOT NULL REFERENCES verdict (job_id),
    decided_utc TEXT NOT NULL,
    is_done INTEGER NOT NULL
);
CREATE INDEX removal_open ON removal (job_id) WHERE NOT is_done;
CREATE TABLE running (
    tick INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL
);
"""
STEPS = (_VERDICTS, _REMOVALS)
"""Step n makes version n of version n - 1; version 0 is an empty file. PRAGMA user_version holds the version."""

logger = logging.getLogger(__name__)


def bring_up_to_date(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables of this release, or the ones that are missing. Raises JournalError, sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > VERSION:
        raise JournalError(
            f"The journal {name} was written by a later release: it has schema {version}, this one reads {VERSION}.",
            f"Use that release again. Or: {KEEP_ASIDE}",
        )
    if version < 0 or (version == 0 and tables):
        raise JournalError(
            f"The journal {name} has schema {version} and {tables} tables of another program.",
            f"Give the station a journal of its own (config.yaml, journal.path). Or: {KEEP_ASIDE}",
        )
    if version == VERSION:
        return
    steps = "".join(STEPS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
    if version:
        logger.info("The journal %s was brought from schema %d to %d; no verdict was touched.", name, version, VERSION)
