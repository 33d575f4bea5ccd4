"""The journal: every verdict the station ever gave, in SQLite. This is its only writer.

In: verdicts without number; out: the same verdicts with epoch and sequence, on disk. A row *is* the done state of a
job. One process (held by a lock file), one connection, one thread. WAL with synchronous=FULL: a verdict that was
returned survives a power cut. On failure JournalError; the job stays unacknowledged, so its picture stays pending.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from station import failpoints, verdict_json
from station.errors import JournalError
from station.records import Reason, Verdict

MAX_VERDICTS_READ = 1000
"""Most verdicts that `verdicts_since` returns at once: reading must not hold up the worker's loop."""
SCHEMA_VERSION = 1
"""PRAGMA user_version; +1 whenever `_SCHEMA` changes."""

_SCHEMA = f"""
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
PRAGMA user_version = {SCHEMA_VERSION};
"""

_KEEP_ASIDE = "Move it aside with its -wal and -shm files and start again: a new journal is made; keep the old one."


class Journal:
    """The journal file at `path`. Nothing is touched before `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self._connection: sqlite3.Connection | None = None
        self.epoch = 0
        """Number of this start of the worker, 1, 2, 3...; 0 before `open`."""
        self.last_seq = 0
        """Sequence of the last verdict of this epoch; 0 when there is none yet."""

    def open(self) -> None:
        """Lock, check and if need be create the journal, and begin a new epoch. Raises JournalError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            with self._errors_mapped("opened"):
                self._connection = sqlite3.connect(self.path, isolation_level=None)
                self._configure()
                self._check_or_create()
                self._begin_epoch()
        except OSError as error:
            self.close()
            raise JournalError(
                f"The journal {self.path} cannot be opened: {error}.", "Check folder, rights and disk."
            ) from error
        except JournalError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and give up the lock. May be called in any state."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def append(self, verdict: Verdict) -> Verdict:
        """Store `verdict` with this epoch and the next sequence, and return it so. On disk when this returns.

        Raises JournalError, and stores nothing, when the job has a verdict or the disk refuses.
        """
        with self._errors_mapped(f"given the verdict of job {verdict.job_id}"), self._transaction() as connection:
            failpoints.hit("verdict-begun")
            numbered = msgspec.structs.replace(verdict, epoch=self.epoch, seq=self._next_seq(connection))
            connection.execute("INSERT INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(numbered))
            failpoints.hit("verdict-inserted")
        failpoints.hit("verdict-durable")
        self.last_seq = numbered.seq
        return numbered

    def judged(self, job_id: str) -> tuple[Reason, str] | None:
        """Return reason and detail of this job's verdict, None if it has none yet. Raises JournalError."""
        with self._errors_mapped("read"):
            row = self._open_connection.execute("SELECT json FROM verdict WHERE job_id = ?", (job_id,)).fetchone()
        return verdict_json.reason_and_detail(row[0]) if row else None

    def verdicts_since(self, epoch: int, seq: int) -> list[bytes]:
        """Return the JSON of the verdicts after (epoch, seq), oldest first. Raises JournalError.

        At most `MAX_VERDICTS_READ`: ask again from the last one until none is left.
        """
        with self._errors_mapped("read"):
            rows = self._open_connection.execute(
                "SELECT json FROM verdict WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
                (epoch, seq, MAX_VERDICTS_READ),
            )
            return [row[0] for row in rows]

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError(f"The journal {self.path} is not open.")
        return self._connection

    def _take_lock(self) -> None:
        """Hold `<journal>.lock` until `close`. Not the journal itself: closing it here would drop SQLite's locks."""
        self._lock = self.path.with_name(self.path.name + ".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"The journal {self.path} is in use by another worker.",
                "Stop the other worker, or give this station a journal of its own (config.yaml, journal.path).",
            ) from error

    def _configure(self) -> None:
        self._open_connection.execute("PRAGMA journal_mode = WAL")
        self._open_connection.execute("PRAGMA synchronous = FULL")
        self._open_connection.execute("PRAGMA foreign_keys = ON")

    def _check_or_create(self) -> None:
        connection = self._open_connection
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise JournalError(f"The journal {self.path} is damaged: {finding}.", _KEEP_ASIDE)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version != SCHEMA_VERSION:
            raise JournalError(
                f"The journal {self.path} has schema {version}, this release reads {SCHEMA_VERSION}.",
                f"It belongs to another release or another program: use the right one. {_KEEP_ASIDE}",
            )

    def _begin_epoch(self) -> None:
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(epoch), 0) FROM epoch").fetchone()
            started_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
            connection.execute("INSERT INTO epoch VALUES (?, ?)", (last + 1, started_utc))
        self.epoch, self.last_seq = last + 1, 0
        failpoints.hit("epoch-begun")

    def _next_seq(self, connection: sqlite3.Connection) -> int:
        (last,) = connection.execute(
            "SELECT coalesce(max(seq), 0) FROM verdict WHERE epoch = ?", (self.epoch,)
        ).fetchone()
        return int(last) + 1

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open_connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # After some errors, a full disk for one, SQLite has already rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors_mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            hint = _KEEP_ASIDE if type(error) is sqlite3.DatabaseError else "Check disk space, rights and the disk."
            raise JournalError(f"The journal {self.path} cannot be {what}: {error}.", hint) from error


def _row(verdict: Verdict) -> tuple[str | int | bytes | None, ...]:
    """Return the columns of table `verdict` in order."""
    return (
        verdict.job_id,
        verdict.epoch,
        verdict.seq,
        verdict.evaluation.value,
        verdict.result_state.value,
        verdict.recipe,
        verdict.image.name,
        verdict.part_id,
        verdict.created_utc,
        verdict_json.encode(verdict),
    )
