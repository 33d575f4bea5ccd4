"""What people see of the calibration verbs, with the scripted engine."""

import json
from pathlib import Path

import pytest

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
    shown = station(["evaluate", labelled, "--config", config, "--out", out, "--wordings"], 60).stdout
    assert "escapes" in shown
    assert "changed, asked in lines" in shown
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


def write_study(folder: Path) -> Path:
    """Write a good and a bad part, each taken twice with two lamps."""
    folder.mkdir()
    rows = ["image,evaluation,part_id,set_up,recapture"]
    for part, missing in (("P1", ()), ("P2", ("A1",))):
        for lamp in (1, 2):
            for again in (1, 2):
                name = f"{part}-{lamp}-{again}.png"
                picture = draw_part(missing=missing, gain=1 - 0.1 * lamp, noise=2, seed=len(rows))
                (folder / name).write_bytes(encoded(picture, ".png"))
                rows.append(f"{name},{'NOT_OK' if missing else 'OK'},{part},lamp {lamp},{again}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_msa_writes_one_page_and_fails_a_station_that_finds_nothing(tmp_path: Path) -> None:
    config, study, out = write_config(tmp_path), write_study(tmp_path / "study"), tmp_path / "out"
    ended = station(["msa", study, "--config", config, "--out", out])
    assert ended.returncode == 1, ended.stderr
    assert "SIMULATED" in ended.stdout
    assert "wrong: P2, bad: lamp 1: OK OK; lamp 2: OK OK" in ended.stdout
    assert "not proven: 2 parts; 50 are usual" in ended.stdout
    found = json.loads((out / "msa.json").read_text())
    assert [(one["kind"], one["differing"]["of"]) for one in found["repetitions"]] == [
        ("same picture", 2), ("re-presented", 4), ("other set-up", 8),
    ]  # fmt: skip
    assert {one["figure"]: one["grade"] for one in found["criteria"]}["miss rate"] == "not acceptable"
    assert "https:" not in (out / "msa.html").read_text()
    assert len((out / "verdicts.jsonl").read_text().splitlines()) == 10


def test_msa_takes_no_copy_for_a_recapture(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    (study / "P1-1-2.png").write_bytes((study / "P1-1-1.png").read_bytes())
    (study / "labels.csv").write_text((study / "labels.csv").read_text().replace("OK,P2,lamp 2,2", "OK,P2,,2"))
    ended = station(["msa", study, "--config", write_config(tmp_path)])
    assert ended.returncode == 2
    assert "P1-1-2.png is a copy of P1-1-1.png" in ended.stderr
    assert "P2-2-2.png: set_up: nothing given" in ended.stderr


def test_teach_takes_drawn_regions_or_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(draw_part(), ".png"))
    (tmp_path / "regions.txt").write_text("0 0.35 0.4366 0.03 0.04\n0 0.45 0.4366 0.03 0.04\n")
    arguments: list[str | Path] = ["teach", tmp_path / "good.png", "--regions"]
    arguments += [tmp_path / "regions.txt", "--out", tmp_path / "taught"]
    ended = station(arguments)
    assert ended.returncode == 2
    assert "put classes.txt, a name a line" in ended.stderr
    (tmp_path / "classes.txt").write_text("pin\n")
    ended = station(arguments)
    assert ended.returncode == 0, ended.stderr
    assert "drawn by hand in 1 region," in ended.stdout
    assert "'pin' is called pin1" in ended.stdout
    assert 'pin_id: "pin2"' in (tmp_path / "taught/recipe.yaml").read_text()
    assert station([*arguments, "--pins", "2"]).returncode == 2
