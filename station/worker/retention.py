"""Retention: deletes pictures of the archive that need not be kept, oldest first; the journal says so before.

Two rules: older than the days that its kind is kept, or OK and the disk short of room. Age is time that the worker ran,
counted by the monotonic clock in ticks of the journal: no step of the wall clock makes a picture old. What is open is
never touched: only what has a verdict, has left the spool and is not among the newest. Implements `Output`, because it
lives on the heartbeat of the worker's loop; a thread of its own deletes. What a crash interrupts is ended at the next
start. When the journal refuses, nothing is deleted.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from station.complaints import Complaints
from station.disk import free_share
from station.errors import JournalError
from station.records import Job, Verdict
from station.worker.folder_remover import FolderRemover
from station.worker.journal import Journal, Place

TICK_S = 600.0
"""Running time is counted in whole ticks; each start begins a new one, so that nothing is counted early."""
TICKS_A_DAY = 144
LOOK_EVERY_S = 10.0
PAGE = 100
"""Jobs looked at, and at most deleted, in one turn."""
NEWEST_KEPT = 200
"""More jobs than archive and capture have under way."""
START = Place(0, 0)

_log = logging.getLogger(__name__)


class Rules(NamedTuple):
    """What is deleted, as in config.yaml, outputs.archive; 0 switches a rule off."""

    keep_ok_days: int
    keep_other_days: int
    free_percent: int


class Folders(NamedTuple):
    """Where pictures are."""

    archive: Path
    spool: Path
    of_job: Callable[[str], Path]
    """A job's folder in the archive."""


class RetentionOutput:
    """Keeps the archive within its rules. All calls from the worker's one thread."""

    name = "retention"

    def __init__(self, journal: Journal, rules: Rules, folders: Folders) -> None:
        self._journal = journal
        self._rules = rules
        self._folders = folders
        self._remover = FolderRemover()
        self._seen = {True: START, False: START}  # of OK and of other parts: all before this place was dealt with
        self._tick_s = self._look_s = 0.0
        self.complaints = Complaints(_log)

    def start(self) -> None:
        """End what a crash has interrupted, and begin a tick. Raises JournalError."""
        now_s = time.monotonic()
        self._tick_s, self._look_s = now_s + TICK_S, now_s + LOOK_EVERY_S
        self._remover.start()
        self._remove(self._journal.open_removals(PAGE))

    def send(self, verdict: Verdict, job: Job) -> None:
        """Nothing to do."""

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002 - the rules look at disk and journal only
        """Count the time, and delete a few pictures if there are any to delete. Never waits for deleting."""
        try:
            self._turn(time.monotonic())
        except JournalError as error:
            self.complaints.say("journal", f"No picture is deleted: {error}")

    def go_safe(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """End the thread; what it has not deleted is deleted after the next start."""
        self._remover.close()

    def _turn(self, now_s: float) -> None:
        if now_s >= self._tick_s:
            self._tick_s = now_s + TICK_S
            self._journal.tick()
        if self._remover.is_busy:
            done = self._remover.take_done()
            if done is None:
                return
            self._journal.end_removal(done)
        if now_s >= self._look_s and not self._look():
            self._look_s = now_s + LOOK_EVERY_S

    def _look(self) -> bool:
        """Deal with the next few jobs; return False when there is nothing to do now."""
        is_short = free_share(self._folders.archive) * 100 < self._rules.free_percent
        newest = self._journal.before_newest(NEWEST_KEPT)
        if newest is None:
            return False
        ok_limit = newest if is_short else self._aged(self._rules.keep_ok_days)
        other_limit = self._aged(self._rules.keep_other_days)
        for is_ok, limit in ((True, ok_limit), (False, other_limit)):
            if limit and self._advance(is_ok, min(limit, newest)):
                return True
        if is_short:
            what = (
                f"Less than {self._rules.free_percent} % of the disk is free and no OK part's picture is left to delete"
            )
            self.complaints.say("room", f"{what}: move old days out of {self._folders.archive}.")
        return False

    def _aged(self, days: int) -> Place | None:
        return self._journal.before_ticks(days * TICKS_A_DAY) if days else None

    def _advance(self, is_ok: bool, limit: Place) -> bool:
        """Deal with the next jobs of one kind up to `limit`; return False when there is none."""
        before = self._seen[is_ok]
        chosen: list[str] = []
        for job in self._journal.kept_after(before, PAGE):
            is_due = job.is_ok is is_ok and not job.is_removed and self._folders.of_job(job.job_id).exists()
            if job.place > limit or (is_due and (self._folders.spool / job.job_id).exists()):
                break  # too young, or judged and not moved by capture yet
            if is_due:
                chosen.append(job.job_id)
            self._seen[is_ok] = job.place
        if chosen:
            self._journal.begin_removal(chosen)
            self._remove(chosen)
        return self._seen[is_ok] > before

    def _remove(self, job_ids: list[str]) -> None:
        if job_ids:
            _log.info("Pictures of %d jobs are deleted from the archive, from %s on.", len(job_ids), job_ids[0])
            self._remover.submit({job_id: self._folders.of_job(job_id) for job_id in job_ids})
