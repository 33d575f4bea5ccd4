"""Registration: the similarity (shift, rotation, scale) that maps golden pixels to frame pixels.

First the part as a whole is searched in the shrunk frame (search.py). Then each fiducial is looked for near the place
where it must be, three times with less and less room, and the similarity is fitted to the places found.
In: a frame, BGR. Out: a Registration within the recipe's limits, or RegistrationError (PART_NOT_FOUND,
BAD_REGISTRATION). Never a guess: what is not surely found is refused. Runs in capture's one thread.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from station.capture.pose import Matrix, Points, at_factor, moved, of_box, rotation_deg, scale
from station.capture.search import Grey, PartSearch, shrunk
from station.errors import RegistrationError
from station.recipe import Box, RegistrationLimits
from station.records import Reason, Registration

MIN_PART_SCORE = 0.45
"""Correlation of the whole part below which nothing like it is in view. Found parts have 0.8 and more."""
FLAT_LEVELS = 2.0
"""Deviation in grey levels below which a patch has no structure to look for."""
FIT_ROUNDS = 5
FIT_DONE_PX = 0.001
"""A fit that moves no fiducial by more is done before the last round."""
OUTLIER_PX = 1.0
"""A fiducial this far off the others counts half in the fit; farther, less and less."""


@dataclass(frozen=True)
class _Round:
    """One look for all fiducials: the frame's shrink factor and the room on each side, in shrunk pixels."""

    factor: int
    room_px: int


@dataclass(frozen=True)
class _Fiducial:
    """One fiducial in the golden picture made smaller by a round's factor."""

    corner: tuple[int, int]
    pixels: Grey


