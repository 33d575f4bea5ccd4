"""What people see of the calibration verbs, with the scripted engine."""

import json
from pathlib import Path

from tests.pictures import draw_part, encoded
from tests.running_station import station, write_config


def write_set(folder: Path) -> Path:
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(draw_part(), ".png"))
    (folder / "bad.png").write_bytes(encoded(draw_part(missing=("A1",)), ".png"))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "labels.csv").write_text(
        "image,evaluation,pin_count,defect_mode,defect_position\n"
        "good.png,OK,8,,\nbad.png,NOT_OK,7,missing,A1\nbroken.jpg,UNDEFINED,,,\n"
    )
    return folder


def test_evaluate_measures_a_set_and_writes_its_files(tmp_path: Path) -> None:
    config, labelled, out = write_config(tmp_path), write_set(tmp_path / "set"), tmp_path / "out"
    ended = station(["evaluate", labelled, "--config", config, "--out", out, "--json"])
    assert ended.returncode == 0, ended.stderr
    (model,) = json.loads(ended.stdout)["models"]
    assert model["is_simulated"]
    assert model["confusion"] == {"OK": {"OK": 1}, "NOT_OK": {"OK": 1}, "UNDEFINED": {"UNDEFINED": 1}}
    assert (model["rates"]["escapes"]["k"], model["rates"]["escapes"]["n"]) == (1, 1)
    assert "SIMULATED" in (out / "evaluation.html").read_text()
    assert len((out / "verdicts.jsonl").read_text().splitlines()) == 3
    shown = station(["evaluate", labelled, "--config", config, "--out", out]).stdout
    assert "escapes" in shown
    assert "wrong: bad.png: known NOT_OK missing A1, said OK" in shown


def test_evaluate_names_every_problem_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,evaluation\nnowhere.png,OK\n")
    ended = station(["evaluate", tmp_path, "--config", write_config(tmp_path)])
    assert ended.returncode == 2
    assert "nowhere.png" in ended.stderr


def test_a_set_that_is_too_small_gets_no_certificate(tmp_path: Path) -> None:
    config, labelled = write_config(tmp_path), write_set(tmp_path / "set")
    ended = station(["calibrate", "thresholds", labelled, "--config", config])
    assert ended.returncode == 1
    assert "at least 299 are needed: about 746 more in the set." in ended.stdout
    assert "No limits" in ended.stdout
    assert not (tmp_path / "recipe/certificate.json").exists()


def test_a_board_is_drawn_and_what_is_no_good_calibration_of_the_camera_is_not_written(tmp_path: Path) -> None:
    board, marker = tmp_path / "board.png", tmp_path / "marker.png"
    assert station(["calibrate", "board", "--squares", "9x7", "--square-mm", "8", "--out", board]).returncode == 0
    out = tmp_path / "camera.yaml"
    few: list[str | Path] = ["calibrate", "camera", board, "--squares", "9x7", "--square-mm", "8", "--out", out]
    ended = station([*few, "--json"])
    assert ended.returncode == 2
    assert "seen in 1 of 1 pictures; 8 are needed" in ended.stderr
    assert station(["calibrate", "board", "--marker-mm", "30", "--out", marker]).returncode == 0
    scale: list[str | Path] = ["calibrate", "camera", marker, "--marker-mm", "30", "--out", out]
    ended = station([*scale, "--json"])
    assert ended.returncode == 0, ended.stderr
    assert abs(json.loads(ended.stdout)["px_per_mm"] - 10) < 0.02
    assert "px per mm" in station(scale).stdout
    assert station(["calibrate", "board"]).returncode == 2
