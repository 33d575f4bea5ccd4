"""Retention on a real journal and real folders: what it deletes, what it never does, and what a crash leaves."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from station.errors import JournalError
from station.journal_reader import JournalReader
from station.outputs.archive import day_of
from station.records import Evaluation
from station.worker import retention
from station.worker.journal import Journal
from station.worker.retention import Folders, RetentionOutput, Rules
from tests.waiting import wait_until
from tests.worker_parts import make_verdict

NEVER = Rules(keep_ok_days=0, keep_other_days=0, free_percent=0)


class Archive:
    """A journal and pictures, oldest first, and the retention that looks after them."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder / "archive", folder / "spool", self.of_job)
        self.folders.archive.mkdir()
        self.folders.spool.mkdir()
        self.journal = Journal(folder / "journal.sqlite")
        self.journal.open()
        self._made = 0

    def of_job(self, job_id: str) -> Path:
        return self.folders.archive / day_of(job_id) / job_id

    def judge(self, evaluation: Evaluation = Evaluation.OK, year: int = 2016) -> str:
        """Give a verdict and archive its picture; `year`: what the wall clock said."""
        self._made += 1
        job_id = f"{year}0229T120000000-{self._made:08x}"
        verdict = msgspec.structs.replace(make_verdict(job_id, evaluation), job_id=job_id)
        self.journal.append(verdict)
        (self.of_job(job_id) / "original").mkdir(parents=True)
        (self.of_job(job_id) / "original" / "a.png").write_bytes(b"picture")
        (self.of_job(job_id) / "verdict.json").write_bytes(b"{}")
        return job_id

    def kept(self) -> list[str]:
        return sorted(folder.name for folder in self.folders.archive.glob("*/*"))

    def run(self, rules: Rules) -> RetentionOutput:
        """Let retention work until there is nothing to do, as the worker's loop does."""
        output = RetentionOutput(self.journal, rules, self.folders)
        output.start()
        try:
            self.settle(output)
        finally:
            output.close()
        return output

    def settle(self, output: RetentionOutput) -> None:
        for _ in range(3):  # the journal hears of the last batch in the next turn
            output._look_s = 0
            output.heartbeat(ready=True, last_seq=0)
            wait_until(lambda: output._remover._done.qsize() or not output._remover.is_busy)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(retention, "NEWEST_KEPT", 2)
    monkeypatch.setattr(retention, "TICKS_A_DAY", 2)
    archive = Archive(tmp_path)
    yield archive
    archive.journal.close()


def set_free(monkeypatch: pytest.MonkeyPatch, percent: int) -> None:
    found: Any = {"f_flag": 0, "f_bavail": percent, "f_blocks": 100, "f_favail": 100, "f_files": 100}
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**found))


def test_short_of_room_the_oldest_ok_go_and_nothing_else(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [archive.judge(Evaluation.NOT_OK if n % 3 == 0 else Evaluation.OK) for n in range(9)]
    set_free(monkeypatch, 15)
    archive.run(Rules(0, 0, 15))
    assert archive.kept() == jobs
    set_free(monkeypatch, 14)
    output = archive.run(Rules(0, 0, 15))
    assert archive.kept() == [jobs[0], jobs[3], jobs[6], *jobs[7:]]
    assert JournalReader(archive.journal.path).removed() == {jobs[n] for n in (1, 2, 4, 5)}
    assert not archive.journal.open_removals(10)
    assert output.complaints.counts["room"]


def test_a_page_after_the_other_is_deleted(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE", 3)
    jobs = [archive.judge() for _ in range(20)]
    set_free(monkeypatch, 1)
    output = RetentionOutput(archive.journal, Rules(0, 0, 15), archive.folders)
    output.start()
    output._look_s = 0

    def beaten() -> bool:
        output.heartbeat(ready=True, last_seq=0)
        return archive.kept() == jobs[-2:]

    wait_until(beaten)
    output.close()


def test_pictures_get_old_by_running_time_each_kind_by_its_own(archive: Archive) -> None:
    rules = Rules(keep_ok_days=1, keep_other_days=2, free_percent=0)
    old = [archive.judge(), archive.judge(Evaluation.NOT_DECIDABLE)]
    archive.journal.tick()
    young = [archive.judge(year=2015), archive.judge(year=2017), archive.judge()]
    archive.journal.tick()
    archive.run(rules)
    assert archive.kept() == sorted(old + young)  # a day is two ticks after the verdict
    archive.journal.tick()
    archive.run(rules)
    assert archive.kept() == sorted(old[1:] + young)
    archive.journal.tick()
    archive.run(rules)
    assert archive.kept() == sorted(old[1:] + young[1:])  # the newest two stay
    archive.journal.tick()
    archive.run(rules)
    assert archive.kept() == sorted(young[1:])


@pytest.mark.parametrize("year", [1970, 2016, 2036])
def test_no_wall_clock_makes_a_picture_old(archive: Archive, year: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [archive.judge(year=year) for _ in range(5)]
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("time.time_ns", lambda: int(4e18))
    archive.run(Rules(1, 1, 0))
    assert archive.kept() == jobs


def test_the_worker_counts_its_running_time(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "TICK_S", 0.01)
    output = RetentionOutput(archive.journal, NEVER, archive.folders)
    output.start()

    def beaten() -> bool:
        output.heartbeat(ready=True, last_seq=0)
        return archive.journal.before_ticks(2) is not None

    wait_until(beaten)
    output.close()


def test_what_capture_has_not_moved_yet_is_left_alone(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [archive.judge() for _ in range(6)]
    (archive.folders.spool / jobs[1]).mkdir()
    set_free(monkeypatch, 1)
    archive.run(Rules(0, 0, 15))
    assert archive.kept() == jobs[1:]
    (archive.folders.spool / jobs[1]).rmdir()
    archive.run(Rules(0, 0, 15))
    assert archive.kept() == jobs[-2:]


def test_what_a_crash_interrupted_is_ended(archive: Archive) -> None:
    jobs = [archive.judge() for _ in range(4)]
    archive.journal.begin_removal(jobs[:2])
    shutil.rmtree(archive.of_job(jobs[0]) / "original")  # so far it came
    archive.run(NEVER)
    assert archive.kept() == jobs[2:]
    assert not archive.journal.open_removals(10)


def test_nothing_is_deleted_that_the_journal_does_not_know_of(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [archive.judge() for _ in range(6)]
    set_free(monkeypatch, 1)

    def refuse(_job_ids: object) -> None:
        raise JournalError("disk is full")

    monkeypatch.setattr(archive.journal, "begin_removal", refuse)
    output = archive.run(Rules(0, 0, 15))
    assert archive.kept() == jobs
    assert output.complaints.counts["journal"]


def test_a_folder_that_cannot_be_deleted_holds_up_no_other(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [archive.judge() for _ in range(6)]
    shutil.rmtree(archive.of_job(jobs[1]))
    archive.of_job(jobs[1]).write_bytes(b"a file, not a folder")
    set_free(monkeypatch, 1)
    archive.run(Rules(0, 0, 15))
    assert archive.kept() == [jobs[1], *jobs[-2:]]
    assert archive.journal.open_removals(10) == [jobs[1]]
