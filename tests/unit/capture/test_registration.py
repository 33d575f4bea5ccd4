"""The part is found to a fraction of a pixel, or refused; never guessed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from station.capture.pose import moved
from station.capture.registration import PartFinder
from station.errors import RegistrationError
from station.recipe import RegistrationLimits
from station.records import Reason, Registration
from tests.pictures import CENTRE, PINS, Image, Pose, draw_part, empty_scene, recipe_data

LIMITS = RegistrationLimits.model_validate(recipe_data()["registration"])
PIN_PLACES = np.array(list(PINS.values()))
MOST_OFF_PX = 0.2


@pytest.fixture(scope="module")
def finder() -> PartFinder:
    return PartFinder(LIMITS, draw_part())


def off_px(found: Registration, pose: Pose) -> float:
    """Return how far the worst pin is off, in frame px."""
    places, truth = moved(np.array(found.matrix), PIN_PLACES), moved(pose.matrix(), PIN_PLACES)
    return float(np.linalg.norm(places - truth, axis=1).max())


def refusal(finder: PartFinder, frame: Image) -> RegistrationError:
    with pytest.raises(RegistrationError) as caught:
        finder.find(frame)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("seed", range(40))
def test_any_pose_light_and_noise_within_the_limits_is_found_exactly(finder: PartFinder, seed: int) -> None:
    random = np.random.default_rng(seed)
    pose = Pose(
        shift_x=random.uniform(-160, 160),
        shift_y=random.uniform(-110, 110),
        rotation_deg=random.uniform(-10, 10),
        scale=random.uniform(0.95, 1.05),
    )
    frame = draw_part(pose, gain=random.uniform(0.7, 1.3), noise=random.uniform(0, 6), seed=seed)
    found = finder.find(frame)
    assert off_px(found, pose) < MOST_OFF_PX
    assert found.residual_px < MOST_OFF_PX
    assert found.score > 0.9
    assert found.rotation_deg == pytest.approx(pose.rotation_deg, abs=0.05)
    assert found.scale == pytest.approx(pose.scale, abs=0.001)


def test_defective_pins_do_not_move_the_registration(finder: PartFinder) -> None:
    pose = Pose(31, -17, 4, 1.02)
    frame = draw_part(pose, missing=("A1", "A2", "B4"), bent={"B1": (9, 3), "A4": (-6, 8)})
    assert off_px(finder.find(frame), pose) < MOST_OFF_PX


def test_one_pitch_aside_is_not_mistaken_for_the_part_in_the_middle(finder: PartFinder) -> None:
    pose = Pose(shift_x=80)
    assert off_px(finder.find(draw_part(pose)), pose) < MOST_OFF_PX


@pytest.mark.parametrize("level", [0, 70, 255])
@pytest.mark.parametrize("noise", [0.0, 3.0, 40.0])
def test_a_frame_without_a_part_is_refused(finder: PartFinder, level: int, noise: float) -> None:
    assert refusal(finder, empty_scene(level=level, noise=noise)).reason is Reason.PART_NOT_FOUND


def test_a_saturated_part_is_refused(finder: PartFinder) -> None:
    assert refusal(finder, draw_part(gain=30)).reason in {Reason.PART_NOT_FOUND, Reason.BAD_REGISTRATION}


@pytest.mark.parametrize("rotation_deg", [90.0, 180.0])
def test_a_part_that_lies_wrong_is_refused(finder: PartFinder, rotation_deg: float) -> None:
    refusal(finder, draw_part(Pose(rotation_deg=rotation_deg)))


def test_a_rotation_or_scale_just_beyond_the_limit_is_refused_with_its_figure(finder: PartFinder) -> None:
    error = refusal(finder, draw_part(Pose(rotation_deg=13)))
    assert error.reason is Reason.BAD_REGISTRATION
    assert "rotation 13.0 deg" in error.message
    error = refusal(finder, draw_part(Pose(scale=1.075)))
    assert error.reason is Reason.BAD_REGISTRATION
    assert "scale 1.075" in error.message


def test_a_covered_fiducial_shows_in_the_residual_and_hardly_moves_the_place() -> None:
    finder = PartFinder(LIMITS.model_copy(update={"max_residual_px": 10.0, "min_score": 0.3}), draw_part())
    pose = Pose(20, 10, 3)
    frame = draw_part(pose)
    corner = moved(pose.matrix(), np.array([[580.0, 190.0]]))[0]
    cv2.circle(frame, (int(corner[0]) + 5, int(corner[1]) + 4), 30, (150, 150, 150), -1)
    cv2.circle(frame, (int(corner[0]) + 12, int(corner[1]) - 9), 8, (20, 20, 20), -1)
    found = finder.find(frame)
    assert off_px(found, pose) < 2 * MOST_OFF_PX
    assert found.residual_px > 0.5


def test_a_residual_above_the_recipes_limit_is_refused() -> None:
    finder = PartFinder(LIMITS.model_copy(update={"max_residual_px": 0.001}), draw_part())
    error = refusal(finder, draw_part(Pose(12.3, 4.5, 6, 1.03), noise=5))
    assert error.reason is Reason.BAD_REGISTRATION
    assert "residual" in error.message


def test_a_squeezed_part_is_refused_for_its_residual(finder: PartFinder) -> None:
    stretch = np.array([[1.03, 0, -0.03 * CENTRE[0]], [0, 0.97, 0.03 * CENTRE[1]]])
    squeezed = np.asarray(cv2.warpAffine(draw_part(), stretch, (800, 600), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    assert refusal(finder, squeezed).reason is Reason.BAD_REGISTRATION


def test_the_same_frame_gives_the_same_registration(finder: PartFinder) -> None:
    frame = draw_part(replace(Pose(), shift_x=7.7), noise=4)
    assert finder.find(frame) == finder.find(frame)
