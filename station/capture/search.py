"""The coarse search: where in the frame is the part as a whole, to about the width of a shrunk pixel.

The part's picture, turned in steps and then scaled, is compared with the shrunk frame everywhere by normalised
correlation. The part as a whole is taken and not its features, because a field of equal pins fits itself at every
pitch. Spectra of the turned pictures are made once for a recipe, that of the frame once for a search. Pure but for
OpenCV.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from station.capture.pose import Matrix, similarity
from station.recipe import RegistrationLimits

PART_LENGTH_PX = 64
"""Length of the part's longer side in the shrunk frame: enough to tell it from others, small enough to be quick."""
ROTATION_STEP_DEG = 3.0
SCALE_STEP = 0.08
LEAST_SCALE_CHANGE = 0.03
"""Up to here one scale is tried: the part still fits."""
FLAT_LEVELS = 4.0
"""Standard deviation in grey levels below which a place counts as flat: noise of an empty scene must match nothing."""

Grey = NDArray[np.uint8]
Spectrum = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where the part was found."""

    matrix: Matrix
    """(2, 3) similarity, golden px -> frame px."""
    score: float
    """Normalised correlation, -1..1."""


def shrunk(grey: Grey, factor: int) -> Grey:
    """Return `grey` made smaller by a whole factor; each pixel is the mean of its factor x factor pixels."""
    height, width = grey.shape[0] // factor, grey.shape[1] // factor
    return np.asarray(
        cv2.resize(grey[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA), np.uint8
    )


class PartSearch:
    """Finds one recipe's part as a whole. Built once for a recipe; holds no state of a frame."""

    def __init__(self, limits: RegistrationLimits, golden: Grey) -> None:
        part = limits.part
        self.factor = _shrink_factor(part.width, part.height)
        """How much smaller the frame given to `find` must be."""
        self._window = (max(4, part.width // self.factor), max(4, part.height // self.factor))
        self._centre = (part.x + (part.width - 1) / 2, part.y + (part.height - 1) / 2)
        self._size = (golden.shape[1] // self.factor, golden.shape[0] // self.factor)
        self._spectrum_size = (cv2.getOptimalDFTSize(self._size[0]), cv2.getOptimalDFTSize(self._size[1]))
        rotations, scales = _rotations(limits.max_rotation_deg), _scales(limits.max_scale_change)
        self._poses = list(itertools.product(rotations, scales))
        self._first = range(len(scales) // 2, len(self._poses), len(scales))
        """All rotations at the middle scale; then only the other scales of the best one and its neighbours."""
        self._beside = {
            pose: [
                other
                for other in range(max(0, at - 1) * len(scales), min(len(rotations), at + 2) * len(scales))
                if other not in self._first
            ]
            for at, pose in enumerate(self._first)
        }
        self._spectra = [self._spectrum_of_part(golden, rotation, scale) for rotation, scale in self._poses]

    def find(self, small: Grey) -> Place:
        """Return the best place in the frame made smaller by `factor`. A frame without structure scores 0."""
        spectrum = self._spectrum(small.astype(np.float32))
        norms = self._norms(small)
        best = self._best_among(self._first, spectrum, norms)
        score, pose, corner = max(best, self._best_among(self._beside[best[1]], spectrum, norms))
        return Place(self._matrix(pose, corner), score)

    def _best_among(self, poses: Sequence[int], frame: Spectrum, norms: Spectrum) -> tuple[float, int, tuple[int, int]]:
        """Return (score, pose, corner) of the best of these poses."""
        best = (-1.0, 0, (0, 0))
        for pose in poses:
            score, corner = self._best_of(frame, self._spectra[pose], norms)
            best = max(best, (score, pose, corner))
        return best

    def _best_of(self, frame: Spectrum, part: Spectrum, norms: Spectrum) -> tuple[float, tuple[int, int]]:
        """Return the highest correlation of one turned part, and the window's corner (x, y)."""
        product = cv2.mulSpectrums(frame, part, 0, conjB=True)
        sums = cv2.idft(product, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
        rows, columns = norms.shape
        _, score, _, (x, y) = cv2.minMaxLoc(sums[:rows, :columns] * norms)
        return score, (int(x), int(y))

    def _matrix(self, pose: int, corner: tuple[int, int]) -> Matrix:
        rotation, scale = self._poses[pose]
        x, y = ((corner[i] + self._window[i] / 2) * self.factor - 0.5 for i in (0, 1))
        return similarity(rotation, scale, self._centre, (x, y))

    def _spectrum_of_part(self, golden: Grey, rotation: float, scale: float) -> Spectrum:
        """Return the spectrum of the part's window at a pose, shrunk, with mean 0 and length 1."""
        width, height = (side * self.factor for side in self._window)
        matrix = similarity(rotation, scale, self._centre, ((width - 1) / 2, (height - 1) / 2))
        turned = cv2.warpAffine(
            golden, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        window = shrunk(np.asarray(turned, np.uint8), self.factor).astype(np.float32)
        window -= window.mean()
        return self._spectrum(window / max(float(np.linalg.norm(window)), 1.0))

    def _spectrum(self, pixels: Spectrum) -> Spectrum:
        width, height = self._spectrum_size
        padded = np.zeros((height, width), np.float32)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        return np.asarray(cv2.dft(padded), np.float32)

    def _norms(self, small: Grey) -> Spectrum:
        """Return 1 / (deviation x root of the number of pixels) of the window at each corner."""
        width, height = self._window
        count = width * height
        total, squares = cv2.integral2(small)
        mean = _window_sums(total, width, height) / count
        variance = _window_sums(squares, width, height) / count - mean * mean
        deviation = np.sqrt(np.maximum(variance, FLAT_LEVELS**2))
        return (1.0 / (deviation * math.sqrt(count))).astype(np.float32)


def _window_sums(integral: NDArray[np.generic], width: int, height: int) -> NDArray[np.float64]:
    table = integral.astype(np.float64)
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]


def _shrink_factor(width_px: int, height_px: int) -> int:
    """Return an even factor (the frame is halved first) that makes the part about PART_LENGTH_PX long, at least 2."""
    return max(2, 2 * round(max(width_px, height_px) / PART_LENGTH_PX / 2))


def _rotations(limit_deg: float) -> list[float]:
    steps = math.ceil(limit_deg / ROTATION_STEP_DEG)
    return [float(angle) for angle in np.linspace(-limit_deg, limit_deg, 2 * steps + 1)]


def _scales(limit: float) -> list[float]:
    steps = math.ceil(limit / SCALE_STEP) if limit > LEAST_SCALE_CHANGE else 0
    return [1.0 + float(change) for change in np.linspace(-limit, limit, 2 * steps + 1)] if steps else [1.0]
