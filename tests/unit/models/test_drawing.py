"""Drawn pictures: the same seed gives the same pixels, and what is drawn is what the answer says."""

import dataclasses
from pathlib import Path

import cv2
import defects
import draw_frames
import numpy as np
import pytest
import sampling
import scenes

ROOT = Path(__file__).parents[3]
T = scenes.PINS_27.thickness


def scene_with(mode: int, severity: float, seed: int = 3) -> scenes.Scene:
    rng = np.random.default_rng(seed)
    scene, _ = draw_frames.draw_scene(rng, 0)
    pins = np.array([[1 * scenes.MAX_COLUMNS + 4]])
    defects.put_defects(rng, scene, pins, np.array([[mode]]), np.array([[severity]]))
    return scene


def test_the_golden_picture_is_the_one_that_ships() -> None:
    shipped = cv2.imread(str(ROOT / "calibration/recipes/pins-27/golden.png"), cv2.IMREAD_GRAYSCALE)
    assert shipped is not None
    assert np.array_equal(draw_frames.golden_frame(), shipped)


def test_the_same_seed_draws_the_same_set() -> None:
    first, second = (list(draw_frames.draw_set(2, seed=5)) for _ in range(2))
    assert first == second
    assert first[0][1] != next(iter(draw_frames.draw_set(1, seed=6)))[1]


@pytest.mark.parametrize(("severity", "offset_t"), [(0.0, 0.65), (1.0, 1 / T - 1.04)])
def test_a_bend_begins_at_065_t_and_ends_short_of_the_neighbour(severity: float, offset_t: float) -> None:
    x, y, _, level = scene_with(defects.BENT, severity)["tip"][0, 0]
    assert np.hypot(x - 4, y - 1) / T == pytest.approx(offset_t, abs=1e-9)
    assert level > 0


def test_no_good_pin_stands_further_off_than_the_benign_limit() -> None:
    rng = np.random.default_rng(1)
    scene = scenes.draw_parts(rng, scenes.draw_designs(rng, 500, scenes.PINS_27))
    assert np.hypot(scene["dx"], scene["dy"]).max() / T < scenes.BENIGN_BEND_T
    assert not scene["mode"].any()


@pytest.mark.parametrize("mode", range(1, len(defects.MODES)))
@pytest.mark.parametrize("severity", [0.0, 1.0])
def test_every_defect_changes_the_picture_at_its_place(mode: int, severity: float) -> None:
    good, bad = scene_with(defects.NONE, 0.0), scene_with(mode, severity)
    frames = [
        draw_frames.draw_frame(np.random.default_rng(9), scene, draw_frames.NOMINAL, spread=0.0).astype(int)
        for scene in (good, bad)
    ]
    x, y, reach = 800, 600, sampling.PITCH_PX  # pin B5 stands in the middle
    near = np.s_[y - reach : y + reach, x - reach : x + reach]
    assert np.abs(frames[1][near] - frames[0][near]).max() > 25


def test_a_short_is_on_both_pins_and_a_missing_pin_lowers_the_count() -> None:
    short = draw_frames.answer_of(scene_with(defects.SHORT, 0.5), 0.5)
    assert short.modes == ("short", "short")
    assert short.pin_count == 27
    missing = draw_frames.answer_of(scene_with(defects.MISSING, 0.5), 0.5)
    assert (missing.modes, missing.positions, missing.pin_count) == (("missing",), ("B5",), 26)


def test_a_pin_has_one_defect_only() -> None:
    rng = np.random.default_rng(2)
    scene = scene_with(defects.MISSING, 0.5)
    same = np.array([[1 * scenes.MAX_COLUMNS + 4]])
    defects.put_defects(rng, scene, same, np.array([[defects.BENT]]), np.array([[0.5]]))
    assert scene["mode"][0, same[0, 0]] == defects.MISSING
    assert not scene["tip"].any()


@pytest.mark.parametrize(("offset_t", "mode"), [(0.8, defects.BENT), (0.51, defects.BENT), (0.49, defects.NONE)])
def test_a_bend_about_the_limit_is_drawn_as_every_bend_is_and_passes_up_to_the_limit(
    offset_t: float, mode: int
) -> None:
    low, high = 0.65, 1 / T - 1.04
    defect = scene_with(defects.BENT, (offset_t - low) / (high - low))
    rng = np.random.default_rng(3)
    scene, _ = draw_frames.draw_scene(rng, 0)
    pin = 1 * scenes.MAX_COLUMNS + 4
    defects.put_bends(rng, scene, 0, np.array([pin]), np.array([offset_t]))
    assert scene["mode"][0, pin] == mode
    for key in ("tip", "bar", "drawn", "blob", "level"):
        assert np.allclose(scene[key], defect[key]), key


def test_pairs_about_the_limit_have_a_bend_on_each_side_of_it() -> None:
    variation = dataclasses.replace(sampling.PRODUCT, limit_share=1.0)
    batch = sampling.draw_pins(sampling.step_rng(7, 0), 500, scenes.PINS_27, variation)
    tip, pin = batch["scene.tip"][:, 1], batch["target"]  # slot 1 is the target's
    offset = np.hypot(tip[:, 0] - pin % scenes.MAX_COLUMNS, tip[:, 1] - pin // scenes.MAX_COLUMNS) / T
    bent, decidable = tip[:, 3] > 0, batch["negative"] < 0
    bad = batch["judgement"] == sampling.DEFECTIVE
    assert bent.mean() > 0.8, "but for pins that are short with a neighbour"
    assert offset[bent & bad].min() > 0.5 > offset[bent & ~bad & decidable].max()
    near = [(np.abs(offset - 0.5) < 0.1)[bent & decidable & side].mean() for side in (bad, ~bad)]
    assert near[0] == pytest.approx(near[1], abs=0.1), "as many on either side, or the limit moves"
    other = ~bent[:500] & bent[500:] & decidable[:500]
    assert other.mean() == pytest.approx(0.3, abs=0.1), "a bend that passes beside another defect, most of all dirt"
    soiled = batch["mode"][:500] == defects.CONTAMINATED
    assert (other & soiled).sum() > 0.35 * other.sum()


def test_pictures_of_other_trainings_have_no_bend_that_passes() -> None:
    batch = sampling.draw_pins(sampling.step_rng(7, 0), 64, None, sampling.BASE)
    tips = batch["scene.tip"][:, :, 3] > 0
    assert tips.any()
    assert (tips.sum(1) <= (batch["scene.mode"] == defects.BENT).sum(1)).all()


def test_twins_differ_in_the_target_only_and_labels_follow_the_scene() -> None:
    batch = sampling.draw_pins(sampling.step_rng(7, 0), 64, None, sampling.BASE)
    half = 64
    for key in ("view.scale", "view.noise", "extent", "target", "negative", "scene.base"):
        assert np.array_equal(batch[key][:half], batch[key][half:]), key
    decidable = batch["negative"] < 0
    assert set(batch["judgement"][~decidable]) == {sampling.UNDECIDABLE}
    assert np.array_equal(batch["judgement"][decidable] == sampling.DEFECTIVE, batch["mode"][decidable] > 0)
    assert (batch["mode"][:half][decidable[:half]] > 0).all()


def test_a_step_depends_on_seed_and_number_alone() -> None:
    first, second = (sampling.draw_regions(sampling.step_rng(7, 3), 8, None, sampling.BASE, (400, 160)) for _ in "ab")
    assert all(np.array_equal(first[key], second[key]) for key in first)
