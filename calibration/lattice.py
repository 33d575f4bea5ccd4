"""Finds a field of pins in one golden picture by fitting a lattice, not by counting bright spots.

In: pixels and the grid (rows x columns). Out: a `Lattice`, the places of all pins at once. Single pins may be weak and
glitter may be brighter than any pin: what counts is the sum over the whole grid, with each place's part in it limited,
minus what lies half a step between the places and one step beyond the ends. Of the best lattices, also set off by a row
or two, the one whose places look most alike is taken (likeness.py). Deterministic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calibration import likeness
from calibration.stagger import with_stagger

SIGMAS_PX = (1.2, 2.0, 3.4, 5.6, 9.6)
"""Sizes of spots that are tried, full resolution."""
WORKING_SIGMA_PX = 1.2
LARGEST_SIDE_PX = 560
"""The picture is made smaller until a spot has WORKING_SIGMA_PX; sizes that leave it larger than this are left out."""
STEPS_PX = (5.0, 36.0)
"""Pitch in the smaller picture: 4 to 30 times WORKING_SIGMA_PX."""
STEP_PX = 0.35
"""Grain of the pitch; twice that across, where the grid is shorter."""
MOST_LEAN = 0.21
"""Largest lean of the rows and columns, sideways per step: 12 degrees."""
LEAST_RATIO = 0.6
"""Of the distances of rows and of columns, or the other way round."""
LIKELY, COMBS = 150, 10
"""Steps along which the picture is most like itself; those of them that are tried with every step across."""
TOPS = 6
"""Best combs of a step whose mean ranks it."""
ANCHORS = 400
"""Places where a comb fits best, from which the step across is searched."""
CAP = 1.0
"""Largest part that one place has in the sum, in standard deviations of its surroundings."""
FLOOR = -0.2
BETWEEN, BEYOND = 0.5, 0.5
REFINE_ROUNDS = 6
BEST_ACROSS, BEST = 3, 30
"""Lattices that are kept for a step along, and in all, to be compared by their likeness."""
SET_OFF = 2
"""Steps along each direction by which they are also tried."""
LIKELIEST = 0.8
"""Likeness that no field of pins exceeds; what would need more is not looked at."""

Grey = npt.NDArray[Any]
Points = npt.NDArray[Any]


@dataclass(frozen=True)
class Lattice:
    """A grid of places: about origin + row * down + column * right, all (x, y) in px."""

    rows: int
    columns: int
    origin: tuple[float, float]
    right: tuple[float, float]
    down: tuple[float, float]
    score: float
    """How much better the places are than what is between and beyond them, plus how alike they are; at most about 2."""
    tips: tuple[tuple[float, float], ...] = ()
    """The places themselves, each a little off the grid; empty until they were looked for."""
    stagger: float = 0.0
    """How far every second row is shifted along it, in steps to the right."""

    def places(self) -> Points:
        """Return the places in reading order, (rows * columns, 2)."""
        if self.tips:
            return np.array(self.tips)
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        column = column + self.stagger * (row % 2)
        return np.asarray(
            np.array(self.origin) + column[:, None] * np.array(self.right) + row[:, None] * np.array(self.down)
        )

    @property
    def pitch_px(self) -> float:
        """The smaller distance of neighbours."""
        across = np.array(self.down) + self.stagger * np.array(self.right)
        steps = [np.array(self.right)] * (self.columns > 1) + [across] * (self.rows > 1)
        return min(float(np.hypot(*step)) for step in steps)


@dataclass(frozen=True)
class _Found:
    """A lattice in the smaller picture: anchor and steps (y, x)."""

    score: float
    anchor: tuple[float, float]
    along: tuple[float, float]
    across: tuple[float, float]


def grids_of(pins: int) -> list[tuple[int, int]]:
    """Return the grids (rows, columns) that have so many pins and are not longer than 1 : 30."""
    return [(rows, pins // rows) for rows in range(1, pins + 1) if pins % rows == 0 and max(rows, pins // rows) <= 30]


def find_lattice(picture_bgr: npt.NDArray[np.uint8], grids: list[tuple[int, int]]) -> Lattice | None:
    """Return the best lattice of any of the grids (rows, columns), pins bright or dark; None when there is none.

    `picture_bgr` (H, W, 3) uint8. Rows run from left to right, leaning at most 12 degrees.
    """
    # The middle one of the three channels: a hot pixel of one colour is no spot.
    grey = np.median(picture_bgr, axis=2).astype(np.float32)
    found: list[tuple[float, int, Lattice, float]] = []
    for sigma in SIGMAS_PX:
        factor = sigma / WORKING_SIGMA_PX
        if max(grey.shape) / factor > LARGEST_SIDE_PX or min(grey.shape) / factor < 4 * STEPS_PX[0]:
            continue
        small = cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        response = spots(np.asarray(small, np.float32), WORKING_SIGMA_PX)
        for rows, columns in grids:
            for sign in (1.0, -1.0):
                for one in _search(sign * response, rows, columns):
                    found.append((one.score, len(found), _enlarged(one, factor, rows, columns), sign * sigma))
    if not found:
        return None
    best, sigma = _most_alike(grey, [(one, sigma) for _, _, one, sigma in sorted(found, reverse=True)[:BEST]])
    response = np.asarray(np.sign(sigma) * spots(grey, abs(sigma)), np.float32)
    return _exact(grey, response, _refined(response, with_stagger(response, best), abs(sigma)), abs(sigma))


def lattice_through(picture_bgr: npt.NDArray[np.uint8], grid: tuple[int, int], corners: Points) -> Lattice:
    """Return the lattice whose upper left, upper right and lower left pins are about at `corners` (3, 2), fitted."""
    grey = np.median(picture_bgr, axis=2).astype(np.float32)
    rows, columns = grid
    first, right, down = corners[0], corners[1] - corners[0], corners[2] - corners[0]
    steps = [tuple((vector / max(1, count - 1)).tolist()) for vector, count in ((right, columns), (down, rows))]
    lattice = Lattice(rows, columns, (float(first[0]), float(first[1])), steps[0], steps[1], 0.0)
    tried = []
    for sigma in (sign * size for size in SIGMAS_PX if size < lattice.pitch_px / 3 for sign in (1, -1)):
        response = np.asarray(np.sign(sigma) * spots(grey, abs(sigma)), np.float32)
        near = np.asarray(cv2.dilate(response, np.ones((3, 3), np.uint8)), np.float32)
        tried.append((_score(response, near, lattice), sigma, response))
    score, sigma, response = max(tried, key=lambda one: one[0])
    return _exact(grey, response, replace(lattice, score=score), abs(sigma))


def _exact(grey: Grey, response: Grey, lattice: Lattice, sigma_px: float) -> Lattice:
    """Return the lattice with each place moved onto its tip."""
    even = likeness.evened(np.asarray(grey, np.float32), lattice.pitch_px)
    # Capped spots are flat on top: blurred, they are highest in their middle.
    smooth = np.asarray(cv2.GaussianBlur(response, (0, 0), 0.8 * sigma_px), np.float32)
    places, _ = _longer_first(lattice)
    tips = likeness.exact(even, smooth, places, lattice.pitch_px)
    ordered = tips if lattice.rows >= lattice.columns else tips.transpose(1, 0, 2)
    return replace(lattice, tips=tuple((float(x), float(y)) for x, y in ordered.reshape(-1, 2)))


def _most_alike(grey: Grey, found: list[tuple[Lattice, float]]) -> tuple[Lattice, float]:
    """Return the best of the lattices, and of those set off by a few steps, with its spots' size (dark: below 0)."""
    responses = {sigma: np.sign(sigma) * spots(grey, abs(sigma)) for sigma in {sigma for _, sigma in found}}
    tried = [(moved, sigma) for lattice, sigma in found for moved in _set_off(lattice, responses[sigma])]
    evened: dict[int, likeness.Grey] = {}
    best, most = found[0], -np.inf
    for lattice, sigma in sorted(tried, key=lambda one: -one[0].score):
        if lattice.score + LIKELIEST < most:
            break
        pitch = lattice.pitch_px
        if round(pitch) not in evened:
            evened[round(pitch)] = likeness.evened(np.asarray(grey, np.float32), pitch)
        places, step = _longer_first(lattice)
        score = lattice.score + likeness.likeness(evened[round(pitch)], places, step, pitch)
        if score > most:
            best, most = (replace(lattice, score=score), sigma), score
    return best


