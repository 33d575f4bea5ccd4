"""Registration against known transforms: shift up to 10 % of the picture, +-10 degrees, +-5 %, other light."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from station.capture.crop import golden_picture
from station.capture.pose import moved, similarity
from station.capture.registration import PartFinder
from station.recipe_file import load_recipe

RECIPE = Path(__file__).parents[3] / "calibration/recipes/pins-27/recipe.yaml"
POSES = 20


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_pins_are_within_half_a_pixel_at_every_pose_and_the_residual_is_honest() -> None:
    recipe = load_recipe(RECIPE)
    golden = golden_picture(recipe)
    height, width = golden.shape[:2]
    finder = PartFinder(recipe.file.registration, golden)
    places = np.array([(pin.x, pin.y) for pin in recipe.file.regions[0].pins])
    rng = np.random.default_rng(7)
    for _ in range(POSES):
        middle = (width / 2, height / 2)
        to = (middle[0] + rng.uniform(-0.1, 0.1) * width, middle[1] + rng.uniform(-0.1, 0.1) * height)
        true = similarity(float(rng.uniform(-9.9, 9.9)), float(rng.uniform(0.95, 1.05)), middle, to)
        warped = cv2.warpAffine(golden, true, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        seen = warped * rng.uniform(0.7, 1.2) + rng.normal(0, 3, warped.shape)
        found = finder.find(np.clip(seen, 0, 255).astype(np.uint8))
        away = np.linalg.norm(moved(np.array(found.matrix), places) - moved(true, places), axis=1)
        assert away.max() < 0.5
        assert found.residual_px < 0.5
