"""The shipped model on the shipped pictures, through llama.cpp: every known answer must come out."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import msgspec
import pytest
import yaml

from calibration.run_set import LabelledSet
from station.certificate_file import Certified
from station.inspect_pictures import inspect
from station.inspection import Inspection
from station.labels import differences, read_labels
from station.manifest import load_manifest
from station.recipe_file import load_recipe
from station.records import Evaluation, Reason
from station.settings_file import load_settings

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "calibration/demo"

pytestmark = pytest.mark.model


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_judges_every_picture_rightly(tmp_path: Path) -> None:
    """Real capture, queue, worker, llama.cpp, Modbus and PUB, as processes; exit code 0 only if all are right."""
    arguments = ["demo", "--config", str(ROOT / "config.yaml"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "station", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 right, 0 wrong of 24" in done.stdout
    assert len(list((tmp_path / "out").glob("*.annotated.jpg"))) == 24


def station_asking(folder: Path, ask: str, images: int) -> Path:
    """Write a config whose recipe is the shipped one, asked another way."""
    shipped = ROOT / "calibration/recipes/pins-27"
    recipe = yaml.safe_load((shipped / "recipe.yaml").read_text())
    recipe["ask"] = ask
    recipe["report"]["images"] = images
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (folder / "golden.png").write_bytes((shipped / "golden.png").read_bytes())
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["recipe"] = str(folder / "recipe.yaml")
    config["model"] = str(ROOT / "models/pins-tiny/manifest.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("images", [1, 2])
def test_asked_by_report_the_model_fills_in_the_five_lines(tmp_path: Path, images: int) -> None:
    settings = load_settings(station_asking(tmp_path, "report", images))
    for seen in islice(LabelledSet(settings, load_recipe(settings.recipe), DEMO).seen(), 10):
        assert seen.said is seen.truth, seen.verdict.detail
        assert seen.verdict.regions[0].pins_counted == seen.pin_count
        assert len(seen.verdict.regions[0].report.splitlines()) == 5


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_asked_as_nobody_calibrated_it_no_part_is_ok(tmp_path: Path) -> None:
    settings = load_settings(station_asking(tmp_path, "report", 2))
    good, bad = (next(label.image for label in read_labels(DEMO) if label.evaluation == e) for e in ("OK", "NOT_OK"))
    of_good, of_bad = inspect(settings, [DEMO / good, DEMO / bad], tmp_path / "out")
    assert (of_good.evaluation, of_good.reason) == (Evaluation.NOT_DECIDABLE, Reason.NO_CERTIFICATE)
    assert "station calibrate thresholds" in of_good.detail
    assert of_bad.evaluation is Evaluation.NOT_OK


def test_the_shipped_certificate_holds() -> None:
    """If this fails, what makes a score was changed.

    Prove that no score moved: `make carry-over`, a minute. If some did: `make certificate`, 10 minutes.
    """
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    certified = Certified(recipe, Inspection(recipe, {}).question)
    release = load_manifest(ROOT / "models/pins-tiny/manifest.json").ref
    assert certified.bar(release, is_simulated=False) is None, "make carry-over, or make certificate"
    assert certified.certificate
    assert certified.certificate.populations == ("drawn",)
    assert certified.certificate.max_escape <= 0.02
    assert certified.certificate.confidence >= 0.95
    other = msgspec.structs.replace(release, sha256="00" * 32)
    barred = certified.bar(other, is_simulated=False)
    assert barred
    assert "another model" in barred.detail


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_asked_by_pins_the_verdict_names_count_mode_and_place(tmp_path: Path) -> None:
    settings = load_settings(ROOT / "config.yaml")
    labels = read_labels(DEMO)[:6]
    verdicts = list(inspect(settings, [DEMO / label.image for label in labels], tmp_path / "out"))
    assert [differences([label], verdict) for label, verdict in zip(labels, verdicts, strict=True)] == [[]] * 6
    assert not any(verdict.is_simulated for verdict in verdicts)
    assert {verdict.model.name for verdict in verdicts} == {"pins-tiny"}
    assert {verdict.evaluation for verdict in verdicts} == {Evaluation.OK, Evaluation.NOT_OK}
