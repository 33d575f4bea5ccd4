"""`station bench` with the shipped model, both sides, in their own processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(240)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb."""
    command = [sys.executable, "-m", "station", "bench", "--config", str(ROOT / "config.yaml"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)


def test_both_sides_are_measured_and_drawn(tmp_path: Path) -> None:
    done = run("--regions", "1,2", "--ask", "pins", "--json", "--plot", str(tmp_path / "bench.png"))
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    (row,) = measured["rows"]
    assert row["problem"] == ""
    for side in (row["station"], row["stock"]):
        assert [part["regions"] for part in side["parts"]] == [1, 2]
        assert all(part["verdict_ms"] > 0 and part["full_ms"] > 0 for part in side["parts"])
        assert side["process_mib"] > 10
    assert [stage["name"] for stage in row["station"]["stages"]] == ["encode", "read pictures"]
    assert measured["limits"]["flop_per_s"] > 1e8
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.width > 400


def test_a_release_that_does_not_load_is_said_beside_the_others(tmp_path: Path) -> None:
    shipped = ROOT / "models/pins-tiny"
    manifest = json.loads((shipped / "manifest.json").read_text())
    for key in ("text", "mmproj"):
        (tmp_path / manifest[key]["file"]).write_bytes(b"GGUF")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = run("--regions", "1", "--ask", "pins", "--weights", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "not the exported file" in done.stdout


def test_a_folder_without_releases_is_refused(tmp_path: Path) -> None:
    done = run("--weights", str(tmp_path))
    assert done.returncode == 2
    assert "holds no manifest*.json" in done.stderr


@pytest.mark.parametrize("wrong", [["--regions", "1,x"], ["--size", "256"], ["--size", "0x16"], ["--ask", "nothing"]])
def test_wrong_arguments_are_refused(wrong: list[str]) -> None:
    assert run(*wrong).returncode == 2
