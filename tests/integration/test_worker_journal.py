"""The journal on a real disk: numbered without gap, never changed, one writer, clear words when it cannot be used."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from station import verdict_json
from station.errors import JournalError
from station.journal_reader import VERSION, JournalReader
from station.records import Evaluation, Reason
from station.worker.journal import Journal, Place, _row
from station.worker.journal_schema import STEPS
from tests.worker_parts import make_verdict


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is made; the folder does not exist yet."""
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open, empty journal."""
    journal = Journal(path)
    journal.open()
    yield journal
    journal.close()


def _reopened(journal: Journal) -> Journal:
    journal.close()
    journal.open()
    return journal


def test_verdicts_are_numbered_without_gap_in_each_epoch(journal: Journal) -> None:
    first = [journal.append(make_verdict(f"a{n}")) for n in range(3)]
    second = [_reopened(journal).append(make_verdict("b")), journal.append(make_verdict("c"))]
    assert [(verdict.epoch, verdict.seq) for verdict in first + second] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert (journal.epoch, journal.last_seq) == (2, 2)


def test_every_start_is_an_epoch_also_without_verdict(journal: Journal) -> None:
    assert _reopened(_reopened(journal)).epoch == 3


def test_a_job_gets_one_verdict_and_a_refused_one_takes_no_number(journal: Journal) -> None:
    journal.append(make_verdict("a", Evaluation.NOT_OK))
    with pytest.raises(JournalError, match="job a"):
        journal.append(make_verdict("a", Evaluation.OK))
    assert journal.judged("a") == (Reason.DEFECT_FOUND, "")
    assert journal.append(make_verdict("b")).seq == 2


def test_a_job_without_verdict_is_not_judged(journal: Journal) -> None:
    assert journal.judged("a") is None


def test_verdicts_since_gives_what_came_after_over_epochs(journal: Journal) -> None:
    for job_id in ("a", "b"):
        journal.append(make_verdict(job_id))
    _reopened(journal)
    journal.append(make_verdict("c"))

    def jobs_since(epoch: int, seq: int) -> list[str]:
        return [verdict_json.decode(body).job_id for body in journal.verdicts_since(epoch, seq)]

    assert jobs_since(0, 0) == ["a", "b", "c"]
    assert jobs_since(1, 1) == ["b", "c"]
    assert jobs_since(1, 2) == ["c"]
    assert jobs_since(2, 1) == []


def test_verdicts_since_are_read_in_portions(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("station.worker.journal.MAX_VERDICTS_READ", 2)
    for job_id in ("a", "b", "c"):
        journal.append(make_verdict(job_id))
    assert len(journal.verdicts_since(0, 0)) == 2
    assert len(journal.verdicts_since(1, 2)) == 1


@pytest.mark.parametrize("change", ["UPDATE verdict SET evaluation = 'OK'", "DELETE FROM verdict"])
def test_a_verdict_can_not_be_changed_or_deleted(change: str, journal: Journal, path: Path) -> None:
    journal.append(make_verdict("a", Evaluation.NOT_OK))
    journal.close()
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute(change)


def test_a_journal_that_lost_verdicts_is_refused_until_a_person_says_so(journal: Journal, path: Path) -> None:
    copy = path.with_name("copy")
    journal.append(make_verdict("a"))
    journal.close()
    shutil.copy(path, copy)
    journal.open()
    journal.append(make_verdict("b"))
    journal.close()
    copy.replace(path)
    with pytest.raises(JournalError, match=r"ends at 1:1, but 2:1 was given"):
        journal.open()
    path.with_name(path.name + ".lock").unlink()
    journal.open()
    assert journal.epoch == 2


def test_a_journal_that_was_moved_aside_is_followed_by_a_new_one(journal: Journal, path: Path) -> None:
    journal.append(make_verdict("a"))
    journal.close()
    path.rename(path.with_name("aside"))
    journal.open()
    assert journal.epoch == 1


def test_a_second_worker_on_the_same_journal_is_refused(journal: Journal, path: Path) -> None:
    second = Journal(path)
    with pytest.raises(JournalError, match="another worker"):
        second.open()
    assert journal.append(make_verdict("a")).epoch == 1


def test_a_verdict_is_on_disk_when_append_returns(path: Path) -> None:
    code = f"""
import os, pathlib
from station.worker.journal import Journal
from tests.worker_parts import make_verdict
journal = Journal(pathlib.Path({str(path)!r}))
journal.open()
journal.append(make_verdict("a"))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    journal = Journal(path)
    journal.open()
    assert journal.judged("a")
    assert journal.epoch == 2
    journal.close()


def test_the_disk_is_really_asked_for_each_commit(journal: Journal) -> None:
    assert journal._open_connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._open_connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_no_journal_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, by far not a database" * 100)
    with pytest.raises(JournalError, match="Move it aside"):
        Journal(path).open()


def test_a_damaged_journal_is_refused(journal: Journal, path: Path) -> None:
    for number in range(50):
        journal.append(make_verdict(f"job-{number}", pins=27))
    journal.close()
    damaged = bytearray(path.read_bytes())
    damaged[8192:-4096] = b"\xa5" * (len(damaged) - 12288)
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match="Move it aside"):
        Journal(path).open()


