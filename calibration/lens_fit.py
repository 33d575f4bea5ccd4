"""From views of a board to the lens, and from one flat view to the scale. Zhang's method, as OpenCV has it.

In: views, and the pictures' size. Out: `Lens` and what each view says of it; pixels a millimetre on the corrected
picture. OpenCV only; whether it is good enough is for `camera` to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import View
from calibration.fiducials import Points
from station.camera import Lens
from station.records import Record

CELLS = (8, 6)
"""Columns and rows of cells that a picture is divided into, to see where corners were."""


class ViewFit(Record):
    """How one view fits."""

    image: str
    corners: int
    error_px: float
    tilt_deg: float
    """Between the board and the picture's plane, 0..90."""


@dataclass(frozen=True)
class LensFit:
    """What was found."""

    lens: Lens
    views: tuple[ViewFit, ...]
    focal_spread: float
    """Standard deviation of the focal length, as a share of it."""


class Scale(Record):
    """Pixels a millimetre in a plane."""

    px_per_mm: float
    change: float
    """How much it differs over the corners, as a share."""


def fit_lens(views: Sequence[View], size_px: tuple[int, int]) -> LensFit:
    """Return the lens that fits the views best. k3 stays 0: only the very corners of a picture could tell it."""
    board = [np.column_stack([view.board_mm, np.zeros(len(view.board_mm))]).astype(np.float32) for view in views]
    seen = [view.places.astype(np.float32).reshape(-1, 1, 2) for view in views]
    error, matrix, distortion, turns, _, spreads, _, errors = cv2.calibrateCameraExtended(
        board, seen, size_px, np.eye(3), np.zeros(5), flags=cv2.CALIB_FIX_K3
    )
    k1, k2, p1, p2, k3 = np.ravel(distortion)[:5]
    lens = Lens(
        fx_px=float(matrix[0, 0]),
        fy_px=float(matrix[1, 1]),
        cx_px=float(matrix[0, 2]),
        cy_px=float(matrix[1, 2]),
        distortion=(float(k1), float(k2), float(p1), float(p2), float(k3)),
        error_px=float(error),
        views=len(views),
        coverage=float(np.mean(seen_cells(views, size_px))),
    )
    fits = (
        ViewFit(view.image, len(view.places), float(view_error), _tilt_deg(np.asarray(turn, np.float64)))
        for view, view_error, turn in zip(views, np.ravel(errors), turns, strict=True)
    )
    return LensFit(lens=lens, views=tuple(fits), focal_spread=float(np.ravel(spreads)[0]) / lens.fx_px)


def seen_cells(views: Sequence[View], size_px: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return for each cell (rows, columns) whether a corner of some view was in it."""
    cells = np.zeros(CELLS[::-1], bool)
    for view in views:
        places = (view.places / size_px * CELLS).astype(int).clip(0, (CELLS[0] - 1, CELLS[1] - 1))
        cells[places[:, 1], places[:, 0]] = True
    return cells


def scale_of(places: Points, board_mm: Points) -> Scale:
    """Return the scale of places (n, 2) in a corrected picture: of the similarity that fits them best."""
    here, there = (one[:, 0] + 1j * one[:, 1] for one in (board_mm, places))
    here, there = here - here.mean(), there - there.mean()
    px_per_mm = abs(complex(np.vdot(here, there))) / float(np.vdot(here, here).real)
    local = _local_scales(plane(board_mm, places), board_mm)
    return Scale(px_per_mm=px_per_mm, change=float(np.ptp(local)) / px_per_mm)


def plane(board_mm: Points, places: Points) -> Points:
    """Return the homography (3, 3) from board mm to px."""
    return np.asarray(cv2.findHomography(board_mm, places)[0], np.float64)


def _local_scales(homography: Points, points: Points) -> Points:
    """Return the scale at each point: the root of how much an area there grows."""
    depth = points @ homography[2, :2] + homography[2, 2]
    return np.asarray(np.sqrt(np.abs(np.linalg.det(homography) / depth**3)))


def _tilt_deg(turn: Points) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(cv2.Rodrigues(turn)[0][2, 2]), 0, 1))))
