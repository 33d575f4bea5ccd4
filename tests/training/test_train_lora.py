"""Both ways of `train_lora.py` run on a CPU for a few steps, and leave an adapter that was trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_site_batches import pins

pytest.importorskip("peft", reason="PEFT is not installed: make test-training")
safetensors = pytest.importorskip("safetensors.numpy")

ROOT = Path(__file__).parents[2]
BASE = ROOT / "models/pins-tiny/base"


def trained(out: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(ROOT / "models/train_lora.py"),
        "--out",
        str(out),
        "--device",
        "cpu",
        *map(str, words),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def most_changed(adapter: Path, start: Path) -> float:
    """Return the largest change of a weight; both must have the same tensors."""
    before, after = (safetensors.load_file(folder / "adapter_model.safetensors") for folder in (start, adapter))
    assert before.keys() == after.keys()
    return max(float(np.abs(after[name].astype(np.float32) - before[name]).max()) for name in before)


@pytest.mark.timeout(300)
def test_a_few_steps_on_a_set_change_the_adapter_and_say_that_they_are_few(tmp_path: Path) -> None:
    pins({}).save(tmp_path / "pins.npz")
    start = ROOT / "models/pins-any/adapter"
    done = trained(tmp_path, "--pins", tmp_path / "pins.npz", "--train-only", "--steps", "3", "--batch", "16")
    assert "3 steps" in done.stdout
    assert "Few steps" in done.stdout
    assert 0 < most_changed(tmp_path / "adapter", start) < 0.1
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base", "no path of the machine that trained"


@pytest.mark.timeout(300)
def test_a_few_steps_for_the_shipped_product_go_on_from_its_adapter(tmp_path: Path) -> None:
    start = ROOT / "models/pins-tiny/adapter"
    trained(
        tmp_path, "--base", BASE, "--golden", ROOT / "calibration/recipes/pins-27/golden.png", "--start", start,
        "--steps", "3", "--batch-pins", "16", "--batch-report", "4", "--workers", "0",
    )  # fmt: skip
    assert 0 < most_changed(tmp_path / "adapter", start) < 0.1
    table = json.loads((tmp_path / "accuracy.json").read_text())
    assert table["pins"]["escape"] < 0.5, "what it knew is not gone after three steps"
