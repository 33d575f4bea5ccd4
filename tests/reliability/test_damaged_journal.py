"""Journals with damage, without their end, of another release: refused with a reason, or found by fsck; never silently.

What a flipped bit in the text of a verdict says cannot be told from what was meant: such are counted, and must leave
every evaluation as it was.
"""

import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from station.errors import JournalError
from station.fsck import fsck
from station.journal_reader import JournalReader
from station.records import Verdict
from station.worker.journal import Journal
from tests.reliability.results import count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig

KINDS = (GOOD, BROKEN, EMPTY)
VERDICTS = 60


def flip_bits(journal: Path, chance: random.Random) -> None:
    data = bytearray(journal.read_bytes())
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    journal.write_bytes(data)


def cut_off(journal: Path, chance: random.Random) -> None:
    os.truncate(journal, chance.randrange(journal.stat().st_size))


def clear_a_page(journal: Path, chance: random.Random) -> None:
    with journal.open("r+b") as file:
        file.seek(4096 * chance.randrange(journal.stat().st_size // 4096))
        file.write(bytes(4096))


def lose_wal(journal: Path, _: random.Random) -> None:
    journal.with_name(journal.name + "-wal").unlink()


def cut_off_wal(journal: Path, chance: random.Random) -> None:
    wal = journal.with_name(journal.name + "-wal")
    os.truncate(wal, chance.randrange(wal.stat().st_size - 4096))


def flip_bits_of_wal(journal: Path, chance: random.Random) -> None:
    flip_bits(journal.with_name(journal.name + "-wal"), chance)


def other_schema(journal: Path, chance: random.Random) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute(f"PRAGMA user_version = {chance.choice((99, 1000))}")


FAULTS: tuple[Callable[[Path, random.Random], None], ...] = (
    flip_bits,
    cut_off,
    clear_a_page,
    lose_wal,
    cut_off_wal,
    flip_bits_of_wal,
    other_schema,
)


def outcome(rig: Rig, journal: Path, before: dict[str, Verdict]) -> str:
    """Open the journal as the worker does; return what came of it: refused, whole, found by fsck, or text changed."""
    worker = Journal(journal)
    try:
        worker.open()
    except JournalError:
        return "refused"
    finally:
        worker.close()
    try:
        after = {verdict.job_id: verdict for verdict in JournalReader(journal).all()}
    except JournalError:
        after = {}
    if after == before:
        return "whole"
    try:
        is_found = any(rule.found for rule in fsck(rig.settings, hashed=True).rules)
    except JournalError:
        is_found = True
    if is_found:
        return "found by fsck"
    assert after.keys() == before.keys(), "verdicts are missing and nobody says so"
    assert all(after[job_id].evaluation is verdict.evaluation for job_id, verdict in before.items())
    return "text changed"


@pytest.mark.timeout(900)
def test_a_damaged_journal_is_never_used_silently(server: ForkServer, memory: Path) -> None:
    trials = count(3, 30, 100)
    chance = random.Random(trials)
    found: dict[str, Counter[str]] = {fault.__name__: Counter() for fault in FAULTS}
    with Rig(server, memory) as rig:
        rig.start()
        for number in range(VERDICTS):
            rig.deliver(KINDS[number % 3])
        rig.settle()
        rig.kill("worker", signal.SIGTERM)  # the first half is in the database, the second in its -wal file
        rig.start("worker")
        for number in range(VERDICTS):
            rig.deliver(KINDS[number % 3])
        rig.settle()
        for name in ("worker", "capture"):
            rig.kill(name)
        journal = memory / "journal.sqlite"
        before = {verdict.job_id: verdict for verdict in rig.verdicts()}
        saved = memory / "saved"
        saved.mkdir()
        parts = [journal.with_name(journal.name + ending) for ending in ("", "-wal", ".lock")]
        for part in parts:
            shutil.copy(part, saved / part.name)
        for fault in FAULTS:
            for _ in range(trials):
                for part in parts:
                    shutil.copy(saved / part.name, part)
                journal.with_name(journal.name + "-shm").unlink(missing_ok=True)
                fault(journal, chance)
                found[fault.__name__][outcome(rig, journal, before)] += 1
    for fault in (cut_off, lose_wal, cut_off_wal, other_schema):
        assert not found[fault.__name__]["text changed"]
    assert set(found["lose_wal"]) == set(found["other_schema"]) == {"refused"}
    total: Counter[str] = sum(found.values(), Counter())
    record(
        "damaged journals of 7 kinds",
        len(FAULTS) * trials,
        "refused, whole, or found by fsck; no evaluation changed, none missing unsaid",
        **{what.replace(" ", "_"): total[what] for what in ("refused", "whole", "found by fsck", "text changed")},
    )
