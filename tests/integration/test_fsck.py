"""`station fsck` on real stores: sound ones hold, each kind of damage is found by the rule that it breaks."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from station import fsck as checker
from station.capture.spool import Folders, Spool
from station.fsck import Report
from station.records import Evaluation, Failure, ImageRef, Reason, ResultState, Verdict
from station.settings import Settings
from station.settings_file import load_settings
from station.trace import trace
from station.worker.journal import Journal
from tests.running_station import station, write_config
from tests.worker_parts import make_verdict

UNREADABLE = Failure(reason=Reason.IMAGE_UNREADABLE, detail="It is cut short.")
DAY = "archive/2*"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a station with two archived pictures, a quarantined one, a judged one and an open one in the spool."""
    settings = load_settings(write_config(tmp_path))
    capture = settings.capture
    spool = Spool(
        Folders(capture.hot_folder, capture.spool, settings.outputs.archive.folder, capture.quarantine), 10_000
    )
    journal = Journal(settings.journal.path)
    spool.open()
    journal.open()
    for name in ("a", "b", "reason.txt", "d", "e"):
        failure = UNREADABLE if name == "reason.txt" else None
        (capture.hot_folder / name).write_bytes(name.encode())
        with (capture.hot_folder / name).open("rb") as file:
            claimed = spool.claim(file.fileno(), name)
        assert claimed
        pending, picture = claimed
        assert picture
        spool.settle()
        if name != "e":
            journal.append(_verdict(pending.job_id, picture.image, failure))
        if name not in {"d", "e"}:
            spool.release(pending, failure)
    journal.close()
    spool.close()
    return settings


def _verdict(job_id: str, image: ImageRef, failure: Failure | None) -> Verdict:
    verdict = msgspec.structs.replace(make_verdict(job_id), image=image)
    if failure:
        return msgspec.structs.replace(
            verdict,
            evaluation=Evaluation.UNDEFINED,
            result_state=ResultState.FAILED,
            reason=failure.reason,
            regions=(),
        )
    return verdict


def broken(report: Report) -> set[str]:
    return {rule.name for rule in report.rules if rule.broken}


def one(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.glob(pattern))))


def test_sound_stores_hold_every_rule(settings: Settings) -> None:
    report = checker.fsck(settings, hashed=True)
    assert broken(report) == set()
    assert report.holds
    counts = (report.accepted, report.open, report.judged, report.archived, report.quarantined, report.taken_away)
    assert counts == (5, 1, 4, 2, 1, 0)


def lose_a_picture(folder: Path) -> None:
    one(folder, f"{DAY}/*/original/a").unlink()


def double_a_picture(folder: Path) -> None:
    job = one(folder, f"{DAY}/*/original/a").parent.parent.name
    (folder / "spool" / job).mkdir()
    (folder / "spool" / job / "a").write_bytes(b"a")


def change_a_picture(folder: Path) -> None:
    one(folder, f"{DAY}/*/original/a").write_bytes(b"x")


def swap_the_stores(folder: Path) -> None:
    picture = one(folder, "quarantine/*/reason.txt")
    target = one(folder, DAY) / picture.parent.name / "original"
    target.mkdir(parents=True)
    picture.rename(target / "reason.txt")


def archive_an_open_picture(folder: Path) -> None:
    picture = one(folder, "spool/*/e")
    target = one(folder, DAY) / picture.parent.name / "original"
    target.mkdir(parents=True)
    picture.rename(target / "e")


def put_a_stray_file(folder: Path) -> None:
    (folder / "spool/notes.txt").write_text("?")


def execute(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "journal.sqlite", isolation_level=None)) as journal:
        for trigger in ("verdict_is_never_changed", "verdict_is_never_deleted"):
            journal.execute(f"DROP TRIGGER {trigger}")
        journal.execute(statement)


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lose_a_picture, {"one place", "counters"}),
        (double_a_picture, {"one place"}),
        (change_a_picture, {"same picture"}),
        (swap_the_stores, {"right place"}),
        (archive_an_open_picture, {"verdict first", "counters"}),
        (put_a_stray_file, {"one place"}),
        (lambda folder: execute(folder, "UPDATE verdict SET evaluation = 'NOT_OK' WHERE seq = 1"), {"one verdict"}),
        (
            lambda folder: execute(folder, "DELETE FROM verdict WHERE seq = 2"),
            {"one verdict", "sequence", "verdict first", "counters"},
        ),
    ],
)
def test_damage_is_found(settings: Settings, damage: Callable[[Path], None], names: set[str]) -> None:
    damage(settings.config_path.parent)
    assert broken(checker.fsck(settings, hashed=True)) == names


def test_a_day_moved_away_and_a_quarantine_folder_deleted_are_no_loss(settings: Settings) -> None:
    folder = settings.config_path.parent
    shutil.rmtree(one(folder, DAY))
    shutil.rmtree(one(folder, "quarantine/*"))
    report = checker.fsck(settings)
    assert (report.holds, report.taken_away) == (True, 3)


def test_a_station_that_never_ran_holds(tmp_path: Path) -> None:
    assert checker.fsck(load_settings(write_config(tmp_path))).holds


def test_the_verb_says_it_with_its_exit_code(settings: Settings) -> None:
    sound = station(["fsck", "--config", settings.config_path, "--json"])
    assert (sound.returncode, json.loads(sound.stdout)["holds"]) == (0, True)
    lose_a_picture(settings.config_path.parent)
    damaged = station(["fsck", "--config", settings.config_path])
    assert damaged.returncode == 1
    assert "FAIL  one place" in damaged.stdout
    assert "none of them" in damaged.stdout


def test_what_retention_deleted_is_counted_as_taken_away(settings: Settings) -> None:
    (job_id,) = (path.name for path in sorted(settings.config_path.parent.glob(f"{DAY}/*"))[:1])
    shutil.rmtree(next(settings.config_path.parent.glob(f"{DAY}/{job_id}")))
    assert not checker.fsck(settings).holds
    journal = Journal(settings.journal.path)
    journal.open()
    journal.begin_removal([job_id])
    journal.close()
    report = checker.fsck(settings)
    assert (report.holds, report.taken_away, report.by_retention) == (True, 1, 1)
    (found,) = trace(settings, job_id)
    assert (found.removed_utc is not None, found.files) == (True, ())
