"""A frame without its lens: what is straight on the part is straight, and what is measured in mm is right."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calibration.board import View, find_board
from calibration.fiducials import png
from station.camera import Camera
from station.capture.gate import CaptureLimits
from station.capture.lens import LensCorrection, straight_points
from station.capture.prepare import Preparer, prepare_job
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import PinMeasure
from tests.camera_views import (
    BOARD,
    FINE,
    KnownCamera,
    Plane,
    Points,
    board_poses,
    seen,
    true_calibration,
    write_calibration,
    write_views,
)
from tests.pictures import FIDUCIALS, PART, PINS, REGION, Image, draw_part, encoded, sha256_of, write_recipe

KNOWN = KnownCamera()
PINCUSHION = KnownCamera(distortion=(0.15, -0.02, -0.001, 0.001, 0.0), centre_px=(380.0, 310.0))
DRAWN_PX_PER_MM = 10.0
"""The drawn part's pixels, one a golden pixel, are taken for so many a millimetre."""
BENT_MM = (0.5, -0.4)


def test_the_squares_of_a_board_become_equal(tmp_path: Path) -> None:
    picture = cv2.imread(str(write_views(tmp_path, KNOWN, board_poses()[:1])[0]))
    assert picture is not None
    frame = np.asarray(picture, np.uint8)
    straight = LensCorrection(true_calibration(KNOWN)).straight(frame)
    assert from_equal_px(find_board(BOARD, "as taken", frame)) > 2
    assert from_equal_px(find_board(BOARD, "straight", straight)) < 0.35


def from_equal_px(view: View) -> float:
    """Return how far the farthest corner is from where it would be if all squares were equal."""
    assert view.is_enough
    here, there = (one[:, 0] + 1j * one[:, 1] for one in (view.board_mm, view.places))
    turn, shift = np.polyfit(here, there, 1)
    return float(np.abs(turn * here + shift - there).max())


@pytest.mark.parametrize("known", [KNOWN, PINCUSHION])
def test_the_corrected_frame_shows_nothing_that_was_not_seen_and_hardly_less(known: KnownCamera) -> None:
    camera = true_calibration(known)
    along = np.linspace(0, 1, 50)
    width, height = camera.width_px - 1, camera.height_px - 1
    border = [(t * width, y) for t in along for y in (0, height)] + [(x, t * height) for t in along for x in (0, width)]
    places = straight_points(camera, np.array(border))
    inside = np.minimum(places, np.array([width, height]) - places).min(axis=1)
    assert inside.max() < 0.05, "the frame's border lies outside the corrected picture, or on its border"
    assert inside.max() > -1.0, "and touches it somewhere: nothing is cut away without need"


def test_without_a_lens_in_the_calibration_frames_stay_as_they_are() -> None:
    frame = draw_part()
    assert LensCorrection(true_calibration(KNOWN).model_copy(update={"lens": None})).straight(frame) is frame


def taken(pose: Plane, bent: bool) -> Image:
    """Return what the camera sees of the drawn part, with pin B2 bent or not; the part's middle is the plane's."""
    shift = tuple(DRAWN_PX_PER_MM * mm for mm in BENT_MM)
    texture = draw_part(bent={"B2": (shift[0], shift[1])} if bent else None, enlarge=FINE)
    return seen(KNOWN, texture, FINE * DRAWN_PX_PER_MM, pose, seed=int(bent))


GOLDEN = Plane((40.0, 30.0), (-0.5, 0.5, 110.0))


def recipe_of(folder: Path, camera: Camera | None) -> Recipe:
    """Write a recipe whose golden picture the camera took, corrected if `camera`, every place where it is seen."""
    folder.mkdir()
    golden = taken(GOLDEN, bent=False)
    extra: dict[str, Any] = {"measurement": {"px_per_mm": 10.0}}
    if camera:
        path = write_calibration(folder / "camera.yaml", camera)
        golden = LensCorrection(camera).straight(golden)
        extra = {"camera": path.name, "camera_sha256": sha256_of(path)}

    def placed(points: list[tuple[float, float]]) -> Points:
        there = KNOWN.places((np.array(points) + 0.5) / DRAWN_PX_PER_MM, GOLDEN)
        return straight_points(camera, there) if camera else there

    def box(corner: tuple[int, int, int, int]) -> dict[str, int]:
        x, y, width, height = corner
        low, high = placed([(x, y), (x + width, y + height)]).round().astype(int)
        size = high - low
        return {"x": int(low[0]), "y": int(low[1]), "width": int(size[0]), "height": int(size[1])}

    pins = placed(list(PINS.values()))
    region = {
        "region_id": "pins",
        "box": box(REGION),
        "pins": [
            {"pin_id": name, "x": round(float(x), 1), "y": round(float(y), 1)}
            for name, (x, y) in zip(PINS, pins, strict=True)
        ],
    }
    registration = {
        "part": box(PART), "fiducials": [box(one) for one in FIDUCIALS],
        "max_rotation_deg": 12, "max_scale_change": 0.06, "max_residual_px": 6.0, "min_score": 0.5,
    }  # fmt: skip
    path = write_recipe(folder, golden_png=png(golden), registration=registration, regions=[region], **extra)
    return load_recipe(path)


def offsets_mm(recipe: Recipe, frame: Image, folder: Path) -> dict[str, float]:
    """Return how far each pin is said to stand off, through the way of every picture."""
    path = folder / "part.png"
    path.write_bytes(encoded(frame, ".png"))
    job = prepare_job(path, "20260101T000000000-00000000", Preparer(recipe, CaptureLimits(2**26, 10**8)))
    assert job.failure is None, job.failure
    return dict(zip(PINS, map(length_mm, job.crops[0].measured), strict=True))


def length_mm(measure: PinMeasure) -> float:
    assert measure.offset_mm is not None
    return measure.offset_mm


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_offsets_in_mm_are_right_with_the_correction_and_not_without(tmp_path: Path) -> None:
    camera = true_calibration(KNOWN)
    flat = KNOWN.places(np.array([(0.0, 0.0), (10.0, 0.0)]), Plane((0.0, 0.0)))
    per_mm = float(np.linalg.norm(np.diff(straight_points(camera, flat), axis=0))) / 10
    recipes = {
        "with": recipe_of(tmp_path / "with", camera.model_copy(update={"px_per_mm": per_mm})),
        "without": recipe_of(tmp_path / "without", None),
    }
    worst = dict.fromkeys(recipes, 0.0)
    for at, turn in (((11.0, 8.0), 0.0), ((-11.0, -8.0), 0.0), ((-10.0, 7.0), 6.0), ((10.0, -7.0), -6.0)):
        frame = taken(Plane((40.0, 30.0), (*at, 110.0), (0.0, 0.0, turn)), bent=True)
        for name, recipe in recipes.items():
            said = offsets_mm(recipe, frame, tmp_path)
            known = {pin: float(np.hypot(*BENT_MM)) if pin == "B2" else 0.0 for pin in PINS}
            worst[name] = max(worst[name], *(abs(said[pin] - known[pin]) for pin in PINS))
    assert worst["with"] < 0.02, worst
    assert worst["without"] > 5 * worst["with"], worst
