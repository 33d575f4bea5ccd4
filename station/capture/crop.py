"""Cuts the recipe's regions out of a frame, each warped onto the golden picture's grid.

In: a frame, BGR, and its registration. Out: RegionCrops, RGB, one per region in recipe order, each of the size of its
box; pixel (0, 0) of a crop is the box's corner, whatever the part's pose was. A region that is not wholly in the frame
is refused (RegistrationError, REGION_OUTSIDE_PICTURE). Runs in capture's one thread.
"""

import cv2
import numpy as np

from station.capture.gate import CaptureLimits, Image, declared_size, decode
from station.capture.pose import Matrix, moved, of_box
from station.errors import CaptureError, ConfigurationError, RegistrationError
from station.recipe import Box, Recipe, Region
from station.records import Reason, RegionCrop, Registration

EDGE_PX = 0.5
"""A pixel reaches so far beyond its centre."""
GOLDEN_LIMITS = CaptureLimits(max_file_bytes=512 * 1024 * 1024, max_pixels=200_000_000)
IDENTITY = np.eye(2, 3)


def crops(frame_bgr: Image, recipe: Recipe, registration: Registration) -> tuple[RegionCrop, ...]:
    """Return the crop of every region of the recipe. Raises RegistrationError if one leaves the frame."""
    matrix = np.array(registration.matrix)
    return tuple(_crop(frame_bgr, region, matrix) for region in recipe.file.regions)


def golden_crops(recipe: Recipe) -> dict[str, RegionCrop]:
    """Return the crop of every region from the golden picture itself, by region id. Raises ConfigurationError."""
    golden = golden_picture(recipe)
    try:
        return {region.region_id: _crop(golden, region, IDENTITY) for region in recipe.file.regions}
    except RegistrationError as error:
        raise ConfigurationError(
            [f"{recipe.golden_path}: {error.message}"], "Correct the region's box in recipe.yaml."
        ) from error


def golden_picture(recipe: Recipe) -> Image:
    """Return the pixels of the golden picture, BGR. Raises ConfigurationError."""
    try:
        data = recipe.golden_path.read_bytes()
        size = declared_size(recipe.golden_path.name, data, len(data), GOLDEN_LIMITS)
        return decode(recipe.golden_path.name, data, size)
    except (OSError, CaptureError) as error:
        raise ConfigurationError(
            [f"{recipe.golden_path}: the golden picture cannot be read: {error}"],
            "Put the golden picture back beside recipe.yaml, or teach the recipe again.",
        ) from error


def _crop(frame_bgr: Image, region: Region, matrix: Matrix) -> RegionCrop:
    box = region.box
    _check_in_frame(region.region_id, moved(matrix, _corners(box)), frame_bgr)
    pixels = cv2.warpAffine(
        frame_bgr,
        of_box(matrix, box.x, box.y),
        (box.width, box.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return RegionCrop(
        region_id=region.region_id,
        width_px=box.width,
        height_px=box.height,
        pixels_rgb=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).tobytes(),
    )


def _corners(box: Box) -> Matrix:
    """Return the centres of the box's four corner pixels, (4, 2)."""
    right, bottom = box.x + box.width - 1, box.y + box.height - 1
    return np.array([(box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)], np.float64)


def _check_in_frame(region_id: str, corners: Matrix, frame_bgr: Image) -> None:
    height, width = frame_bgr.shape[:2]
    if (corners < -EDGE_PX).any() or (corners > (width - 1 + EDGE_PX, height - 1 + EDGE_PX)).any():
        places = "; ".join(f"({x:.0f}, {y:.0f})" for x, y in corners)
        raise RegistrationError(
            Reason.REGION_OUTSIDE_PICTURE,
            f"Region {region_id} is not wholly in the picture ({width} x {height} px): its corners are at {places}.",
            "Bring the part to the middle of the camera's view, or correct the region's box in the recipe.",
        )
