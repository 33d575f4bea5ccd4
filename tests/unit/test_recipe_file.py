"""A recipe is accepted only when it and its golden picture fit together; every problem is said at once."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from station.errors import ConfigurationError
from station.recipe_file import load_recipe
from tests.camera_views import SIZE, KnownCamera, true_calibration, write_calibration
from tests.pictures import recipe_data, sha256_of, write_recipe


def changed(folder: Path, **changes: Any) -> Path:
    """Write the test recipe with parts replaced."""
    path = write_recipe(folder)
    data = json.loads(json.dumps(yaml.safe_load(path.read_text()) | changes))  # no object twice: no YAML anchors
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(path)
    return caught.value.problems


def region(**changes: Any) -> dict[str, Any]:
    return {**recipe_data()["regions"][0], **changes}


def test_a_good_recipe_is_read_with_its_hash(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    recipe = load_recipe(path)
    assert recipe.golden_path == tmp_path / "golden.png"
    assert recipe.sha256 == hashlib.sha256(path.read_bytes() + (tmp_path / "golden.png").read_bytes()).hexdigest()
    assert recipe.file.regions[0].pins[0].pin_id == "A1"


def test_the_hash_covers_the_recipe_and_the_golden_picture(tmp_path: Path) -> None:
    first = load_recipe(write_recipe(tmp_path)).sha256
    assert load_recipe(changed(tmp_path, product="another")).sha256 != first


def test_a_missing_golden_picture_is_said(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    (tmp_path / "golden.png").unlink()
    (problem,) = problems(path)
    assert "golden.png cannot be read: No such file" in problem


def test_another_golden_picture_is_said_with_its_hash(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    golden = (tmp_path / "golden.png").read_bytes() + b"\0"
    (tmp_path / "golden.png").write_bytes(golden)
    (problem,) = problems(path)
    assert "golden_sha256" in problem
    assert hashlib.sha256(golden).hexdigest() in problem


def test_a_golden_picture_that_is_no_png_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, golden_sha256=hashlib.sha256(b"JPEG").hexdigest())
    (tmp_path / "golden.png").write_bytes(b"JPEG")
    (problem,) = problems(path)
    assert "not a PNG picture" in problem


def test_a_golden_picture_elsewhere_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(changed(tmp_path, golden="../golden.png"))
    assert "a file name without folder" in problem


@pytest.mark.parametrize(("side", "value"), [("x", 700), ("y", 500), ("width", 700), ("height", 500)])
def test_a_region_outside_the_golden_picture_is_refused(tmp_path: Path, side: str, value: int) -> None:
    box = region()["box"] | {side: value}
    found = problems(changed(tmp_path, regions=[region(box=box)]))
    assert any("regions[0].box: ends at" in problem and "800 x 600" in problem for problem in found)


def test_a_part_and_fiducials_outside_the_golden_picture_are_refused(tmp_path: Path) -> None:
    far = {"x": 790, "y": 0, "width": 20, "height": 20}
    registration = recipe_data()["registration"] | {"part": far, "fiducials": [far, far, far]}
    found = problems(changed(tmp_path, registration=registration))
    assert len(found) == 4


def test_a_pin_outside_its_region_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(changed(tmp_path, regions=[region(pins=[{"pin_id": "1", "x": 10, "y": 10}])]))
    assert "pin 1 at 10, 10 is outside the box of region pins" in problem


def test_ids_are_used_once(tmp_path: Path) -> None:
    pin = region()["pins"][0]
    path = changed(tmp_path, regions=[region(pins=[pin, pin]), region()], defect_modes=["bent", "bent"])
    text = "\n".join(problems(path))
    assert 'pin_id "A1" is used 2 times' in text
    assert 'region_id "pins" is used 2 times' in text
    assert 'mode "bent" is used 2 times' in text


def test_the_word_for_no_defect_is_no_name(tmp_path: Path) -> None:
    pins = [region()["pins"][0] | {"pin_id": "None"}]
    assert len(problems(changed(tmp_path, regions=[region(pins=pins)], defect_modes=["none"]))) == 2


@pytest.mark.parametrize("ok_max", [0.8, 0.9])
def test_thresholds_must_leave_ok_below_not_ok(tmp_path: Path, ok_max: float) -> None:
    thresholds = recipe_data()["thresholds"] | {"ok_max_p_defect": ok_max}
    (problem,) = problems(changed(tmp_path, thresholds=thresholds))
    assert "thresholds.ok_max_p_defect" in problem
    assert "less than not_ok_min_p_defect (0.8)" in problem


def test_problems_have_the_line_of_their_key(tmp_path: Path) -> None:
    path = changed(tmp_path, deadline_ms=1)
    lines = path.read_text().splitlines()
    (problem,) = problems(path)
    number = int(problem.removeprefix(f"{path}:").partition(":")[0])
    assert lines[number - 1].startswith("deadline_ms")
    assert "expected a whole number from 50 to 600000" in problem


def test_a_pin_named_by_a_number_is_told_to_use_quotes(tmp_path: Path) -> None:
    pins = [region()["pins"][0] | {"pin_id": 1}]
    (problem,) = problems(changed(tmp_path, regions=[region(pins=pins)]))
    assert 'Put it in quotes: "1".' in problem


def with_camera(folder: Path, **changes: Any) -> Path:
    """Write a recipe that names a calibration; `changes` replace keys of the recipe."""
    folder.mkdir(exist_ok=True)
    path = write_calibration(folder / "camera.yaml", true_calibration(KnownCamera()))
    return changed(folder, **{"camera": "camera.yaml", "camera_sha256": sha256_of(path)} | changes)


def test_a_recipe_knows_the_camera_that_it_names(tmp_path: Path) -> None:
    recipe = load_recipe(with_camera(tmp_path))
    assert recipe.camera == true_calibration(KnownCamera())
    assert recipe.px_per_mm == 10.0
    own = with_camera(tmp_path / "own", measurement={"px_per_mm": 12.5})
    assert load_recipe(own).px_per_mm == 12.5
    assert load_recipe(write_recipe(tmp_path / "plain")).px_per_mm is None


def test_another_calibration_than_the_one_named_is_refused(tmp_path: Path) -> None:
    path = with_camera(tmp_path)
    with (tmp_path / "camera.yaml").open("a") as file:
        file.write("\n")
    (problem,) = problems(path)
    assert "camera_sha256: camera.yaml is another calibration" in problem


def test_a_calibration_for_another_picture_size_is_refused_by_name(tmp_path: Path) -> None:
    other = true_calibration(KnownCamera(size=(640, 480)))
    calibration = write_calibration(tmp_path / "other.yaml", other)
    path = with_camera(tmp_path, camera="other.yaml", camera_sha256=sha256_of(calibration))
    (problem,) = problems(path)
    assert "the calibration is for pictures of 640 x 480 px, the golden picture golden.png has 800 x 600" in problem
    assert SIZE == (800, 600)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"camera": None}, "camera: missing"),
        ({"camera_sha256": None}, "camera_sha256: missing"),
        ({"camera": "../camera.yaml"}, "expected a file name without folder"),
    ],
)
def test_a_calibration_is_named_by_file_and_hash(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    (problem,) = problems(with_camera(tmp_path, **changes))
    assert said in problem


def test_a_calibration_with_mistakes_names_each(tmp_path: Path) -> None:
    path = with_camera(tmp_path)
    (tmp_path / "camera.yaml").write_text("width_px: 3\nlens: {fx_px: -1}\n")
    text = "\n".join(problems(path))
    assert "camera.yaml:1: width_px: found 3" in text
    assert "lens.fx_px: found -1" in text


def test_what_the_measurement_may_call_missing_needs_that_mode(tmp_path: Path) -> None:
    assert load_recipe(changed(tmp_path / "with", measurement={"missing": True})).file.measurement.missing
    (problem,) = problems(changed(tmp_path / "without", measurement={"missing": True}, defect_modes=["bent"]))
    assert 'measurement.missing: needs the mode "missing" in defect_modes.' in problem


def test_tips_are_looked_for_only_where_many_pins_tell_and_within_half_a_pitch(tmp_path: Path) -> None:
    registration = {**recipe_data()["registration"], "tip_reach_px": 40.0}
    one = region(pins=[recipe_data()["regions"][0]["pins"][0]])
    found = problems(changed(tmp_path, registration=registration, regions=[one]))
    assert any("needs 6 pins, found 1" in text for text in found)
    assert any("half a pitch" in text for text in found)
    within = {**registration, "tip_reach_px": 2.0}
    assert load_recipe(changed(tmp_path, registration=within)).file.registration.tip_reach_px == 2.0