def _set_off(lattice: Lattice, response: Grey) -> Iterator[Lattice]:
    """Yield the lattice and its neighbours a few steps away, all scored by their spots."""
    near = np.asarray(cv2.dilate(response, np.ones((3, 3), np.uint8)), np.float32)
    reach = np.arange(-SET_OFF, SET_OFF + 1)
    origin, right, down = (np.array(value) for value in (lattice.origin, lattice.right, lattice.down))
    for row in reach if lattice.rows > 1 else [0]:
        for column in reach if lattice.columns > 1 else [0]:
            x, y = origin + row * down + column * right
            moved = replace(lattice, origin=(float(x), float(y)))
            score = _score(response, near, moved)
            if score > 0 and _is_inside(moved, response):
                yield replace(moved, score=score)
    yield lattice


def _is_inside(lattice: Lattice, response: Grey) -> bool:
    places, (height, width) = lattice.places(), response.shape
    return bool((places >= 0).all() and (places < (width, height)).all())


def _score(response: Grey, near: Grey, lattice: Lattice) -> float:
    """Return how much better the places are than what is between and beyond them."""
    row, column = np.divmod(np.arange(lattice.rows * lattice.columns), lattice.columns)

    def mean(image: Grey, rows: Points, columns: Points, outside: float) -> float:
        places = np.array(lattice.origin) + columns[:, None] * lattice.right + rows[:, None] * lattice.down
        return float(_at(image, places[:, 1], places[:, 0], outside).mean()) if len(places) else 0.0

    score = mean(near, row, column, -CAP)
    for count, along, across, turned in (
        (lattice.rows, row, column, False), (lattice.columns, column, row, True),
    ):  # fmt: skip
        if count < 2:
            continue
        inner, ends = along < count - 1, (along == 0) | (along == count - 1)
        beyond = np.where(along[ends] == 0, -1, count)
        for weight, step, beside, outside in (
            (BETWEEN, along[inner] + 0.5, across[inner], -CAP / 2), (BEYOND, beyond, across[ends], 0.0),
        ):  # fmt: skip
            rows, columns = (beside, step) if turned else (step, beside)
            score -= weight / 2 * max(-CAP / 2, mean(response, rows, columns, outside))
    return score


