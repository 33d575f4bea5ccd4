"""What OpenCV says of each pin and of the picture, against parts drawn with known faults."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.measure import PinMeasurer
from station.capture.prepare import Preparer, prepare_job
from station.capture.usable import check_usable, look
from station.recipe import PictureLimits, Recipe
from station.records import Job, PinMeasure, Reason, RegionCrop
from tests.pictures import PINS, REGION, Image, Pose, draw_part, encoded, make_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


def prepared(recipe: Recipe, picture: Image, folder: Path) -> Job:
    path = folder / "part.png"
    path.write_bytes(encoded(picture, ".png"))
    return prepare_job(path, "20260101T000000000-00000000", Preparer(recipe, CaptureLimits(2**26, 10**8)))


def measured(recipe: Recipe, picture: Image, folder: Path) -> dict[str, PinMeasure]:
    job = prepared(recipe, picture, folder)
    assert job.failure is None, job.failure
    return dict(zip(PINS, job.crops[0].measured, strict=True))


@pytest.mark.parametrize("pose", [Pose(), Pose(31.3, -17.8, 4.0, 1.02)])
def test_a_good_part_has_every_pin_at_its_place(recipe: Recipe, pose: Pose, tmp_path: Path) -> None:
    for pin in measured(recipe, draw_part(pose, noise=2.0, gain=0.8), tmp_path).values():
        assert pin.presence > 0.9
        assert np.hypot(pin.offset_x_px, pin.offset_y_px) < 0.7
        assert pin.offset_mm is None


def test_a_missing_pin_is_not_there(recipe: Recipe, tmp_path: Path) -> None:
    pins = measured(recipe, draw_part(missing=("A2", "B4"), noise=2.0), tmp_path)
    assert {name for name, pin in pins.items() if pin.presence < 0.5} == {"A2", "B4"}


@pytest.mark.parametrize(("x", "y"), [(6.0, 0.0), (-3.5, 4.0), (0.0, -8.0)])
def test_a_bent_pin_stands_off_by_as_much_as_it_was_bent(recipe: Recipe, x: float, y: float, tmp_path: Path) -> None:
    pins = measured(recipe, draw_part(bent={"B3": (x, y)}, noise=1.0), tmp_path)
    assert pins["B3"].offset_x_px == pytest.approx(x, abs=1.0)
    assert pins["B3"].offset_y_px == pytest.approx(y, abs=1.0)
    others = [np.hypot(pin.offset_x_px, pin.offset_y_px) for name, pin in pins.items() if name != "B3"]
    assert max(others) < 0.7


def test_offsets_are_in_mm_where_the_recipe_knows(recipe: Recipe) -> None:
    region, golden = recipe.file.regions[0], golden_crops(recipe)["pins"]
    height, width = golden.height_px, golden.width_px
    pixels = np.frombuffer(golden.pixels_rgb, np.uint8).reshape(height, width, 3)
    moved = cv2.warpAffine(
        pixels, np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]]), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    crop = RegionCrop(region_id="pins", width_px=width, height_px=height, pixels_rgb=moved.tobytes())
    for pin in PinMeasurer(region, golden, 20.0).measure(crop):
        assert (pin.offset_x_px, pin.offset_y_px) == pytest.approx((3, 4), abs=0.1)
        assert pin.offset_mm == pytest.approx(0.25, abs=0.01)


def test_of_a_flat_picture_no_pin_is_there(recipe: Recipe) -> None:
    golden = golden_crops(recipe)["pins"]
    flat = RegionCrop(
        region_id="pins", width_px=golden.width_px, height_px=golden.height_px, pixels_rgb=bytes(len(golden.pixels_rgb))
    )
    assert all(pin.presence < 0.5 for pin in PinMeasurer(recipe.file.regions[0], golden, None).measure(flat))


def spoilt(kind: str) -> Image:
    part: NDArray[np.float64] = draw_part(noise=1.0).astype(np.float64)
    match kind:
        case "dark":
            return (part * 0.25).astype(np.uint8)
        case "flat light":
            dull: Image = np.array(part.mean() + (part - part.mean()) * 0.2, dtype=np.uint8)
            return dull
        case "blurred":
            blurred: Image = np.array(cv2.GaussianBlur(draw_part(noise=1.0), (0, 0), 9), dtype=np.uint8)
            return blurred
        case _:
            x, y, *_ = REGION
            part[y + 40 : y + 115, x + 120 : x + 210] = 255  # a reflection over two pins
            return part.astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("dark", "light"), ("flat light", "contrast"), ("saturated", "saturated|light"), ("blurred", "sharpness")],
)
def test_a_picture_that_cannot_be_judged_is_not_decidable_and_says_why(
    recipe: Recipe, kind: str, said: str, tmp_path: Path
) -> None:
    failure = prepared(recipe, spoilt(kind), tmp_path).failure
    assert failure
    assert failure.reason is Reason.PICTURE_UNUSABLE
    assert any(word in failure.detail for word in said.split("|"))


@pytest.mark.parametrize("gain", [0.6, 0.8, 1.2])
def test_usual_light_is_usable(recipe: Recipe, gain: float, tmp_path: Path) -> None:
    assert prepared(recipe, draw_part(gain=gain, noise=3.0), tmp_path).failure is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_region_that_is_flat_in_the_golden_picture_is_usable(level: int) -> None:
    flat = RegionCrop(region_id="pins", width_px=80, height_px=60, pixels_rgb=bytes([level]) * (80 * 60 * 3))
    check_usable([flat], {"pins": look(flat)}, PictureLimits())
