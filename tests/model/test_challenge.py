"""The challenge through the real processes and the real model; and a real model that does not look."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from gguf import GGUFReader

from station.certificate_file import path_of, read_certificate, write_certificate
from station.challenge import ChallengeRun
from station.challenge_file import last_run, log_path
from station.journal_reader import JournalReader
from station.manifest import load_manifest, pair_of
from station.outputs.plc_state import FaultCode, OfflineReason
from station.recipe_file import load_recipe
from station.records import Evaluation
from station.worker.challenger import EVIDENCE
from tests.running_station import RunningStation, station, write_config
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
RECIPE, MODEL = ROOT / "calibration/recipes/pins-27", ROOT / "models/pins-tiny"

SAMPLES = ("good-1.jpg", "limit-missing.jpg")
"""Of the seven; the demo's test goes through all."""

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]


def configured(folder: Path, model: Path = MODEL) -> Path:
    """Write a config of a station with the shipped recipe, in a copy, and a model."""
    shutil.copytree(RECIPE, folder / "pins-27")
    config = write_config(folder, recipe="pins-27/recipe.yaml", model=str(model / "manifest.json"), engine={})
    labels = folder / "pins-27/challenge/labels.csv"
    head, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([head, *(row for row in rows if row.startswith(SAMPLES))]))
    recipe = folder / "pins-27/recipe.yaml"
    assert "deadline_ms: 10000" in recipe.read_text()
    recipe.write_text(recipe.read_text().replace("deadline_ms: 10000", "deadline_ms: 60000"))  # for a busy machine
    return config


def blind_model(folder: Path) -> Path:
    """Return a release whose eyes tell nothing: the shipped one with its projector set to 0."""
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("adapter", "base", "training"))
    eyes = folder / "mmproj-F16.gguf"
    for tensor in GGUFReader(eyes, "r+").tensors:
        if tensor.name.startswith("mm."):
            tensor.data[:] = 0
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["mmproj"]["sha256"] = hashlib.sha256(eyes.read_bytes()).hexdigest()
    manifest["pair"] = pair_of(manifest["text"]["sha256"], manifest["mmproj"]["sha256"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def certify(recipe_path: Path, model: Path) -> None:
    """Forge a certificate for the model, so that nothing but the challenge stands in its way."""
    recipe = load_recipe(recipe_path)
    held = read_certificate(path_of(recipe))
    assert held
    now = msgspec.structs.replace(held.conditions, model_sha256=load_manifest(model / "manifest.json").ref.sha256)
    write_certificate(path_of(recipe), msgspec.structs.replace(held, conditions=now))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningStation]:
    with RunningStation(configured(tmp_path), start_s=100) as running:
        yield running


def folders_of(running: RunningStation) -> dict[str, list[str]]:
    """Return what lies in hot folder, spool, quarantine and archive."""
    settings = running.settings
    places = (settings.capture.hot_folder, settings.capture.spool, settings.capture.quarantine)
    return {
        folder.name: [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        for folder in (*places, settings.outputs.archive.folder)
    }


def test_the_shipped_model_passes_and_its_samples_are_no_parts(running: RunningStation, tmp_path: Path) -> None:
    started = last_run(log_path(tmp_path / "journal.sqlite"))
    assert started
    assert (started.cause, started.problems) == ("start", ())
    assert set(SAMPLES) <= {step.name for step in started.steps}
    assert {"G1", "G2", "G3", "G4", "G5", "G16"} == {step.guard for step in started.steps}
    ended = station(["challenge", "--config", tmp_path / "config.yaml", "--json", "--timeout", "100"], 120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert msgspec.json.decode(ended.stdout, type=ChallengeRun).cause == "person"
    assert running.plc()["GoldenCheckPassed"] == 1
    wait_until(lambda: not any(folders_of(running).values()))
    assert JournalReader(tmp_path / "journal.sqlite").last(10) == []
    assert running.plc()["CountTriggers"] == 0
    running.drop("part.jpg", (RECIPE / "challenge/good-1.jpg").read_bytes() + b"\0")  # other bytes: a part
    wait_until(lambda: JournalReader(tmp_path / "journal.sqlite").last(1), 60)
    (verdict,) = JournalReader(tmp_path / "journal.sqlite").last(10)
    assert (verdict.image.name, verdict.evaluation) == ("part.jpg", Evaluation.OK)
    running.drop("bad.jpg", (RECIPE / "challenge/limit-missing.jpg").read_bytes() + b"\0")
    log = log_path(tmp_path / "journal.sqlite")
    looked = wait_until(lambda: run if (run := last_run(log)) and run.cause == EVIDENCE else None, 60)
    assert looked
    assert looked.problems == ()
    (step,) = looked.steps
    assert (step.guard, step.name.split()[0]) == ("G11", "evidence")
    assert "cells" in step.found
    assert running.plc()["GoldenCheckPassed"] == 1


def test_a_model_that_does_not_look_is_offline_and_says_ok_of_nothing(tmp_path: Path) -> None:
    model = blind_model(tmp_path / "blind")
    config = configured(tmp_path, model)
    certify(tmp_path / "pins-27/recipe.yaml", model)
    running = RunningStation(config, until=lambda plc: plc["FaultCode"] == FaultCode.CHALLENGE_FAILED, start_s=100)
    with running:
        shown = running.plc()
        assert (shown["Online"], shown["OfflineReason"]) == (0, OfflineReason.STOPPED_OR_FAULT)
        failed = last_run(log_path(tmp_path / "journal.sqlite"))
        assert failed
        assert failed.problems
        for name in SAMPLES:
            running.drop(name, (RECIPE / "challenge" / name).read_bytes() + b"\0")
        verdicts = wait_until(lambda: (last := JournalReader(tmp_path / "journal.sqlite").last(2))[1:] and last, 60)
        assert all(verdict.evaluation is not Evaluation.OK for verdict in verdicts)
        ended = station(["challenge", "--config", config, "--timeout", "100"], 120)
        assert ended.returncode == 1
        assert "nothing is OK until a challenge passes" in ended.stdout
