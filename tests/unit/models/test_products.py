"""The five unseen products: they differ, are drawn as they are described, and are in no training."""

import defects
import draw_frames
import numpy as np
import products
import pytest
import scenes

from calibration.lattice import Lattice
from calibration.stagger import with_stagger


def test_the_shipped_product_is_none_of_the_unseen_ones() -> None:
    assert products.PINS_27 not in products.UNSEEN
    assert len({product.design for product in products.ALL.values()}) == 6


@pytest.mark.parametrize("product", products.UNSEEN, ids=lambda product: str(product.name))
def test_a_missing_pin_changes_its_own_place_only(product: products.Product) -> None:
    rng = np.random.default_rng(4)
    good, _ = draw_frames.draw_scene(rng, 0, product=product)
    bad = scenes.copy_scene(good)
    row, column = product.design.rows - 1, 1
    pin = np.array([[row * scenes.MAX_COLUMNS + column]])
    defects.put_defects(rng, bad, pin, np.array([[defects.MISSING]]), np.array([[0.5]]))
    frames = [
        draw_frames.draw_frame(np.random.default_rng(9), scene, draw_frames.NOMINAL, 0.0, product).astype(int)
        for scene in (good, bad)
    ]
    design, (middle_x, middle_y) = product.design, product.middle
    x = 800 + round((column + design.stagger * (row % 2) - middle_x) * product.pitch_px)
    y = 600 + round((row * design.row_pitch - middle_y) * product.pitch_px)
    changed = np.abs(frames[1] - frames[0]).reshape(1200, 1600, -1).max(axis=2) > 25
    where = np.argwhere(changed)
    assert len(where) > 20
    assert np.abs(where - (y, x)).max() < 0.6 * product.pitch_px
    assert draw_frames.answer_of(bad, 0.5, product).positions == (f"{'ABCDEF'[row]}2",)


def test_a_grey_camera_gives_grey_and_a_coloured_one_the_platings_tint() -> None:
    assert draw_frames.golden_frame(product=products.KEYED_24).ndim == 2
    blue, _, red = draw_frames.golden_frame(product=products.HEADER_20)[590:620, 770:830].reshape(-1, 3).max(axis=0)
    assert red > blue, "gold"


def test_twins_of_random_designs_share_keys_and_staggering() -> None:
    rng = np.random.default_rng(3)
    designs = scenes.draw_designs(rng, 200)
    assert set(np.unique(designs["stagger"])) == {0.0, 0.5}
    assert designs["key"].shape == (200, scenes.KEYS, 7)
    gap = designs["row_pitch"] - designs["blade"] * designs["thickness"]
    assert (gap / designs["thickness"]).min() > defects.LIMITS_T[defects.BENT][0], "a bend has room"


def test_a_staggered_field_is_told_from_a_straight_one() -> None:
    for stagger in (0.0, 0.5, -0.5):
        truth = Lattice(4, 6, (60.0, 50.0), (30.0, 1.0), (0.0, 26.0), 1.0, stagger=stagger)
        spots = np.full((200, 300), -0.2, np.float32)
        for x, y in np.round(truth.places()).astype(int):
            spots[y - 2 : y + 3, x - 2 : x + 3] = 1.0
        # The straight fit leans by a part of the step.
        straight = Lattice(4, 6, (60.0, 50.0), (30.0, 1.0), (stagger * 10.0, 26.0), 1.0)
        assert with_stagger(spots, straight).stagger == stagger