def _longer_first(lattice: Lattice) -> tuple[likeness.Points, likeness.Points]:
    """Return the places with the longer direction as the first axis, and the step along it."""
    places = lattice.places().reshape(lattice.rows, lattice.columns, 2)
    if lattice.rows >= lattice.columns:
        return places, np.array(lattice.down)
    return places.transpose(1, 0, 2), np.array(lattice.right)


def spots(grey: Grey, sigma_px: float) -> Grey:
    """Return how much each place is a bright spot of this size, in deviations of its surroundings, within +-CAP."""
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma_px)
    reach = 2.5 * sigma_px
    fine = np.min([_above_both_sides(smooth, reach, angle) for angle in np.deg2rad((0, 45, 90, 135))], axis=0)
    around = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 8 * sigma_px))
    floor = 0.25 * float(np.sqrt((fine * fine).mean())) + 1e-6
    return np.asarray(np.clip(fine / (around + floor), FLOOR, CAP), np.float32)


def _above_both_sides(smooth: Grey, reach_px: float, angle: float) -> Grey:
    """Return how much each place is above what lies on both sides of it: a spot in every direction, an edge in none."""
    x, y = reach_px * np.cos(angle), reach_px * np.sin(angle)
    sides = [
        cv2.warpAffine(
            smooth, np.array([[1, 0, sign * x], [0, 1, sign * y]]), smooth.shape[::-1], borderMode=cv2.BORDER_REPLICATE
        )
        for sign in (1, -1)
    ]
    return np.asarray(smooth - np.maximum(sides[0], sides[1]), np.float32)


def _search(response: Grey, rows: int, columns: int) -> list[_Found]:
    """Return the best lattices: first combs along the longer direction, then combs of combs across it."""
    if rows > columns:
        return [
            _Found(one.score, one.anchor[::-1], (one.along[1], one.along[0]), (one.across[1], one.across[0]))
            for one in _search(np.ascontiguousarray(response.T), columns, rows)
        ]
    near = np.asarray(cv2.dilate(response, np.ones((3, 3), np.uint8)), np.float32)
    found = []
    for step in _likely_steps(response, columns):
        scores = _comb(response, near, step, columns)
        if scores is not None:
            found += _across(scores, step, rows)
    return found


