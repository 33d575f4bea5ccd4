"""The pictures a model is shown."""

import numpy as np

from station import composite
from station.recipe import Box, Pin, Region
from station.records import RegionCrop

REGION = Region(region_id="field", box=Box(x=100, y=50, width=64, height=32), pins=(Pin(pin_id="A1", x=116, y=66),))


def crop(pixels: np.ndarray) -> RegionCrop:
    height, width = pixels.shape[:2]
    return RegionCrop(region_id="field", width_px=width, height_px=height, pixels_rgb=pixels.tobytes())


def picture(pin: Pin, golden: np.ndarray, test: np.ndarray, tile: int = 16, model: int = 16) -> np.ndarray:
    shown = composite.pin_picture(REGION, pin, golden, test, tile, model)
    return np.frombuffer(shown.pixels_rgb, np.uint8).reshape(shown.height_px, shown.width_px, 3)


def test_pixels_come_back_from_a_crop() -> None:
    pixels = np.arange(32 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 64, 3)
    assert np.array_equal(composite.pixels_of(crop(pixels)), pixels)


def test_a_composite_is_golden_test_and_signed_difference_around_the_pin() -> None:
    rng = np.random.default_rng(1)
    golden, test = rng.integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    shown = picture(REGION.pins[0], golden, test)
    assert shown.shape == (16, 48, 3)
    cut = np.s_[8:24, 8:24]  # the pin stands at (16, 16) of the region
    assert np.array_equal(shown[:, :16], golden[cut])
    assert np.array_equal(shown[:, 16:32], test[cut])
    expected = np.floor((test[cut].astype(float) - golden[cut]) / 2) + 128
    assert np.array_equal(shown[:, 32:], expected)


def test_no_difference_is_mid_grey_and_extremes_do_not_wrap() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert (composite.signed_difference(white, white) == 128).all()
    assert (composite.signed_difference(white, black) == 0).all()
    assert (composite.signed_difference(black, white) == 255).all()


def test_a_tile_over_the_border_repeats_the_border() -> None:
    golden = np.zeros((32, 64, 3), np.uint8)
    golden[0, 0] = 200
    shown = picture(Pin(pin_id="A2", x=100, y=50), golden, golden)
    assert (shown[:8, :8] == 200).all()


def test_tiles_and_regions_get_their_model_size() -> None:
    pixels = np.full((32, 64, 3), 90, np.uint8)
    assert picture(REGION.pins[0], pixels, pixels, tile=20, model=32).shape == (32, 96, 3)
    shown = composite.region_picture(pixels, 128, 48)
    assert (shown.width_px, shown.height_px, set(shown.pixels_rgb)) == (128, 48, {90})


def test_a_dark_picture_is_shown_brighter_and_a_bright_one_as_it_is() -> None:
    pixels = np.array([[[0, 30, 60]], [[61, 100, 255]]], np.uint8)
    assert composite.lit(pixels, 255) is pixels
    assert composite.lit(pixels, 60).ravel().tolist() == [0, 127, 255, 255, 255, 255]
