"""Takes the lens out of a frame: lines that are straight on the part become straight in the picture.

In: a frame, BGR, and what is known of the camera. Out: a frame of the same size as a camera without distortion and with
square pixels would have taken it; it shows as much as can be shown without a pixel that the camera did not see. The
maps are made once (Brown's model, OpenCV's order k1, k2, p1, p2, k3). Runs in capture's one thread.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from station.camera import Camera, Lens
from station.capture.gate import Image
from station.capture.pose import Points

SCALES = (0.5, 2.0)
"""Between these the scale of the corrected picture is looked for, in focal lengths of the lens."""
SCALE_STEPS = 30
BORDER_POINTS = 65
"""A side is looked at in so many places."""

Matrix3 = NDArray[np.float64]


class LensCorrection:
    """Corrects frames of one camera; without a lens in the calibration they stay as they are."""

    def __init__(self, camera: Camera) -> None:
        self._maps = _maps(camera, camera.lens) if camera.lens else None

    def straight(self, frame_bgr: Image) -> Image:
        """Return the corrected frame, same shape. `frame_bgr` must have the calibration's size."""
        if self._maps is None:
            return frame_bgr
        return np.asarray(
            cv2.remap(frame_bgr, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )


def straight_points(camera: Camera, points: Points) -> Points:
    """Return where places (n, 2) of a frame are in the corrected frame."""
    lens = camera.lens
    if lens is None:
        return points
    there = cv2.undistortPoints(
        points.reshape(-1, 1, 2), lens_matrix(lens), np.array(lens.distortion), P=_straight_matrix(camera, lens)
    )
    return np.asarray(there, np.float64).reshape(-1, 2)


def lens_matrix(lens: Lens) -> Matrix3:
    """Return the camera matrix (3, 3)."""
    return np.array([[lens.fx_px, 0, lens.cx_px], [0, lens.fy_px, lens.cy_px], [0, 0, 1]])


def _maps(camera: Camera, lens: Lens) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Return OpenCV's two fixed-point maps, which are the quickest to use."""
    size, matrix = (camera.width_px, camera.height_px), _straight_matrix(camera, lens)
    first, second = cv2.initUndistortRectifyMap(
        lens_matrix(lens), np.array(lens.distortion), np.eye(3), matrix, size, cv2.CV_16SC2
    )
    return np.asarray(first, np.int16), np.asarray(second, np.uint16)


def _straight_matrix(camera: Camera, lens: Lens) -> Matrix3:
    """Return the corrected camera's matrix: square pixels, the least scale at which every pixel was seen."""
    low, high = SCALES
    for _ in range(SCALE_STEPS):
        middle = (low + high) / 2
        if _is_seen(camera, lens, _scaled(lens, middle)):
            high = middle
        else:
            low = middle
    return _scaled(lens, high)


def _scaled(lens: Lens, scale: float) -> Matrix3:
    focal = scale * float(np.sqrt(lens.fx_px * lens.fy_px))
    return np.array([[focal, 0, lens.cx_px], [0, focal, lens.cy_px], [0, 0, 1]])


def _is_seen(camera: Camera, lens: Lens, straight: Matrix3) -> bool:
    """True when the whole border of the corrected picture lies within what the camera saw."""
    right, bottom = camera.width_px - 1, camera.height_px - 1
    along = np.linspace(0, 1, BORDER_POINTS)
    zero = np.zeros_like(along)
    border = np.concatenate(
        [np.column_stack(side) for side in ((along, zero), (along, zero + 1), (zero, along), (zero + 1, along))]
    ) * (right, bottom)
    rays = np.column_stack([(border - straight[:2, 2]) / straight[0, 0], np.ones(len(border))])
    seen = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), lens_matrix(lens), np.array(lens.distortion))[0]
    places = np.asarray(seen, np.float64).reshape(-1, 2)
    return bool((places >= 0).all() and (places <= (right, bottom)).all())