class PartFinder:
    """Finds one recipe's part in frames. Built once for a recipe; holds no state of a frame."""

    def __init__(self, limits: RegistrationLimits, golden_bgr: NDArray[np.uint8]) -> None:
        golden = _grey(golden_bgr)
        self._limits = limits
        self._search = PartSearch(limits, golden)
        # The whole-part search is right to about 1.5 shrunk pixels, at the far end of a long part somewhat less.
        self._rounds = (_Round(2, 2 + self._search.factor), _Round(2, 3), _Round(1, 3))
        self._centres = np.array([_centre(box) for box in limits.fiducials])
        pyramid = {1: golden, 2: shrunk(golden, 2)}
        self._fiducials = {
            factor: [_cut(pixels, box, factor) for box in limits.fiducials] for factor, pixels in pyramid.items()
        }

    def find(self, frame_bgr: NDArray[np.uint8]) -> Registration:
        """Return where the part is in the frame (H, W, 3) uint8. Raises RegistrationError."""
        grey = _grey(frame_bgr)
        half = shrunk(grey, 2)
        place = self._search.find(shrunk(half, self._search.factor // 2))
        if place.score < MIN_PART_SCORE:
            raise RegistrationError(
                Reason.PART_NOT_FOUND,
                f"The part is not in the picture: best likeness {place.score:.2f}, least {MIN_PART_SCORE:.2f}.",
                "Look at the picture: is a part in view, of this product, upright, and is there light?",
            )
        registration = self._refined(place.matrix, {1: grey, 2: half})
        self._check(registration)
        return registration

    def _refined(self, matrix: Matrix, pyramid: dict[int, Grey]) -> Registration:
        for step in self._rounds:
            frame, fiducials = pyramid[step.factor], self._fiducials[step.factor]
            looks = [_look(frame, fiducial, at_factor(matrix, step.factor), step.room_px) for fiducial in fiducials]
            found = self._centres + np.array([look[:2] for look in looks]) * step.factor
            scores = np.array([look[2] for look in looks])
            targets = moved(matrix, found)
            matrix = _fit(self._centres, targets, np.maximum(scores, 0.05) ** 2)
        distances = np.linalg.norm(moved(matrix, self._centres) - targets, axis=1) / scale(matrix)
        return Registration(
            matrix=_rows(matrix),
            residual_px=float(np.sqrt(np.mean(distances**2))),
            score=float(scores.mean()),
            rotation_deg=rotation_deg(matrix),
            scale=scale(matrix),
        )

    def _check(self, found: Registration) -> None:
        """Raise RegistrationError if the place is beyond the recipe's limits."""
        limits = self._limits
        checks = (
            (found.score < limits.min_score, f"fiducials fit {found.score:.2f}, least {limits.min_score:.2f}"),
            (
                found.residual_px > limits.max_residual_px,
                f"residual {found.residual_px:.2f} px, limit {limits.max_residual_px:.2f} px",
            ),
            (
                abs(found.rotation_deg) > limits.max_rotation_deg,
                f"rotation {found.rotation_deg:.1f} deg, limit {limits.max_rotation_deg:.1f} deg",
            ),
            (
                abs(found.scale - 1) > limits.max_scale_change,
                f"scale {found.scale:.3f}, limit 1 +- {limits.max_scale_change:.3f}",
            ),
        )
        if problems := [text for is_beyond, text in checks if is_beyond]:
            raise RegistrationError(
                Reason.BAD_REGISTRATION,
                f"The part was not found well enough: {'; '.join(problems)}.",
                "Look at the picture: is this the recipe's product, clean, level and sharp?",
            )


def _look(frame: Grey, fiducial: _Fiducial, matrix: Matrix, room_px: int) -> tuple[float, float, float]:
    """Return how far the fiducial is off its place (dx, dy in golden px of this factor) and the correlation there."""
    height, width = fiducial.pixels.shape
    x, y = fiducial.corner[0] - room_px, fiducial.corner[1] - room_px
    patch = cv2.warpAffine(
        frame,
        of_box(matrix, x, y),
        (width + 2 * room_px, height + 2 * room_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if float(cv2.meanStdDev(patch)[1][0, 0]) < FLAT_LEVELS:
        return 0.0, 0.0, 0.0
    scores = np.asarray(cv2.matchTemplate(patch, fiducial.pixels, cv2.TM_CCOEFF_NORMED), np.float32)
    _, best, _, (column, row) = cv2.minMaxLoc(scores)
    dx = column + peak_offset(scores[row, :], int(column)) - room_px
    dy = row + peak_offset(scores[:, column], int(row)) - room_px
    return dx, dy, min(best, 1.0)


def peak_offset(line: NDArray[np.float32], peak: int) -> float:
    """Return where between pixels the top of a parabola through the peak and its neighbours lies, -0.5..0.5."""
    if not 0 < peak < len(line) - 1:
        return 0.0
    before, top, after = (float(value) for value in line[peak - 1 : peak + 2])
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _fit(sources: Points, targets: Points, weights: NDArray[np.float64]) -> Matrix:
    """Return the similarity with the least squares sources -> targets; places far off the others lose weight."""
    matrix = _weighted_fit(sources, targets, weights)
    places = moved(matrix, sources)
    for _ in range(FIT_ROUNDS):
        squares = np.square(places - targets).sum(axis=1)
        matrix = _weighted_fit(sources, targets, weights / (1 + squares / OUTLIER_PX**2))
        before, places = places, moved(matrix, sources)
        if np.abs(places - before).max() < FIT_DONE_PX:
            break
    return matrix


def _weighted_fit(sources: Points, targets: Points, weights: NDArray[np.float64]) -> Matrix:
    """Return the weighted least-squares similarity, in complex numbers: target = turn * source + shift."""
    share = weights / weights.sum()
    source, target = sources[:, 0] + 1j * sources[:, 1], targets[:, 0] + 1j * targets[:, 1]
    source_mean, target_mean = share @ source, share @ target
    offsets = source - source_mean
    turn = (share * offsets.conj()) @ (target - target_mean) / (share @ np.abs(offsets) ** 2)
    shift = target_mean - turn * source_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _cut(golden: Grey, box: Box, factor: int) -> _Fiducial:
    x, y, width, height = box.x // factor, box.y // factor, box.width // factor, box.height // factor
    return _Fiducial((x, y), np.ascontiguousarray(golden[y : y + height, x : x + width]))


def _centre(box: Box) -> tuple[float, float]:
    return box.x + (box.width - 1) / 2, box.y + (box.height - 1) / 2


def _grey(bgr: NDArray[np.uint8]) -> Grey:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def _rows(matrix: Matrix) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    (a, b, c), (d, e, f) = matrix.tolist()
    return (a, b, c), (d, e, f)