def _likely_steps(response: Grey, count: int) -> list[tuple[float, float]]:
    """Return the steps along which the picture is most like itself, moved by one, two... steps."""
    height, width = response.shape
    size = (cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width))
    spectrum = np.fft.rfft2(response - response.mean(), size)
    product = np.fft.irfft2(np.abs(spectrum) ** 2, size)
    alike: Grey = cv2.dilate((product / product[0, 0]).astype(np.float32), np.ones((3, 3), np.uint8))
    steps = np.array(_steps(STEP_PX))
    steps = steps[steps[:, 1] * (count - 1) < width]
    if count == 1 or not len(steps):
        return [tuple(step) for step in steps[:1].tolist()]
    multiples = np.arange(1, count)
    y = np.round(steps[:, :1] * multiples).astype(int)
    x = np.round(steps[:, 1:] * multiples).astype(int)
    halves = np.arange(0.5, count - 1)
    between = alike[np.round(steps[:, :1] * halves).astype(int), np.round(steps[:, 1:] * halves).astype(int)]
    score = alike[y, x].sum(axis=1) - BETWEEN * between.sum(axis=1)
    best = np.argsort(-score)[:LIKELY]
    combs = []
    for step in steps[best].tolist():
        scores = _comb(response, response, (step[0], step[1]), count)
        if scores is not None:
            combs.append((float(np.partition(scores.ravel(), -TOPS)[-TOPS:].mean()), (step[0], step[1])))
    return [step for _, step in sorted(combs, reverse=True)[:COMBS]]


def _steps(grain_px: float) -> list[tuple[float, float]]:
    """Return the candidate steps (y, x), mainly along x."""
    lengths = np.arange(STEPS_PX[0], STEPS_PX[1], grain_px)
    return [
        (float(lean), float(length))
        for length in lengths
        for lean in np.arange(-MOST_LEAN * length, MOST_LEAN * length + grain_px / 2, grain_px)
    ]


def _comb(response: Grey, near: Grey, step: tuple[float, float], count: int) -> Grey | None:
    """Return the score of a comb of `count` places that begins at each pixel; None when it is too long."""
    height, width = response.shape
    reach = [(round(k * step[0]), round(k * step[1])) for k in range(count)]
    top, bottom = max(0, -reach[-1][0]), height - max(0, reach[-1][0])
    right = width - reach[-1][1]
    if bottom - top < 2 or right < 2:
        return None
    scores = np.full(response.shape, -CAP, np.float32)
    window = scores[top:bottom, :right]
    window[:] = 0
    for y, x in reach:
        window += near[top + y : bottom + y, x : right + x]
    window /= count
    if count > 1:
        between = np.zeros_like(window)
        for k in range(count - 1):
            y, x = round((k + 0.5) * step[0]), round((k + 0.5) * step[1])
            between += response[top + y : bottom + y, x : right + x]
        window -= BETWEEN / (count - 1) * between
        for k in (-1, count):
            window -= BEYOND / 2 * _shifted(response, round(k * step[0]), round(k * step[1]), (top, bottom, right))
    return scores


def _shifted(response: Grey, y: int, x: int, window: tuple[int, int, int]) -> Grey:
    """Return the response at (y, x) from each pixel of the window, 0 outside the picture."""
    top, bottom, right = window
    padded = np.zeros((bottom - top, right), np.float32)
    height, width = response.shape
    first, last = max(top, -y), min(bottom, height - y)
    left, end = max(0, -x), min(right, width - x)
    if first < last and left < end:
        padded[first - top : last - top, left:end] = response[first + y : last + y, left + x : end + x]
    return padded


