"""Looking for verdicts in the journal: each filter, pages, and the bound on what is not indexed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from station import journal_reader
from station.journal_reader import JournalReader, Wanted
from station.records import Evaluation, ResultState, TriggerRef, Verdict
from station.worker.journal import Journal
from tests.worker_parts import make_verdict

COUNT = 30


def numbered(number: int) -> Verdict:
    """Return a verdict that differs from all others in what can be looked for."""
    trigger = TriggerRef(trigger_id=number, acquisition_id=number, serial=f"SN-{number}", measurement=f"M-{number % 3}")
    return msgspec.structs.replace(
        make_verdict(f"job-{number:02}", Evaluation.OK),
        part_id=f"SN-{number % 10}",
        recipe=f"recipe-{number % 2}",
        recipe_sha256=f"{number % 2}" * 64,
        config_sha256=f"{number % 5}" * 64,
        result_state=ResultState.FAILED if number % 4 == 0 else ResultState.COMPLETED,
        trigger=trigger if number % 6 else None,
    )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> JournalReader:
    path: Path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    journal = Journal(path)
    journal.open()
    for number in range(COUNT):
        journal.append(numbered(number))
    journal.close()
    return JournalReader(path)


def found(reader: JournalReader, start: int = 0, count: int = 100, **wanted: Any) -> list[int]:
    """Return the numbers of what is found."""
    verdicts = reader.select(Wanted(**wanted), start, count)
    return [int(verdict.job_id.removeprefix("job-")) for verdict in verdicts]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, range(COUNT)),
        ({"job_id": "job-07"}, [7]),
        ({"part_id": "SN-3"}, [3, 13, 23]),
        ({"result_state": "FAILED"}, range(0, COUNT, 4)),
        ({"recipe": "recipe-1"}, range(1, COUNT, 2)),
        ({"recipe_sha256": "1" * 64}, range(1, COUNT, 2)),
        ({"config_sha256": "4" * 64}, range(4, COUNT, 5)),
        ({"measurement": "M-1"}, [n for n in range(COUNT) if n % 3 == 1]),
        ({"epoch": 1, "acquisition_id": 11}, [11]),
        ({"epoch": 2, "acquisition_id": 11}, []),
        ({"part_id": "SN-4", "result_state": "FAILED"}, [4, 24]),
        ({"part_id": "' OR 1=1 --"}, []),
    ],
    ids=str,
)
def test_what_fits_is_found_newest_first(reader: JournalReader, wanted: dict[str, Any], numbers: list[int]) -> None:
    assert found(reader, **wanted) == sorted(numbers, reverse=True)


def test_pages_follow_each_other_without_gap(reader: JournalReader) -> None:
    pages = [found(reader, start, 7) for start in range(0, COUNT + 7, 7)]
    assert [number for page in pages for number in page] == list(reversed(range(COUNT)))


def test_only_the_newest_are_looked_through_but_parts_and_jobs_are_found_anywhere(
    reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "SEARCHED", 5)
    assert found(reader, recipe="recipe-1") == [29, 27, 25]
    assert found(reader, part_id="SN-0") == [20, 10, 0]
    assert found(reader, job_id="job-00") == [0]
