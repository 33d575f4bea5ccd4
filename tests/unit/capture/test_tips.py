"""Where all tips together lie: found through parallax, kept by bent ones, refused beyond the reach."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from station.capture.pose import Matrix, moved, similarity
from station.capture.tips import TipFinder
from station.errors import RegistrationError
from station.recipe import Box, Pin, Region
from station.records import Reason, Registration

PITCH_PX, REACH_PX = 24, 8.0
SIZE = (200, 300)
"""Width and height of the golden picture."""
PLACES = np.array([(64.0 + PITCH_PX * column, 40.0 + PITCH_PX * row) for row in range(9) for column in range(3)])
REGION = Region(
    region_id="field",
    box=Box(x=30, y=10, width=120, height=250),
    pins=tuple(Pin(pin_id=f"P{number}", x=x, y=y) for number, (x, y) in enumerate(PLACES)),
)
AS_FOUND = Registration(
    matrix=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), residual_px=0.3, score=0.9, rotation_deg=0.0, scale=1.0
)
MIDDLE = (88.0, 136.0)


def drawn(places: NDArray[np.float64], seed: int) -> NDArray[np.uint8]:
    """Return a dark, rough housing with a bright tip at each place, BGR."""
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.normal(0, 60, (SIZE[1], SIZE[0])).astype(np.float32), (0, 0), 3.0)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    tips = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.8**2)) for px, py in places)
    grey = 50 + rough + 150 * tips + rng.normal(0, 4, rough.shape)
    return np.asarray(np.clip(grey, 0, 255), np.uint8)[..., None].repeat(3, 2)


@pytest.fixture(scope="module")
def finder() -> TipFinder:
    return TipFinder([REGION], drawn(PLACES, seed=1), REACH_PX)


@pytest.mark.parametrize(
    ("shift", "turn_deg", "scale"), [((0, 0), 0, 1), ((5, -4), 0, 1), ((-3, 2), 1.5, 0.97), ((1, 6), -1, 1.03)]
)
def test_all_tips_together_are_found_though_some_are_bent_and_one_is_missing(
    finder: TipFinder, shift: tuple[float, float], turn_deg: float, scale: float
) -> None:
    true: Matrix = similarity(turn_deg, scale, MIDDLE, (MIDDLE[0] + shift[0], MIDDLE[1] + shift[1]))
    seen = moved(true, PLACES)
    seen[[3, 10, 20]] += [(9, 0), (-8, 6), (0, 10)]
    found = finder.moved(drawn(np.delete(seen, 14, axis=0), seed=2), AS_FOUND)
    away = np.linalg.norm(moved(np.array(found.matrix), PLACES) - moved(true, PLACES), axis=1)
    assert away.max() < 1.0
    assert (found.rotation_deg, found.scale) == pytest.approx((turn_deg, scale), abs=0.4)
    assert (found.residual_px, found.score) == (AS_FOUND.residual_px, AS_FOUND.score)
    arm_px = float(np.linalg.norm(PLACES - PLACES.mean(0), axis=1).max())
    moves = (*shift, np.deg2rad(turn_deg) * arm_px, (scale - 1) * arm_px)
    assert found.tips_moved_px == pytest.approx(max(map(abs, moves)), abs=0.8)


def test_where_nothing_is_like_a_tip_nothing_moves(finder: TipFinder) -> None:
    flat = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    assert np.array(finder.moved(flat, AS_FOUND).matrix) == pytest.approx(np.array(AS_FOUND.matrix), abs=1e-9)


def test_tips_that_lie_farther_off_than_their_reach_are_refused(finder: TipFinder) -> None:
    with pytest.raises(RegistrationError) as caught:
        finder.moved(drawn(PLACES + np.array([REACH_PX + 1.5, 0]), seed=3), AS_FOUND)
    assert caught.value.failure.reason is Reason.BAD_REGISTRATION
    assert "limit 8 px" in caught.value.message