def _across(scores: Grey, along: tuple[float, float], count: int) -> list[_Found]:
    """Return the best comb of combs: `count` of them, each a step across the others."""
    order = np.argpartition(scores.ravel(), -min(ANCHORS, scores.size - 1))[-ANCHORS:]
    y, x = np.unravel_index(order, scores.shape)
    if count == 1:
        best = int(np.argmax(scores[y, x]))
        return [_Found(float(scores[y[best], x[best]]), (float(y[best]), float(x[best])), along, (0.0, 0.0))]
    near = np.asarray(cv2.dilate(scores, np.ones((3, 3), np.uint8)), np.float32)
    found = []
    for lean, length in _steps(2 * STEP_PX):
        if not LEAST_RATIO <= length / along[1] <= 1 / LEAST_RATIO:
            continue
        total = np.mean([_at(near, y + k * length, x + k * lean) for k in range(count)], axis=0)
        between = np.mean([_at(scores, y + (k + 0.5) * length, x + (k + 0.5) * lean) for k in range(count - 1)], axis=0)
        beyond = np.mean([_at(scores, y + k * length, x + k * lean, 0.0) for k in (-1, count)], axis=0)
        value = total - BETWEEN * np.maximum(between, -CAP / 2) - BEYOND * np.maximum(beyond, -CAP / 2)
        best = int(np.argmax(value))
        found.append(_Found(float(value[best]), (float(y[best]), float(x[best])), along, (length, lean)))
    return sorted(found, key=lambda one: -one.score)[:BEST_ACROSS]


def _at(scores: Grey, y: Points, x: Points, outside: float = -CAP) -> Points:
    rows, columns = np.round(y).astype(int), np.round(x).astype(int)
    inside = (rows >= 0) & (rows < scores.shape[0]) & (columns >= 0) & (columns < scores.shape[1])
    values = scores[np.clip(rows, 0, scores.shape[0] - 1), np.clip(columns, 0, scores.shape[1] - 1)]
    return np.asarray(np.where(inside, values, outside), np.float64)


def _enlarged(found: _Found, factor: float, rows: int, columns: int) -> Lattice:
    right, down = (found.across, found.along) if rows > columns else (found.along, found.across)
    middle = (factor - 1) / 2
    return Lattice(
        rows, columns,
        origin=(found.anchor[1] * factor + middle, found.anchor[0] * factor + middle),
        right=(right[1] * factor, right[0] * factor), down=(down[1] * factor, down[0] * factor), score=found.score,
    )  # fmt: skip


def _refined(response: Grey, lattice: Lattice, sigma_px: float) -> Lattice:
    """Return the lattice fitted to the best spot near each place; places far off the others lose weight."""
    # Capped spots are flat on top: blurred, they are highest in their middle.
    response = np.asarray(cv2.GaussianBlur(response, (0, 0), sigma_px), np.float32)
    row, column = np.divmod(np.arange(lattice.rows * lattice.columns), lattice.columns)
    ones = np.ones_like(row)
    model = np.stack([ones, column + lattice.stagger * (row % 2), row], axis=1).astype(np.float64)
    used = [0] + [1] * (lattice.columns > 1) + [2] * (lattice.rows > 1)
    solution = np.array([lattice.origin, lattice.right, lattice.down], np.float64)
    for number in range(REFINE_ROUNDS):
        reach = max(1.5 * sigma_px, (0.30 - 0.03 * number) * lattice.pitch_px)
        places = model @ solution
        spots_found = [_peak(response, place, reach) for place in places]
        targets = np.array([spot[0] for spot in spots_found])
        heights = np.array([max(0.05, spot[1]) for spot in spots_found])
        for _ in range(4):
            away = np.linalg.norm(targets - model @ solution, axis=1)
            weight = np.sqrt(heights / (1 + (away / sigma_px) ** 2))[:, None]
            solution[used] = np.linalg.lstsq(weight * model[:, used], weight * targets, rcond=None)[0]
    origin, right, down = ((float(point[0]), float(point[1])) for point in solution)
    return replace(lattice, origin=origin, right=right, down=down)


def _peak(response: Grey, place: Points, reach_px: float) -> tuple[Points, float]:
    """Return the best spot within reach of the place, nearer ones preferred, and its height."""
    height, width = response.shape
    x0, x1 = max(0, int(place[0] - reach_px)), min(width, int(place[0] + reach_px) + 2)
    y0, y1 = max(0, int(place[1] - reach_px)), min(height, int(place[1] + reach_px) + 2)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return place, 0.0
    y, x = np.mgrid[y0:y1, x0:x1]
    away = ((x - place[0]) ** 2 + (y - place[1]) ** 2) / reach_px**2
    value = np.where(away <= 1, response[y0:y1, x0:x1] - 0.5 * away, -CAP)
    best = int(np.argmax(value))
    row, column = np.unravel_index(best, value.shape)
    return np.array([x[row, column], y[row, column]], np.float64), float(response[y[row, column], x[row, column]])
