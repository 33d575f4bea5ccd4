"""What a person says stands beside the verdict, and becomes a labelled set with the part's picture."""

from pathlib import Path

import msgspec
import pytest

from station.collect import collect
from station.errors import ConfigurationError, JournalError, OutputError
from station.journal_reader import JournalReader
from station.labels import read_labels
from station.outputs.archive import day_of
from station.overrides import override, overrides, overrides_path
from station.recipe_file import load_recipe
from station.records import Evaluation, Verdict
from station.settings import Settings
from station.settings_file import load_settings
from station.worker.journal import Journal
from tests.running_station import write_config
from tests.worker_parts import make_verdict

GOOD, BAD, OTHER = (f"20260102T030405678-0000000{k}" for k in range(3))
"""Job ids."""
OK, NOT_OK = Evaluation.OK, Evaluation.NOT_OK


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A station that said NOT_OK of GOOD (A1 missing) and OK of BAD, and OTHER of another recipe."""
    settings = load_settings(write_config(tmp_path))
    journal = Journal(settings.journal.path)
    journal.open()
    recipe = load_recipe_name(settings)
    for job_id, said, of in ((GOOD, NOT_OK, recipe), (BAD, OK, recipe), (OTHER, OK, "another")):
        journal.append(_verdict(job_id, said, of))
        folder = settings.outputs.archive.folder / day_of(job_id) / job_id / "original"
        folder.mkdir(parents=True)
        (folder / f"camera {job_id}.png").write_bytes(job_id.encode())
    journal.close()
    return settings


def load_recipe_name(settings: Settings) -> str:
    return load_recipe(settings.recipe).file.recipe


def _verdict(job_id: str, said: Evaluation, recipe: str) -> Verdict:
    verdict = msgspec.structs.replace(make_verdict(job_id, said, pins=4), recipe=recipe)
    (region,) = verdict.regions
    bad = msgspec.structs.replace(region.pins[1], evaluation=said, defect_mode="missing" if said is NOT_OK else "none")
    assert bad.pin_id == "A1"
    region = msgspec.structs.replace(region, region_id="pins", pins=(region.pins[0], bad, *region.pins[2:]))
    return msgspec.structs.replace(verdict, regions=(region,))


def test_an_override_stands_beside_the_verdict_and_the_newest_counts(settings: Settings) -> None:
    before = JournalReader(settings.journal.path).of_job(GOOD)
    override(settings, GOOD, NOT_OK, [("A1", "")])
    override(settings, GOOD, OK, why="only a shadow")
    with overrides_path(settings.journal.path).open("ab") as file:
        file.write(b'{"job_id": "cut o')
    one = override(settings, BAD, NOT_OK, [("pins/B2", "bent")])
    found = overrides(settings.journal.path)
    assert (found[GOOD].evaluation, found[GOOD].said, found[GOOD].why) == (OK, NOT_OK, "only a shadow")
    assert found[BAD] == one
    assert JournalReader(settings.journal.path).of_job(GOOD) == before


def test_a_pin_without_a_mode_has_the_one_that_was_said(settings: Settings) -> None:
    (pin,) = override(settings, GOOD, NOT_OK, [("A1", "")]).pins
    assert (pin.region_id, pin.pin_id, pin.mode) == ("pins", "A1", "missing")


@pytest.mark.parametrize(
    ("job_id", "pin", "problem"),
    [
        (GOOD, ("Z9", "bent"), "no such pins"),
        (GOOD, ("A1", "melted"), "expected one of"),
        (GOOD, ("A2", ""), "how is it bad"),
        (OTHER, ("A1", "bent"), "names no recipe another"),
    ],
)
def test_what_the_part_does_not_have_is_refused(
    settings: Settings, job_id: str, pin: tuple[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        override(settings, job_id, NOT_OK, [pin])
    assert overrides(settings.journal.path) == {}


def test_a_part_is_named_by_its_picture_unless_several_have_that_name(settings: Settings) -> None:
    assert override(settings, f"{GOOD}.png", OK).job_id == GOOD
    jobs = [f"20260102T030405678-0000010{k}" for k in range(2)]
    journal = Journal(settings.journal.path)
    journal.open()
    for job_id in jobs:
        verdict = _verdict(job_id, OK, load_recipe_name(settings))
        image = msgspec.structs.replace(verdict.image, name="image.png")
        journal.append(msgspec.structs.replace(verdict, image=image))
    journal.close()
    with pytest.raises(JournalError, match=r"2 verdicts of 'image\.png'") as several:
        override(settings, "image.png", OK)
    assert all(job in several.value.hint for job in jobs)
    assert list(overrides(settings.journal.path)) == [GOOD]


def test_a_picture_without_a_verdict_is_refused(settings: Settings) -> None:
    with pytest.raises(JournalError, match="no verdict of 'nobody'"):
        override(settings, "nobody", OK)


def test_a_third_of_the_parts_is_kept_to_measure_with(settings: Settings, tmp_path: Path) -> None:
    journal = Journal(settings.journal.path)
    journal.open()
    jobs = [f"20260102T030405678-000001{k:02}" for k in range(12)]
    for job_id in jobs:
        journal.append(_verdict(job_id, NOT_OK, load_recipe_name(settings)))
        folder = settings.outputs.archive.folder / day_of(job_id) / job_id / "original"
        folder.mkdir(parents=True)
        (folder / f"{job_id}.png").write_bytes(job_id.encode())
    journal.close()
    learn, measure = tmp_path / "learn", tmp_path / "measure"
    for job_id in jobs[:8]:
        override(settings, job_id, OK)
    collect(settings, learn, measure)
    before = {label.image for label in read_labels(measure)}
    for job_id in jobs[8:]:
        override(settings, job_id, OK)
    found = collect(settings, learn, measure)
    learned, measured = ({label.image for label in read_labels(folder)} for folder in (learn, measure))
    assert learned | measured == {f"{job_id}.png" for job_id in jobs}
    assert not learned & measured
    assert before <= measured
    assert (found.to_measure, found.false_rejects) == (len(measured), 12)
    assert 1 <= len(measured) < len(learned)


def test_overridden_parts_become_a_labelled_set(settings: Settings, tmp_path: Path) -> None:
    override(settings, GOOD, OK)
    override(settings, BAD, NOT_OK, [("A3", "bent"), ("B2", "missing")])
    override(settings, OTHER, NOT_OK)
    found = collect(settings, tmp_path / "set")
    assert (found.false_rejects, found.escapes, found.agreed) == (1, 1, 0)
    assert found.left_out == (f"{OTHER}: is a part of recipe another, not {load_recipe_name(settings)}",)
    good, bad = read_labels(tmp_path / "set")
    assert (tmp_path / "set" / good.image).read_bytes() == GOOD.encode()
    assert (good.evaluation, good.defect_positions) == (OK, ())
    assert (bad.evaluation, bad.region_id) == (NOT_OK, "pins")
    assert (bad.defect_modes, bad.defect_positions) == (("bent", "missing"), ("A3", "B2"))


def test_a_part_whose_picture_is_gone_is_named_and_a_second_run_takes_what_is_new(
    settings: Settings, tmp_path: Path
) -> None:
    override(settings, BAD, NOT_OK)
    picture = next((settings.outputs.archive.folder / day_of(BAD) / BAD / "original").iterdir())
    away = picture.rename(tmp_path / picture.name)
    assert collect(settings, tmp_path / "set").left_out == (f"{BAD}: its picture is not in the archive",)
    assert not (tmp_path / "set").exists()
    away.rename(picture)
    override(settings, GOOD, OK)
    collect(settings, tmp_path / "set")
    assert len(read_labels(tmp_path / "set")) == 2


def test_a_folder_that_cannot_be_written_is_said(settings: Settings, tmp_path: Path) -> None:
    override(settings, GOOD, OK)
    (tmp_path / "set").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        collect(settings, tmp_path / "set")
