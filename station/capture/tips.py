"""Where the pins' tips lie, all together: a connector's tips stand higher than the fiducials beside them.

Seen a little from elsewhere, or from nearer, all tips move against the fiducials (parallax). In: a frame, BGR, and
where its fiducials put the part. Out: the registration moved so that as many tips as can be lie on their golden places.
What is looked for is the golden tips' mean, by normalised correlation; shift, turn and scale of all pins together are
searched, coarse first, so that a few bent pins cannot draw the others. 9 ms for 22 pins; runs in capture's one thread.
"""

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from station.capture.gate import Image
from station.capture.pose import Matrix, moved, of_box, rotation_deg, scale
from station.errors import RegistrationError
from station.recipe import Region
from station.records import Reason, Registration

PATCH, BLUR = 0.3, 1 / 16
"""In pitches: half side of the tip's patch, and how far a tip may stand off and still count nearly whole."""
COST = 0.06
"""Likeness that one move by the whole reach must gain: where nothing is like a tip, nothing moves."""
COARSE, KEPT, HALVINGS = 7, 20, 4
"""Steps from -reach to +reach at first; how many of the best moves are looked at closer, and how often."""

Moves = NDArray[np.float64]
"""(n, 4): shift right, shift down, scale and turn, in golden px; the last two as far as the farthest pin moves."""


class TipFinder:
    """Finds one recipe's tips. Built once; holds no state of a frame."""

    def __init__(self, regions: Sequence[Region], golden_bgr: Image, reach_px: float) -> None:
        self._places = np.array([(pin.x, pin.y) for region in regions for pin in region.pins])
        self._reach_px = reach_px
        pitch = min(region.pitch_px for region in regions)
        self._blur_px, half = BLUR * pitch, max(2, round(PATCH * pitch))
        patches = [cv2.getRectSubPix(golden_bgr, (2 * half + 1, 2 * half + 1), (x, y)) for x, y in self._places]
        self._tip = np.mean(patches, 0).astype(np.float32)
        self._centre = self._places.mean(0)
        arms = self._places - self._centre
        self._length_px = np.linalg.norm(arms, axis=1).max()
        self._arms = arms / self._length_px
        rim = int(np.ceil(3 * reach_px))  # shift, scale and turn at their most
        self._corner = np.floor(self._places.min(0)).astype(int) - rim
        self._size = np.ceil(self._places.max(0)).astype(int) + rim + 1 - self._corner
        self._half = half

    def moved(self, frame_bgr: Image, found: Registration) -> Registration:
        """Return the registration by the tips; residual and score stay the fiducials'. Raises RegistrationError."""
        matrix = np.array(found.matrix)
        move = self._best(self._likeness(frame_bgr, matrix))
        moved_px = float(np.abs(move).max())
        if moved_px >= self._reach_px:
            raise RegistrationError(
                Reason.BAD_REGISTRATION,
                f"The pins all together lie {moved_px:.1f} px and more off their place, limit {self._reach_px:g} px.",
                "Look at the picture: does the part lie level and at the golden picture's distance?",
            )
        matrix = _after(matrix, self._as_matrix(move))
        (a, b, c), (d, e, f) = matrix.tolist()
        return msgspec.structs.replace(
            found, matrix=((a, b, c), (d, e, f)), rotation_deg=rotation_deg(matrix), scale=scale(matrix),
            tips_moved_px=moved_px,
        )  # fmt: skip

    def _likeness(self, frame_bgr: Image, matrix: Matrix) -> NDArray[np.float32]:
        """Return the squared likeness of each place of the golden grid to a tip, 0..1, from the pins' box on."""
        x, y = (int(value) - self._half for value in self._corner)
        width, height = (int(value) + 2 * self._half for value in self._size)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(
            frame_bgr, of_box(matrix, x, y), (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        like = cv2.matchTemplate(seen.astype(np.float32), self._tip, cv2.TM_CCOEFF_NORMED)
        # Where nothing has structure the correlation is not a number.
        like = np.clip(np.nan_to_num(like, nan=0.0, posinf=0.0, neginf=0.0), 0, 1) ** 2
        return np.asarray(cv2.GaussianBlur(like, (0, 0), self._blur_px), np.float32)

    def _best(self, likeness: NDArray[np.float32]) -> NDArray[np.float64]:
        step = 2 * self._reach_px / (COARSE - 1)
        moves = _grid(np.linspace(-self._reach_px, self._reach_px, COARSE))
        moves = moves[np.argsort(self._scores(likeness, moves))[-KEPT:]]
        for _ in range(HALVINGS):
            step /= 2
            moves = (moves[:, None] + _grid(np.array([-step, 0, step]))).reshape(-1, 4)
            moves = moves[np.argsort(self._scores(likeness, moves))[-KEPT:]]
        return np.asarray(moves[-1])

    def _scores(self, likeness: NDArray[np.float32], moves: Moves) -> NDArray[np.float64]:
        x, y = self._arms[:, 0], self._arms[:, 1]
        right, down, wider, turn = (column[:, None] for column in moves.T)
        across = self._places[:, 0] - self._corner[0] + right + wider * x - turn * y
        along = self._places[:, 1] - self._corner[1] + down + turn * x + wider * y
        like = cv2.remap(
            likeness, across.astype(np.float32), along.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return np.asarray(like.mean(1) - COST * np.square(moves / self._reach_px).sum(1))

    def _as_matrix(self, move: NDArray[np.float64]) -> Matrix:
        """Return the move as a map of golden px to golden px."""
        right, down, wider, turn = move
        turned = np.eye(2) + np.array([[wider, -turn], [turn, wider]]) / self._length_px
        return np.column_stack([turned, self._centre + np.array([right, down]) - turned @ self._centre])


def _grid(steps: NDArray[np.float64]) -> Moves:
    return np.stack(np.meshgrid(*[steps] * 4, indexing="ij"), -1).reshape(-1, 4)


def _after(matrix: Matrix, first: Matrix) -> Matrix:
    """Return the map that does `first`, then `matrix`."""
    return np.column_stack([matrix[:, :2] @ first[:, :2], moved(matrix, first[:, 2][None])[0]])
