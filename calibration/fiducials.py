"""Golden pictures for teaching: reads and writes them, proposes fiducials, draws the overlay to check by eye.

A fiducial is a small place with structure in two directions, away from the pins, spread over the part. In: BGR pixels
and the pins' places. Out: boxes (x, y, width, height) in px. OpenCV only; nothing is decided for good: people look.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from station.errors import ConfigurationError
from station.recipe import RecipeFile

MOST = 8
LEAST_SIDE_PX = 24
LEAST_CORNER = 0.02
"""Share of the best place's structure below which a place is no fiducial."""
SPREAD, NEAR_LOSS = 0.3, 0.85
"""In lengths of the part: how near is near; and how much less a place counts that near to another fiducial."""

MOST_DISTINCT = 12
"""Fiducials of a part that is covered with tiles: some of them may lie on a defect."""
LOOKED_AROUND_PX, OWN_PX, LEAST_DISTINCT = 24, 4, 0.02
"""How far around a place others are compared with it: as far as registration looks for it; how near is the place
itself; and how much less like it the others must be."""
FLAT_LEVELS = 4.0
"""Deviation in grey levels below which a place shows nothing."""

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Corners = tuple[int, int, int, int]


def read_picture(path: Path) -> Image:
    """Return the pixels, BGR. Raises ConfigurationError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."], "Is the name right?") from error
    # An empty file is an error of OpenCV's, and not of the picture's.
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if pixels is None:
        raise ConfigurationError([f"{path}: cannot be read as a picture."], "Give JPEG, PNG, BMP or TIFF files.")
    return np.asarray(pixels, np.uint8)


def png(picture: Image) -> bytes:
    """Return the picture as a PNG file."""
    return cv2.imencode(".png", picture)[1].tobytes()


def propose(picture: Image, part: Corners, places: Points, pitch_px: float) -> list[Corners]:
    """Return up to MOST boxes inside `part`, best first, none over a pin and none over another."""
    side = max(LEAST_SIDE_PX, round(1.2 * pitch_px))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    corner = cv2.cornerMinEigenVal(cv2.GaussianBlur(grey, (0, 0), 1.0), 3)
    # Mean over the box; the square root keeps one bright edge from outweighing everything.
    strength = cv2.boxFilter(np.sqrt(np.maximum(corner, 0)), -1, (side, side))
    allowed = np.zeros(grey.shape, bool)
    x, y, width, height = part
    half = side // 2 + 1
    allowed[y + half : y + height - half, x + half : x + width - half] = True
    reach = half + round(0.5 * pitch_px)
    for px, py in np.round(places).astype(int):
        allowed[max(0, py - reach) : py + reach, max(0, px - reach) : px + reach] = False
    strength = np.where(allowed, strength, 0)
    best = float(strength.max())
    y, x = np.mgrid[: strength.shape[0], : strength.shape[1]].astype(np.float32)
    found: list[Corners] = []
    weight = np.ones_like(strength)
    while len(found) < MOST:
        row, column = np.unravel_index(int(np.argmax(strength * weight)), strength.shape)
        if float(strength[row, column]) <= LEAST_CORNER * best:
            break
        found.append((int(column) - side // 2, int(row) - side // 2, side, side))
        strength[max(0, row - side) : row + side, max(0, column - side) : column + side] = 0
        # The farther apart they are, the better they tell rotation and scale: what is near counts less.
        away = ((x - column) ** 2 + (y - row) ** 2) / (SPREAD * max(part[2:])) ** 2
        weight *= 1 - NEAR_LOSS * np.exp(-away)
    return found


def propose_distinct(picture: Image, part: Corners, side: int) -> list[Corners]:
    """Return up to MOST_DISTINCT boxes of this side inside `part`, best first: places that nothing around them is like.

    For parts such as boards, full of lines that run on and repeat, where a corner is not enough to tell a place.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    half = np.asarray(cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    x, y, width, height = part
    step = side // 4
    corners = [(left, top) for top in range(y, y + height - side, step) for left in range(x, x + width - side, step)]
    weight = np.array([_distinctness(half, left // 2, top // 2, side // 2) for left, top in corners])
    places = np.array(corners, np.float64)
    found: list[Corners] = []
    while len(found) < MOST_DISTINCT and weight.max(initial=0.0) > LEAST_DISTINCT:
        best = int(weight.argmax())
        found.append((*corners[best], side, side))
        away = places - places[best]
        weight *= 1 - NEAR_LOSS * np.exp(-np.square(away).sum(axis=1) / (SPREAD * max(width, height)) ** 2)
        weight[(np.abs(away) < side).all(axis=1)] = 0
    return found


def _distinctness(half: npt.NDArray[np.uint8], x: int, y: int, side: int) -> float:
    """Return 1 less the highest correlation with another place near by; 0 where nothing is seen."""
    square = half[y : y + side, x : x + side]
    if float(square.std()) < FLAT_LEVELS:
        return 0.0
    room, own = LOOKED_AROUND_PX // 2, OWN_PX // 2
    left, top = max(0, x - room), max(0, y - room)
    around = half[top : y + side + room, left : x + side + room]
    scores = cv2.matchTemplate(around, square, cv2.TM_CCOEFF_NORMED)
    row, column = y - top, x - left
    scores[max(0, row - own) : row + own + 1, max(0, column - own) : column + own + 1] = -1
    return 1 - float(scores.max())


def likeness_of(golden: Image, picture: Image, matrix: npt.NDArray[np.float64], places: Points, side_px: int) -> float:
    """Return the mean correlation of the places' squares in both pictures; `matrix` maps golden to picture px."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(picture, matrix, golden.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    scores = []
    for x, y in places:
        squares = [cv2.getRectSubPix(one, (side_px, side_px), (float(x), float(y))) for one in (golden, seen)]
        scores.append(float(cv2.matchTemplate(squares[0], squares[1], cv2.TM_CCOEFF_NORMED)[0, 0]))
    return float(np.mean(scores))


def overlay(picture: Image, recipe: RecipeFile) -> Image:
    """Return the golden picture with part, regions, fiducials and named pins drawn in, brightened and enlarged."""
    enlarge = max(1, round(1200 / max(picture.shape[:2])))
    light = np.clip(picture.astype(np.float32) * (200 / max(1.0, float(np.percentile(picture, 99.5)))), 0, 255)
    canvas = cv2.resize(light.astype(np.uint8), None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    boxes = [
        (recipe.registration.part, (255, 160, 0)),
        *((box, (0, 200, 255)) for box in recipe.registration.fiducials),
    ]
    boxes += [(region.box, (0, 220, 0)) for region in recipe.regions]
    for box, colour in boxes:
        corner, end = (
            (box.x * enlarge, box.y * enlarge),
            ((box.x + box.width) * enlarge, (box.y + box.height) * enlarge),
        )
        cv2.rectangle(canvas, corner, end, colour, 1)
    for pin in (pin for region in recipe.regions for pin in region.pins):
        at = (round((pin.x + 0.5) * enlarge), round((pin.y + 0.5) * enlarge))
        cv2.drawMarker(canvas, at, (80, 80, 255), cv2.MARKER_CROSS, 6 * enlarge, 1)
        where = (at[0] + 3 * enlarge, at[1] - 2 * enlarge)
        cv2.putText(canvas, pin.pin_id, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return np.asarray(canvas, np.uint8)
