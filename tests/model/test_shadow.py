"""A second model beside the active one, through the real processes: it changes nothing, and what it said is kept.

The shadow is a model that does not look; what a person says of parts then tells who was right, and becomes a set.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from station.journal_reader import JournalReader
from station.labels import read_labels
from station.manifest import load_manifest
from station.records import Evaluation
from station.shadow import ShadowReport
from station.status import shadow_report
from tests.model.test_challenge import MODEL, RECIPE, ROOT, blind_model, configured
from tests.running_station import RunningStation, station
from tests.waiting import wait_until

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = {"good-1.jpg": Evaluation.OK, "limit-missing.jpg": Evaluation.NOT_OK}


def judged(running: RunningStation, count: int) -> ShadowReport:
    """Wait until the shadow has judged so many parts."""
    wait_until(lambda: shadow_report(running.settings).judged >= count, 60)
    return shadow_report(running.settings)


def test_the_shadow_judges_beside_the_line_and_people_tell_who_was_right(tmp_path: Path) -> None:
    config = configured(tmp_path)
    blind = blind_model(tmp_path / "blind") / "manifest.json"
    assert station(["model", "shadow", blind, "--config", config]).returncode == 2, "config.yaml is JSON on many lines"
    settings = json.loads(config.read_text()) | {"shadow": str(blind)}
    config.write_text(json.dumps(settings))
    with RunningStation(config, start_s=100) as running:
        for name in PARTS:
            running.drop(name, (RECIPE / "challenge" / name).read_bytes() + b"\0")
        report = judged(running, len(PARTS))
        verdicts = {verdict.image.name: verdict for verdict in JournalReader(tmp_path / "journal.sqlite").last(9)}
        assert {name: verdict.evaluation for name, verdict in verdicts.items()} == PARTS
        assert report.active == load_manifest(MODEL / "manifest.json").ref
        assert report.shadow == load_manifest(blind).ref
        assert {one.shadow_said for one in report.differences} == {Evaluation.NOT_DECIDABLE}
        assert {one.active_said for one in report.differences} == set(PARTS.values())
        bad, good = verdicts["limit-missing.jpg"], verdicts["good-1.jpg"]
        pin = bad.regions[0].defect_position
        for words in ([good.job_id, "defective", "--pin", "A1=bent"], [bad.job_id, "defective", "--pin", pin]):
            ended = station(["override", *words, "--config", config])
            assert ended.returncode == 0, ended.stderr
        assert JournalReader(tmp_path / "journal.sqlite").of_job(good.job_id) == good
        told = station(["model", "shadow", "--config", config])
        assert "active      1 escapes of 2, 0 false rejects of 0 parts" in told.stdout
        assert f"{good.job_id}  active OK, shadow NOT_DECIDABLE; really NOT_OK" in told.stdout
        assert "2 judged, 0 of them like the active model, 0 dropped" in station(["status", "--config", config]).stdout
        assert "person         NOT_OK, field/A1 bent" in station(["trace", good.job_id, "--config", config]).stdout
        collected = station(["collect", tmp_path / "set", "--config", config])
        assert collected.stdout.startswith(
            "0 good parts not said OK, 1 defective ones not said NOT_OK, 1 as the verdict"
        )
    options = {"--set": tmp_path / "set", "--recipe": tmp_path / "pins-27/recipe.yaml", "--out": tmp_path / "cut"}
    words = [str(word) for option in options.items() for word in option]
    ended = subprocess.run(
        [sys.executable, "models/train_lora.py", "--cut-only", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.startswith("54 pins, 2 defective"), ended.stderr
    labels = {label.image.split(".")[0]: label for label in read_labels(tmp_path / "set")}
    assert (labels[good.job_id].defect_modes, labels[good.job_id].defect_positions) == (("bent",), ("A1",))
    assert (labels[bad.job_id].defect_modes, labels[bad.job_id].defect_positions) == (("missing",), (pin,))
