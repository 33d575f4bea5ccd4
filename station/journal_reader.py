"""Questions to the journal from other processes: `station status`, `station trace` and the like.

Opens the file read-only for each question and closes it at once, so that it never holds up the worker, the only
writer. Any process, any thread. On failure JournalError.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from station import verdict_json
from station.errors import JournalError
from station.records import Evaluation, Record, Verdict

GUARDS = frozenset({"verdict_is_never_changed", "verdict_is_never_deleted"})
"""Triggers of the journal that refuse to change a verdict."""
VERSION = 2
"""Newest form of the journal that this release knows: `worker.journal_schema`."""
COLUMNS = ("job_id", "epoch", "seq", "evaluation", "result_state", "recipe", "part_id", "created_utc")
"""What stands in a row and in its JSON alike."""


SEARCHED = 10_000
"""Newest verdicts that are looked through by what is not indexed."""

_FITS = {
    "part_id": "part_id = :part_id",
    "job_id": "job_id = :job_id",
    "result_state": "result_state = :result_state",
    "recipe": "recipe = :recipe",
    "recipe_sha256": "json_extract(json, '$.recipe_sha256') = :recipe_sha256",
    "config_sha256": "json_extract(json, '$.config_sha256') = :config_sha256",
    "measurement": "json_extract(json, '$.trigger.measurement') = :measurement",
    "epoch": "epoch = :epoch",
    "acquisition_id": "json_extract(json, '$.trigger.acquisition_id') = :acquisition_id",
}


class Wanted(Record, frozen=True):
    """What verdicts are looked for; None: any."""

    part_id: str | None = None
    job_id: str | None = None
    result_state: str | None = None
    recipe: str | None = None
    recipe_sha256: str | None = None
    config_sha256: str | None = None
    measurement: str | None = None
    epoch: int | None = None
    acquisition_id: int | None = None


class JournalReader:
    """Read-only view of the journal at `path`. Every method raises JournalError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self, count: int) -> list[Verdict]:
        """Return the newest `count` verdicts, newest first."""
        return self._verdicts("ORDER BY epoch DESC, seq DESC LIMIT ?", (count,))

    def of_job(self, job_id: str) -> Verdict | None:
        """Return the verdict of this job, None if there is none."""
        return next(iter(self._verdicts("WHERE job_id = ?", (job_id,))), None)

    def find(self, text: str) -> list[Verdict]:
        """Return the verdicts whose job id, part id or image name is `text`, oldest first."""
        where = "WHERE job_id = :text OR part_id = :text OR image_name = :text ORDER BY epoch, seq"
        return self._verdicts(where, {"text": text})

    def select(self, wanted: "Wanted", start: int, count: int) -> list[Verdict]:
        """Return the verdicts that fit, newest first, from the `start`-th, at most `count`.

        Without a part or job id only the newest `SEARCHED` are looked at, so that no question takes long.
        """
        fields = {name: value for name in wanted.__struct_fields__ if (value := getattr(wanted, name)) is not None}
        fits = " AND ".join(_FITS[name] for name in fields) or "1"
        newest = "ORDER BY epoch DESC, seq DESC LIMIT"
        is_named = fields.keys() & {"part_id", "job_id"}
        table = "verdict" if is_named else f"(SELECT * FROM verdict {newest} {SEARCHED})"  # noqa: S608 - see below
        question = f"SELECT json FROM {table} WHERE {fits} {newest} :count OFFSET :start"  # noqa: S608 - texts of this file
        rows = self._rows(question, {**fields, "count": count, "start": start})
        return [verdict_json.decode(row[0]) for row in rows]

    def counts(self) -> dict[Evaluation, int]:
        """Return how many verdicts there are of each evaluation, every evaluation named."""
        rows = self._rows("SELECT evaluation, count(*) FROM verdict GROUP BY evaluation", ())
        found = {Evaluation(word): int(number) for word, number in rows}
        return {evaluation: found.get(evaluation, 0) for evaluation in Evaluation}

    def latest(self) -> tuple[int, int]:
        """Return (epoch, seq) of the newest verdict of the running epoch; seq 0: none yet; (0, 0): never started."""
        rows = self._rows(
            "SELECT epoch, (SELECT coalesce(max(seq), 0) FROM verdict WHERE verdict.epoch = epoch.epoch)"
            " FROM epoch ORDER BY epoch DESC LIMIT 1",
            (),
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def all(self) -> Iterator[Verdict]:
        """Yield every verdict, oldest first; in portions, so that no long read holds up the worker's checkpoints."""
        place, portion = (0, 0), 1000
        while True:
            found = self._verdicts("WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?", (*place, portion))
            yield from found
            if len(found) < portion:
                return
            place = (found[-1].epoch, found[-1].seq)

    def epochs(self) -> tuple[int, ...]:
        """Return the number of every start of the worker, ascending."""
        return tuple(int(row[0]) for row in self._rows("SELECT epoch FROM epoch ORDER BY epoch", ()))

    def form_problem(self) -> str:
        """Return why the worker of this release would refuse the journal by its form; empty if it would not."""
        version = int(self._rows("PRAGMA user_version", ())[0][0])
        if 1 <= version <= VERSION:
            return ""
        return f"{self._path} has schema {version}, this release writes {VERSION}"

    def removed(self) -> frozenset[str]:
        """Return the jobs whose pictures retention has deleted, or is about to."""
        return frozenset(row[0] for row in self._removals("SELECT job_id FROM removal", ()))

    def removed_utc(self, job_id: str) -> str | None:
        """Return when retention decided to delete the pictures of this job, ISO 8601; None: it did not."""
        rows = self._removals("SELECT decided_utc FROM removal WHERE job_id = ?", (job_id,))
        return str(rows[0][0]) if rows else None

    def _removals(self, question: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'removal'", ()):
            return []  # of an earlier release; the worker brings it up to date
        return self._rows(question, values)

    def problems(self) -> tuple[str, ...]:
        """Return what the database says against itself: damage, a guard that is gone, a row that was changed."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check", ()) if row[0] != "ok"]
        guards = {row[0] for row in self._rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'", ())}
        found += [f"the guard {guard} is gone" for guard in sorted(GUARDS - guards)]
        doubled = self._rows("SELECT job_id, count(*) FROM verdict GROUP BY job_id HAVING count(*) > 1", ())
        found += [f"{job_id} has {count} verdicts" for job_id, count in doubled]
        changed = "".join(f" OR json_extract(json, '$.{name}') IS NOT {name}" for name in COLUMNS[1:])
        return (
            *found,
            *(
                f"{row[0]}: the row and its verdict do not agree"
                for row in self._rows(
                    f"SELECT job_id FROM verdict WHERE json_extract(json, '$.job_id') IS NOT job_id{changed}",  # noqa: S608
                    (),
                )
            ),
        )

    def _verdicts(self, where: str, values: Sequence[Any] | dict[str, Any]) -> list[Verdict]:
        question = f"SELECT json FROM verdict {where}"  # noqa: S608 - `where` is always one of the texts above
        return [verdict_json.decode(row[0]) for row in self._rows(question, values)]

    def _rows(self, question: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            uri = f"file:{quote(str(self._path.resolve()))}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                return connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal {self._path} cannot be read: {error}.",
                "It is made by the worker's first start; check the path (config.yaml, journal.path) and rights.",
            ) from error
