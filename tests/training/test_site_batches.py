"""What a LoRA is trained with on site: labels follow the pixels, real defects come in, twins differ in one thing."""

from pathlib import Path

import defects
import numpy as np
import pytest
import site_pins
from site_pins import RIM_PX, TILE_PX, UNDECIDABLE, SitePins

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-training")
site_edits = pytest.importorskip("site_edits")
site_surface = pytest.importorskip("site_surface")

SIDE = TILE_PX + 2 * RIM_PX
MISSING, BENT = defects.MISSING, defects.BENT
EVERY = tuple(range(1, len(defects.MODES)))
REAL_LEVEL = 200
"""Of the tiles that stand for real defects: nothing that is made by editing is flat."""


def pins(real: dict[int, int], blind: int = 0) -> SitePins:
    """Return 40 good pins, a bright tip on a rough ground, and so many flat tiles of each mode in `real`."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    tip = 60 + 140 / (1 + np.exp((np.hypot(x, y) - 9) / 1.0))
    good = np.clip(tip + rng.normal(0, 4, (40, SIDE, SIDE)), 0, 255).astype(np.uint8)
    mode = [0] * 40 + [number for number, count in real.items() for _ in range(count)] + [UNDECIDABLE] * blind
    flat = np.full((len(mode) - 40, SIDE, SIDE), REAL_LEVEL, np.uint8)
    golden = np.clip(tip, 0, 255).astype(np.uint8)[None, ..., None]
    tests = np.concatenate([good, flat])[..., None]
    return SitePins(golden, tests, np.zeros(len(mode), np.int32), np.array(mode, np.int32))


def drawn(real: dict[int, int], size: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    picture, labels = site_edits.SiteBatches(pins(real), EVERY, "cpu", seed).draw(size)
    return picture.numpy(), labels["judgement"].numpy(), labels["mode"].numpy()


def test_a_batch_is_half_defective_half_twins_and_the_last_of_each_half_undecidable() -> None:
    picture, judgement, mode = drawn({})
    assert picture.shape == (400, 3, TILE_PX, 3 * TILE_PX)
    assert 0 <= picture.min() < picture.max() <= 255
    blind = max(2, round(200 * site_edits.BLIND_SHARE))
    expected = np.repeat([1, 2, 0, 2], [200 - blind, blind, 200 - blind, blind])
    assert np.array_equal(judgement, expected)
    assert np.array_equal(mode > 0, judgement == 1)
    assert set(mode[judgement == 1]) == set(EVERY)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another() -> None:
    first, again, other = drawn({}, 64)[0], drawn({}, 64)[0], drawn({}, 64, seed=2)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_edit_is_seen_and_its_twin_is_not_edited() -> None:
    picture, judgement, mode = drawn({})
    difference = np.abs(picture[:, 0, :, 2 * TILE_PX :] - 128).mean((1, 2))  # the composite's third part
    for number in EVERY:
        edited = np.flatnonzero((judgement == 1) & (mode == number))
        twins = difference[edited + 200]
        assert (np.abs(picture[edited] - picture[edited + 200]).max((1, 2, 3)) > 20).all(), defects.MODES[number]
        assert np.median(difference[edited]) > np.median(twins), defects.MODES[number]


def real_share(real: dict[int, int], number: int) -> float:
    """Return how many of the defective samples of a mode are the set's own."""
    picture, judgement, mode = drawn(real)
    here = picture[(judgement == 1) & (mode == number), 0, :, TILE_PX : 2 * TILE_PX]
    return float((here.std((1, 2)) < 9).mean())


def test_a_mode_with_few_real_defects_is_edited_too_and_one_with_enough_is_not() -> None:
    few, enough = {BENT: site_edits.ENOUGH - 1}, {BENT: site_edits.ENOUGH}
    assert real_share(few, BENT) < 0.95
    assert real_share(enough, BENT) == 1.0
    modes = drawn(enough)[2]
    assert set(modes[modes > 0]) == set(EVERY), "the other modes are still made by editing"


def test_with_enough_of_every_mode_nothing_is_edited() -> None:
    picture, judgement, _ = drawn(dict.fromkeys(EVERY, site_edits.ENOUGH))
    assert (picture[judgement == 1, 0, :, TILE_PX : 2 * TILE_PX].std((1, 2)) < 9).all()


def test_real_undecidable_pins_stand_among_the_undecidable_ones() -> None:
    batches = site_edits.SiteBatches(pins({}, blind=3), EVERY, "cpu", 1)
    picture, labels = batches.draw(400)
    tests = picture.numpy()[labels["judgement"].numpy() == 2, 0, :, TILE_PX : 2 * TILE_PX]
    assert (tests == REAL_LEVEL).all((1, 2)).sum() >= 10


def test_a_grey_golden_tile_is_undecidable() -> None:
    picture, judgement, _ = drawn({})
    golden = picture[:, 0, :, :TILE_PX]
    grey = golden.std((1, 2)) < 1e-3
    assert grey.any()
    assert (judgement[grey] == 2).all()


def test_a_surface_is_edited_anywhere_and_only_by_dirt_and_bridges() -> None:
    picture, labels = site_surface.SurfaceBatches(pins({}), "cpu", 3).draw(200)
    mode = labels["mode"].numpy()
    assert picture.shape == (200, 3, TILE_PX, 3 * TILE_PX)
    assert set(mode[:100]) == {defects.CONTAMINATED, defects.SHORT}
    assert not mode[100:].any()
    changed = np.abs(
        picture.numpy()[:100, 0, :, TILE_PX : 2 * TILE_PX] - picture.numpy()[100:, 0, :, TILE_PX : 2 * TILE_PX]
    )
    middle = changed[:, 24:40, 24:40].max((1, 2)) > 60
    assert 0.05 < middle.mean() < 0.95


def test_pins_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "pins.npz"
    made = pins({MISSING: 2}, blind=1)
    made.save(path)
    read = site_pins.load(path)
    for name in ("golden", "tests", "golden_of", "mode"):
        assert np.array_equal(getattr(read, name), getattr(made, name)), name
