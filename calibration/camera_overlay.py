"""The picture that shows whether a calibration of the camera is right: look at it.

Left the flat view as it was taken, with every corner of every view (green) and the cells in which none was (red). Right
the corrected view with the board's lines where they must be: each thin line must lie on the edges of the squares.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from calibration.board import View
from calibration.fiducials import Image, Points
from calibration.lens_fit import CELLS, plane, seen_cells
from station.camera import Camera
from station.capture.lens import LensCorrection, straight_points

GREEN, RED = (90, 220, 60), (60, 60, 235)
SHADE = 0.35


def overlay(picture: Image, camera: Camera, flat: View, views: Sequence[View]) -> Image:
    """Return the picture. With a marker only: its outline in the picture."""
    straight = LensCorrection(camera).straight(picture).copy()
    places = straight_points(camera, flat.places)
    if len(places):
        _lines(straight, plane(flat.board_mm, places), flat.board_mm)
    if camera.lens is None:
        return straight
    return np.concatenate([_coverage(picture, views, (camera.width_px, camera.height_px)), straight], axis=1)


def _coverage(picture: Image, views: Sequence[View], size_px: tuple[int, int]) -> Image:
    shown = picture.copy()
    for row, column in np.argwhere(~seen_cells(views, size_px)):
        low = np.array([column, row]) * size_px // CELLS
        high = np.array([column + 1, row + 1]) * size_px // CELLS
        cell = shown[low[1] : high[1], low[0] : high[0]]
        cell[:] = ((1 - SHADE) * cell + SHADE * np.array(RED)).astype(np.uint8)
    for view in views:
        for x, y in view.places.round().astype(int).tolist():
            cv2.circle(shown, (x, y), max(2, size_px[0] // 400), GREEN, -1, cv2.LINE_AA)
    return shown


def _lines(shown: Image, homography: Points, board_mm: Points) -> None:
    """Draw the board's rows and columns of corners, each from the first corner seen to the last."""
    for axis in (0, 1):
        for value in np.unique(board_mm[:, axis]):
            line = board_mm[board_mm[:, axis] == value]
            ends = np.stack([line.min(axis=0), line.max(axis=0)])
            there = cv2.perspectiveTransform(ends.reshape(-1, 1, 2), homography).reshape(-1, 2)
            (x1, y1), (x2, y2) = np.round(there * 16).astype(int).tolist()
            cv2.line(shown, (x1, y1), (x2, y2), GREEN, 1, cv2.LINE_AA, 4)
