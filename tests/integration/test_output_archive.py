"""What the archive keeps of a verdict, and that it never holds up or breaks the worker."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from station import verdict_json
from station.errors import OutputError
from station.outputs import archive
from station.outputs.archive import ANNOTATED_NAME, VERDICT_NAME, ArchiveOutput, day_of
from station.recipe import Recipe
from station.records import Evaluation
from tests.pictures import make_recipe
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture
def output(tmp_path: Path, recipe: Recipe) -> Iterator[ArchiveOutput]:
    output = ArchiveOutput(tmp_path / "archive", recipe)
    output.start()
    yield output
    output.close()


def folder_of(tmp_path: Path, job_id: str) -> Path:
    return tmp_path / "archive" / day_of(job_id) / job_id


def test_a_verdict_becomes_a_picture_and_its_json_beside_it(output: ArchiveOutput, tmp_path: Path) -> None:
    verdict = make_verdict(1, Evaluation.NOT_OK)
    output.send(verdict, make_job(verdict))
    folder = tmp_path / "archive" / "2026-11-03" / verdict.job_id
    wait_until((folder / ANNOTATED_NAME).exists)
    assert verdict_json.decode((folder / VERDICT_NAME).read_bytes()) == verdict
    with Image.open(folder / ANNOTATED_NAME) as picture:
        assert picture.format == "JPEG"
    output.close()
    assert {file.name for file in folder.iterdir()} == {ANNOTATED_NAME, VERDICT_NAME}


def test_a_folder_that_holds_the_picture_already_keeps_it(output: ArchiveOutput, tmp_path: Path) -> None:
    verdict = make_verdict(1)
    folder = folder_of(tmp_path, verdict.job_id)
    folder.mkdir(parents=True)
    (folder / "part-0001.jpg").write_bytes(b"the picture")
    output.send(verdict, make_job(verdict))
    output.close()
    assert (folder / "part-0001.jpg").read_bytes() == b"the picture"
    assert (folder / ANNOTATED_NAME).exists()


def test_close_writes_what_still_waits(output: ArchiveOutput, tmp_path: Path) -> None:
    verdicts = [make_verdict(seq) for seq in range(1, 11)]
    for verdict in verdicts:
        output.send(verdict, make_job(verdict))
    output.close()
    assert all((folder_of(tmp_path, verdict.job_id) / ANNOTATED_NAME).exists() for verdict in verdicts)


def test_a_slow_disk_leaves_pictures_out_instead_of_holding_up_the_worker(
    output: ArchiveOutput, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = threading.Event()
    monkeypatch.setattr(archive, "_write", lambda _path, _data: disk.wait(20))
    verdict = make_verdict()
    job = make_job(verdict)
    for _ in range(archive.QUEUE_VERDICTS + 20):
        output.send(verdict, job)
    assert output.complaints.counts["full"] >= 19
    assert sum("too slow" in message for message in caplog.messages) == 1
    disk.set()


def test_a_disk_that_refuses_is_counted_and_the_next_picture_is_kept(
    output: ArchiveOutput, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = make_verdict(1), make_verdict(2)
    in_the_way = folder_of(tmp_path, broken.job_id)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_bytes(b"a file where the job's folder should be")
    output.send(broken, make_job(broken))
    output.send(good, make_job(good))
    output.close()
    assert output.disk_complaints.counts["disk"] == 1
    assert broken.job_id in caplog.text
    assert (folder_of(tmp_path, good.job_id) / ANNOTATED_NAME).exists()


def test_a_job_id_that_leads_out_of_the_archive_is_refused(output: ArchiveOutput, tmp_path: Path) -> None:
    evil = make_verdict(job_id="20261103T1/../../../evil")
    output.send(evil, make_job(evil))
    output.close()
    assert output.disk_complaints.counts["drawing"] == 1
    assert not list(tmp_path.glob("**/*evil*"))


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "file").write_bytes(b"")
    output = ArchiveOutput(tmp_path / "file" / "archive", recipe)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        output.start()
    assert "outputs.archive.folder" in caught.value.hint