@pytest.mark.parametrize(
    ("version", "said"), [(VERSION + 1, "written by a later release"), (0, "another program"), (-1, "another program")]
)
def test_a_journal_of_a_later_release_or_another_program_is_refused_and_left_alone(
    version: int, said: str, journal: Journal, path: Path
) -> None:
    journal.append(make_verdict("a"))
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    assert "this release writes" in JournalReader(path).form_problem()
    with pytest.raises(JournalError, match=said):
        journal.open()
    assert path.read_bytes() == before


@pytest.fixture
def old_path(path: Path) -> Path:
    """A journal as release 0.1.0's first form left it, with two epochs and four verdicts."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {STEPS[0]} PRAGMA user_version = 1; COMMIT;")
        for epoch in (1, 2):
            connection.execute("INSERT INTO epoch VALUES (?, '2026-01-01T00:00:00.000+00:00')", (epoch,))
        for epoch, seq in OLD:
            verdict = msgspec.structs.replace(make_verdict(f"{epoch}-{seq}"), epoch=epoch, seq=seq)
            connection.execute("INSERT INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(verdict))
    return path


OLD = [(1, 1), (1, 2), (1, 3), (2, 1)]


def test_a_journal_of_an_earlier_release_is_read_and_brought_up_to_date(old_path: Path) -> None:
    assert JournalReader(old_path).removed() == frozenset()
    before = list(JournalReader(old_path).all())
    journal = Journal(old_path)
    journal.open()
    try:
        assert journal.append(make_verdict("new")).epoch == 3
        journal.begin_removal(["1-1"])
    finally:
        journal.close()
    reader = JournalReader(old_path)
    assert list(reader.all())[:-1] == before
    assert reader.problems() == ()
    assert reader.removed() == {"1-1"}


KILLED_AT = """
import os, pathlib, sqlite3, sys
from station.worker.journal import Journal

left, connect = int(sys.argv[2]), sqlite3.connect

def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    def count(statement):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
    connection.set_trace_callback(count)
    return connection

sqlite3.connect = traced
journal = Journal(pathlib.Path(sys.argv[1]))
journal.open()
journal.close()
"""


@pytest.mark.slow
def test_kill_9_at_each_statement_of_bringing_it_up_to_date_loses_nothing(old_path: Path, tmp_path: Path) -> None:
    before = list(JournalReader(old_path).all())
    kills = 0
    for statement in range(1, 100):
        folder = tmp_path / f"copy-{statement}"
        shutil.copytree(old_path.parent, folder)
        copy = folder / old_path.name
        done = subprocess.run([sys.executable, "-c", KILLED_AT, copy, str(statement)], check=False)
        versions = {_version(copy)}
        assert versions <= {1, VERSION}
        assert list(JournalReader(copy).all()) == before
        journal = Journal(copy)
        journal.open()
        journal.close()
        assert (_version(copy), JournalReader(copy).problems()) == (VERSION, ())
        if done.returncode == 0:
            break
        kills += 1
    assert kills >= len(STEPS[1].strip().split(";"))


def _version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_every_form_has_a_step() -> None:
    assert len(STEPS) == VERSION


def test_running_time_is_counted_over_starts(journal: Journal) -> None:
    journal.append(make_verdict("a"))
    journal.tick()
    _reopened(journal)
    journal.append(make_verdict("b"))
    journal.tick()
    journal.tick()
    assert journal.before_ticks(0) == journal.before_ticks(1) == Place(2, 1)
    assert journal.before_ticks(2) == Place(1, 1)
    assert journal.before_ticks(3) is None
    assert journal.before_newest(1) == Place(1, 1)
    assert journal.before_newest(2) is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "file" / "journal.sqlite").open()


def test_a_full_disk_is_a_clear_error_and_the_journal_goes_on_afterwards(journal: Journal) -> None:
    connection = journal._open_connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="full"):
        journal.append(make_verdict("big", pins=5000))
    connection.execute("PRAGMA max_page_count = 100000")
    assert journal.append(make_verdict("big", pins=5000)).seq == 1


def test_readers_see_verdicts_while_the_worker_writes(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    assert reader.latest() == (1, 0)
    written = [journal.append(make_verdict(f"j{n}", Evaluation.NOT_OK if n == 1 else Evaluation.OK)) for n in range(3)]
    assert reader.latest() == (1, 3)
    assert reader.last(2) == [written[2], written[1]]
    assert reader.of_job("j1") == written[1]
    assert reader.of_job("none") is None
    assert reader.find("part-j2") == [written[2]]
    assert reader.find("j0.png") == [written[0]]
    assert reader.counts() == {
        Evaluation.UNDEFINED: 0,
        Evaluation.OK: 2,
        Evaluation.NOT_OK: 1,
        Evaluation.NOT_DECIDABLE: 0,
    }


def test_readers_need_no_running_worker_and_leave_the_journal_usable(journal: Journal, path: Path) -> None:
    journal.append(make_verdict("a"))
    journal.close()
    assert JournalReader(path).latest() == (1, 1)
    journal.open()
    assert journal.append(make_verdict("b")).epoch == 2


def test_a_missing_journal_is_a_clear_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="first start"):
        JournalReader(tmp_path / "missing.sqlite").latest()
    assert list(tmp_path.iterdir()) == []
