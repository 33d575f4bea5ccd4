"""The calibration target: a ChArUco board (a chessboard whose white squares hold ArUco markers), or one marker alone.

Drawn true to size, and found in pictures with OpenCV's detectors. Markers are of the 4x4 family, 3/4 of a square wide.
Places are pixels (n, 2), x to the right, y down; board places are mm from the board's upper left corner, seen upright.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from calibration.fiducials import Image, Points
from station.errors import OutputError

DPI = 254
"""10 pixels a millimetre: whole millimetres are whole pixels, so that nothing is rounded in print."""
PX_PER_MM = 10
MARGIN_MM = 10
MARKER_SHARE = 0.75
"""Side of a marker, in squares."""
LEAST_CORNERS = 12
"""A view with fewer says too little."""
TEXT_SCALE, TEXT_PX = 1.4, 3

_FAMILY = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_1000)


@dataclass(frozen=True)
class Board:
    """A ChArUco board: how many squares, and how wide one is in print."""

    columns: int
    rows: int
    square_mm: float

    @property
    def opencv(self) -> cv2.aruco.CharucoBoard:
        """The board as OpenCV knows it, in mm."""
        size = (self.columns, self.rows)
        return cv2.aruco.CharucoBoard(size, self.square_mm, MARKER_SHARE * self.square_mm, _FAMILY)


@dataclass(frozen=True)
class View:
    """What was found of the board in one picture."""

    image: str
    places: Points
    board_mm: Points

    @property
    def is_enough(self) -> bool:
        """True when there are enough corners, and not all on one line."""
        return len(self.places) >= LEAST_CORNERS and bool((np.ptp(self.board_mm, axis=0) > 0).all())


def find_board(board: Board, image: str, picture: Image) -> View:
    """Return the inner corners of the board that are seen; none is a view too."""
    opencv = board.opencv
    found: Any = cv2.aruco.CharucoDetector(opencv).detectBoard(_grey(picture))  # None where there is none
    corners, ids = found[:2]
    if ids is None:
        return View(image, np.empty((0, 2)), np.empty((0, 2)))
    mm = np.asarray(opencv.getChessboardCorners(), np.float64)[np.ravel(ids), :2]
    return View(image, np.asarray(corners, np.float64).reshape(-1, 2), mm)


def find_marker(side_mm: float, image: str, picture: Image) -> View:
    """Return the four corners of the largest ArUco marker, clockwise from its upper left one; none is a view too."""
    wanted = cv2.aruco.DetectorParameters()
    wanted.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    found: Any = cv2.aruco.ArucoDetector(_FAMILY, wanted).detectMarkers(_grey(picture))
    markers, ids = found[:2]
    if ids is None:
        return View(image, np.empty((0, 2)), np.empty((0, 2)))
    largest = max((np.asarray(one, np.float64).reshape(4, 2) for one in markers), key=lambda one: float(np.ptp(one)))
    return View(image, largest, side_mm * np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]))


def drawn_board(board: Board) -> Image:
    """Return the board to print, grey, 10 px a millimetre, with a white margin."""
    size = round(board.columns * board.square_mm * PX_PER_MM), round(board.rows * board.square_mm * PX_PER_MM)
    words = f"{board.columns}x{board.rows} squares of {board.square_mm:g} mm"
    return _with_margin(np.asarray(board.opencv.generateImage(size), np.uint8), words)


def drawn_marker(side_mm: float) -> Image:
    """Return one marker to print, likewise."""
    side = round(side_mm * PX_PER_MM)
    return _with_margin(np.asarray(cv2.aruco.generateImageMarker(_FAMILY, 0, side), np.uint8), f"{side_mm:g} mm")


def write_print(path: Path, drawn: Image) -> None:
    """Write a PNG that says how large it is to be printed. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(drawn).save(path, "PNG", dpi=(DPI, DPI))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be written: {error}.", "Choose another file with --out.") from error


def _with_margin(target: Image, words: str) -> Image:
    margin = MARGIN_MM * PX_PER_MM
    page = np.pad(target, margin, constant_values=255)
    at = (margin, page.shape[0] - margin // 3)
    text = f"{words}; print at 100 %, measure, keep flat"
    scale = min(TEXT_SCALE, TEXT_SCALE * target.shape[1] / 24 / len(text))
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0,), max(1, round(TEXT_PX * scale / TEXT_SCALE)))
    return page


def _grey(picture: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
