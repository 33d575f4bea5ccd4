"""The pictures a model is shown, made from region crops exactly as in training. Pillow's only home.

A pin's composite is golden | test | signed difference, three square tiles side by side; mid-grey (128) in the third
means no difference. Pictures get their model size here, so that nothing behind ever resizes one.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from station.engine.base import Picture
from station.recipe import Pin, Region
from station.records import RegionCrop

Pixels = npt.NDArray[np.uint8]


def pixels_of(crop: RegionCrop) -> Pixels:
    """Return the crop as (height, width, 3) RGB uint8."""
    return np.frombuffer(crop.pixels_rgb, np.uint8).reshape(crop.height_px, crop.width_px, 3)


def lit(pixels: Pixels, white_level: int) -> Pixels:
    """Return the pixels made brighter so that `white_level` becomes 255; what is above it is white too."""
    if white_level == 255:
        return pixels
    table = np.minimum(np.arange(256) * 255 // white_level, 255).astype(np.uint8)
    return table[pixels]


def pin_picture(region: Region, pin: Pin, golden: Pixels, test: Pixels, tile_px: int, tile_model_px: int) -> Picture:
    """Return the composite of one pin, 3 * tile_model_px wide and tile_model_px high.

    `golden`, `test`: the region's crops on the golden grid, (height, width, 3). A tile that reaches over the region's
    border repeats the border's pixels.
    """
    x, y = round(pin.x) - region.box.x - tile_px // 2, round(pin.y) - region.box.y - tile_px // 2
    tiles = [_resize(_cut(crop, x, y, tile_px), tile_model_px, tile_model_px) for crop in (golden, test)]
    return picture_of(np.concatenate([*tiles, signed_difference(*tiles)], axis=1))


def signed_difference(golden: Pixels, test: Pixels) -> Pixels:
    """Return 128 + (test - golden) / 2, rounded down, 0..255."""
    return (((test.astype(np.int16) - golden) >> 1) + 128).astype(np.uint8)


def region_picture(crop: Pixels, width_px: int, height_px: int) -> Picture:
    """Return the whole region at its model size."""
    return picture_of(_resize(crop, width_px, height_px))


def picture_of(pixels: Pixels) -> Picture:
    """Return (height, width, 3) RGB pixels as a picture."""
    return Picture(width_px=pixels.shape[1], height_px=pixels.shape[0], pixels_rgb=pixels.tobytes())


def _cut(pixels: Pixels, x: int, y: int, side: int) -> Pixels:
    if 0 <= x <= pixels.shape[1] - side and 0 <= y <= pixels.shape[0] - side:
        return pixels[y : y + side, x : x + side]
    rows = np.clip(np.arange(y, y + side), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, pixels.shape[1] - 1)
    return pixels[rows][:, columns]


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
