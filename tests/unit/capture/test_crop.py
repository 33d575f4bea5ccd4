"""Crops lie on the golden grid whatever the part's pose, and never leave the frame."""

from pathlib import Path

import numpy as np
import pytest

from station.capture.crop import crops, golden_crops
from station.capture.pose import Matrix, rotation_deg, scale
from station.errors import ConfigurationError, RegistrationError
from station.records import Reason, RegionCrop, Registration
from tests.pictures import REGION, Image, Pose, draw_part, encoded, make_recipe


def registration(matrix: Matrix) -> Registration:
    (a, b, c), (d, e, f) = matrix.tolist()
    return Registration(
        matrix=((a, b, c), (d, e, f)), residual_px=0, score=1, rotation_deg=rotation_deg(matrix), scale=scale(matrix)
    )


def pixels(crop: RegionCrop) -> Image:
    return np.frombuffer(crop.pixels_rgb, np.uint8).reshape(crop.height_px, crop.width_px, 3)


def test_a_golden_crop_is_the_box_of_the_golden_picture_in_rgb(tmp_path: Path) -> None:
    x, y, width, height = REGION
    crop = golden_crops(make_recipe(tmp_path))["pins"]
    assert (crop.width_px, crop.height_px) == (width, height)
    assert np.array_equal(pixels(crop), draw_part()[y : y + height, x : x + width, ::-1])


@pytest.mark.parametrize("pose", [Pose(50, -30), Pose(12.5, 3.25), Pose(0, 0, 8), Pose(-20, 9, -5, 1.04)])
def test_a_crop_is_the_same_at_every_pose(tmp_path: Path, pose: Pose) -> None:
    recipe = make_recipe(tmp_path)
    (crop,) = crops(draw_part(pose), recipe, registration(pose.matrix()))
    difference = pixels(crop).astype(int) - pixels(golden_crops(recipe)["pins"])
    assert np.abs(difference).mean() < 1.5  # edges are softened by interpolation


@pytest.mark.parametrize(("shift_x", "shift_y"), [(-232.4, 0), (0, -222.4), (232.4, 0), (0, 222.4)])
def test_a_region_that_just_reaches_the_edge_is_cropped(tmp_path: Path, shift_x: float, shift_y: float) -> None:
    (crop,) = crops(draw_part(), make_recipe(tmp_path), registration(Pose(shift_x, shift_y).matrix()))
    assert crop.width_px == REGION[2]


@pytest.mark.parametrize(("shift_x", "shift_y"), [(-233, 0), (0, -223), (233, 0), (0, 223)])
def test_a_region_outside_the_frame_is_refused(tmp_path: Path, shift_x: float, shift_y: float) -> None:
    with pytest.raises(RegistrationError, match="pins") as caught:
        crops(draw_part(), make_recipe(tmp_path), registration(Pose(shift_x, shift_y).matrix()))
    assert caught.value.reason is Reason.REGION_OUTSIDE_PICTURE


def test_a_region_outside_the_golden_picture_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    recipe.golden_path.write_bytes(encoded(draw_part()[:300], ".png"))
    with pytest.raises(ConfigurationError, match="pins"):
        golden_crops(recipe)


def test_a_golden_picture_that_cannot_be_read_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    recipe.golden_path.write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match=r"golden\.png"):
        golden_crops(recipe)
    recipe.golden_path.unlink()
    with pytest.raises(ConfigurationError, match=r"golden\.png"):
        golden_crops(recipe)
