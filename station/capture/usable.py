"""Is this picture one that can be judged: light, contrast, saturation and sharpness against the golden picture.

In: the crops of the regions, and the recipe's limits. Out: nothing, or CaptureError (PICTURE_UNUSABLE) that names what
is wrong. It looks only where the pins are, so the bench around the part may be as it likes. About 1 ms a region.
"""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from station.errors import CaptureError
from station.recipe import PictureLimits
from station.records import Reason, Record, RegionCrop

SATURATED = 254
BLUR_PX = 1.0
"""Taken before sharpness is measured, so that noise does not count as sharp."""
LEAST_CONTRAST, LEAST_LAPLACIAN = 2.0, 1.0
"""A golden picture with less has no contrast, or no sharpness, to compare with: a board's corner without tracks."""


class Look(Record):
    """What a crop looks like."""

    light: float
    """Mean grey level."""
    contrast: float
    """Standard deviation of the grey levels."""
    saturated: float
    """Share of pixels at the top of the range."""
    sharpness: float
    """Variance of the Laplacian."""


def look(crop: RegionCrop) -> Look:
    """Return what the crop looks like."""
    pixels = np.frombuffer(crop.pixels_rgb, np.uint8).reshape(crop.height_px, crop.width_px, 3)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    smooth: npt.NDArray[np.float32] = cv2.GaussianBlur(grey, (0, 0), BLUR_PX).astype(np.float32)
    return Look(
        light=float(grey.mean()),
        contrast=float(grey.std()),
        saturated=float((grey >= SATURATED).mean()),
        sharpness=float(cv2.Laplacian(smooth, cv2.CV_32F).var()),
    )


def check_usable(crops: Iterable[RegionCrop], golden: Mapping[str, Look], limits: PictureLimits) -> None:
    """Raise CaptureError if a crop is too far from the golden picture's to be judged."""
    for crop in crops:
        if problem := _problem(look(crop), golden[crop.region_id], limits):
            raise CaptureError(
                Reason.PICTURE_UNUSABLE,
                f"Region {crop.region_id} {problem}.",
                "Look at lamp, lens and exposure; if it is meant to be so, teach the recipe again.",
            )


def _problem(now: Look, golden: Look, limits: PictureLimits) -> str:
    light = max(1.0, now.light) / max(1.0, golden.light)
    contrast = now.contrast / golden.contrast if golden.contrast >= LEAST_CONTRAST else 1.0
    if not limits.min_light <= light <= limits.max_light:
        return f"has {light:.2f} times the golden picture's light, {limits.min_light} to {limits.max_light} is allowed"
    if now.saturated > golden.saturated + limits.max_saturated:
        return (
            f"is saturated on {now.saturated:.0%}, {limits.max_saturated:.0%} more than the golden picture is allowed"
        )
    if contrast < limits.min_contrast:
        return f"has {contrast:.2f} times the golden picture's contrast, {limits.min_contrast} is the least"
    sharpness = now.sharpness / golden.sharpness if golden.sharpness >= LEAST_LAPLACIAN else 1.0
    if sharpness < limits.min_sharpness:
        return f"has {sharpness:.2f} times the golden picture's sharpness, {limits.min_sharpness} is the least"
    return ""
