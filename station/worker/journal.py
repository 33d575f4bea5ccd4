"""The journal: every verdict the station ever gave, in SQLite. This is its only writer.

In: verdicts without number; out: the same verdicts with epoch and sequence, on disk. A row *is* the done state of a
job. One process (held by a lock file), one connection, one thread. WAL with synchronous=FULL: a verdict that was
returned survives a power cut. On failure JournalError; the job stays unacknowledged, so its picture stays pending.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from station import failpoints, verdict_json
from station.errors import JournalError
from station.records import Evaluation, Reason, Verdict
from station.worker.journal_mark import JournalMark
from station.worker.journal_schema import KEEP_ASIDE, bring_up_to_date

MAX_VERDICTS_READ = 1000
"""Most verdicts that `verdicts_since` returns at once: reading must not hold up the worker's loop."""
MAX_TICKS = 600_000
"""Ticks that are kept; more than the longest time that pictures can be kept for."""


class Place(NamedTuple):
    """Where a verdict stands in the journal; compares as time does."""

    epoch: int
    seq: int


class Kept(NamedTuple):
    """A judged job, as retention looks at it."""

    place: Place
    job_id: str
    is_ok: bool
    is_removed: bool
    """Its pictures were deleted by retention, or are about to be."""


class Journal:
    """The journal file at `path`. Nothing is touched before `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = JournalMark(path)
        self._connection: sqlite3.Connection | None = None
        self.epoch = 0
        """Number of this start of the worker, 1, 2, 3...; 0 before `open`."""
        self.last_seq = 0
        """Sequence of the last verdict of this epoch; 0 when there is none yet."""

    def open(self) -> None:
        """Lock, check and if need be create the journal, and begin a new epoch. Raises JournalError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._mark.take()
            is_new = not self.path.exists()
            with self._errors_mapped("opened"):
                self._connection = sqlite3.connect(self.path, isolation_level=None)
                self._configure()
                self._check_or_create()
                if not is_new:
                    self._mark.check(*self._last_place())
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
        self._mark.free()

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
        self._mark.set(self.epoch, self.last_seq)
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

    def tick(self) -> None:
        """Note that the worker has run for one more tick; the wall clock has no part in it. Raises JournalError."""
        with self._errors_mapped("given a tick"), self._transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(tick), 0) FROM running").fetchone()
            connection.execute("INSERT INTO running VALUES (?, ?, ?)", (last + 1, self.epoch, self.last_seq))
            connection.execute("DELETE FROM running WHERE tick <= ?", (last + 1 - MAX_TICKS,))

    def before_ticks(self, ticks: int) -> Place | None:
        """Return the last place whose verdict is at least so many ticks old; None: none is. Raises JournalError."""
        question = "SELECT epoch, seq FROM running WHERE tick = (SELECT max(tick) FROM running) - ?"
        return self._place(question, ticks)

    def before_newest(self, verdicts: int) -> Place | None:
        """Return the last place that has at least so many verdicts after it; None: none has. Raises JournalError."""
        return self._place("SELECT epoch, seq FROM verdict ORDER BY epoch DESC, seq DESC LIMIT 1 OFFSET ?", verdicts)

    def kept_after(self, place: Place, limit: int) -> list[Kept]:
        """Return at most `limit` jobs after a place, oldest first. Raises JournalError."""
        with self._errors_mapped("read"):
            rows = self._open_connection.execute(
                "SELECT epoch, seq, job_id, evaluation = ?, removal.job_id IS NOT NULL"
                " FROM verdict LEFT JOIN removal USING (job_id)"
                " WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
                (Evaluation.OK.value, *place, limit),
            )
            return [Kept(Place(*row[:2]), row[2], bool(row[3]), bool(row[4])) for row in rows]

    def begin_removal(self, job_ids: Sequence[str]) -> None:
        """Note that the pictures of these judged jobs are about to be deleted. Raises JournalError."""
        now_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._errors_mapped("given a removal"), self._transaction() as connection:
            connection.executemany("INSERT INTO removal VALUES (?, ?, 0)", [(job_id, now_utc) for job_id in job_ids])

    def end_removal(self, job_ids: Sequence[str]) -> None:
        """Note that they are deleted. Raises JournalError."""
        with self._errors_mapped("given a removal"), self._transaction() as connection:
            connection.executemany("UPDATE removal SET is_done = 1 WHERE job_id = ?", [(job,) for job in job_ids])

    def open_removals(self, limit: int) -> list[str]:
        """Return at most `limit` jobs whose removal was begun and not ended. Raises JournalError."""
        with self._errors_mapped("read"):
            rows = self._open_connection.execute("SELECT job_id FROM removal WHERE NOT is_done LIMIT ?", (limit,))
            return [row[0] for row in rows]

    def _place(self, question: str, number: int) -> Place | None:
        with self._errors_mapped("read"):
            row = self._open_connection.execute(question, (number,)).fetchone()
        return Place(*row) if row else None

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError(f"The journal {self.path} is not open.")
        return self._connection

    def _configure(self) -> None:
        self._open_connection.execute("PRAGMA journal_mode = WAL")
        self._open_connection.execute("PRAGMA synchronous = FULL")
        self._open_connection.execute("PRAGMA foreign_keys = ON")

    def _check_or_create(self) -> None:
        connection = self._open_connection
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise JournalError(f"The journal {self.path} is damaged: {finding}.", KEEP_ASIDE)
        bring_up_to_date(connection, str(self.path))

    def _last_place(self) -> Place:
        """Return the last epoch begun and its last verdict."""
        last = "(SELECT coalesce(max(epoch), 0) FROM epoch)"
        question = f"SELECT {last}, coalesce(max(seq), 0) FROM verdict WHERE epoch = {last}"  # noqa: S608
        return Place(*self._open_connection.execute(question).fetchone())

    def _begin_epoch(self) -> None:
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(epoch), 0) FROM epoch").fetchone()
            started_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
            connection.execute("INSERT INTO epoch VALUES (?, ?)", (last + 1, started_utc))
        self.epoch, self.last_seq = last + 1, 0
        self._mark.set(self.epoch, 0)
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
            hint = KEEP_ASIDE if type(error) is sqlite3.DatabaseError else "Check disk space, rights and the disk."
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
