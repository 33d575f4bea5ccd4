"""The shipped model on the shipped pictures, through llama.cpp: every known answer must come out."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from station.inspect_pictures import inspect
from station.labels import Label, differences, read_labels
from station.records import Evaluation
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
    labels: dict[str, list[Label]] = defaultdict(list)
    for label in read_labels(DEMO)[:10]:
        labels[label.image].append(label)
    settings = load_settings(station_asking(tmp_path, "report", images))
    for verdict in inspect(settings, [DEMO / name for name in labels], tmp_path / "out"):
        (label,) = labels[verdict.image.name]
        assert verdict.evaluation is label.evaluation, verdict.detail
        assert verdict.regions[0].pins_counted == label.pin_count
        assert len(verdict.regions[0].report.splitlines()) == 5


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
