"""What a known camera sees of a flat thing at a known place: drawn ray by ray, not by the code that is tested."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.board import PX_PER_MM, Board
from station.camera import Camera, Lens, as_yaml
from tests.pictures import Image, encoded

SIZE = (800, 600)
FINE = 2
"""Rays a pixel, each way."""
BOARD = Board(11, 8, 6.0)
FLAT_MM = 110.0
"""From the pinhole to the place where the parts lie."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class KnownCamera:
    """A camera whose every number is known."""

    focal_px: float = 1100.0
    centre_px: tuple[float, float] = (406.0, 295.0)
    distortion: tuple[float, float, float, float, float] = (-0.20, 0.08, 0.0008, -0.0006, 0.0)
    size: tuple[int, int] = SIZE
    matrix: NDArray[np.float64] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        (x, y), f = self.centre_px, self.focal_px
        object.__setattr__(self, "matrix", np.array([[f, 0, x], [0, f, y], [0, 0, 1]]))

    def places(self, points_mm: Points, pose: "Plane") -> Points:
        """Return the pixels (n, 2) of points of the plane."""
        there = np.column_stack([points_mm, np.zeros(len(points_mm))])
        seen = cv2.projectPoints(there, pose.turn, pose.shift, self.matrix, np.array(self.distortion))[0]
        return np.asarray(seen, np.float64).reshape(-1, 2)


@functools.lru_cache(maxsize=2)
def rays(camera: KnownCamera) -> Points:
    """Return where each fine pixel looks, at depth 1: (height * FINE, width * FINE, 3)."""
    width, height = camera.size
    y, x = np.mgrid[: height * FINE, : width * FINE]
    pixels = (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + 0.5) / FINE - 0.5
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-7)
    seen = np.asarray(cv2.undistortPoints(pixels, camera.matrix, np.array(camera.distortion), criteria=until))
    flat = seen.reshape(height * FINE, width * FINE, 2)
    return np.concatenate([flat, np.ones((*flat.shape[:2], 1))], axis=2, dtype=np.float64)


@dataclass(frozen=True)
class Plane:
    """Where a flat thing lies: turned about x, y, z (degrees), its `middle_mm` at `at_mm` before the camera."""

    middle_mm: tuple[float, float]
    at_mm: tuple[float, float, float] = (0.0, 0.0, FLAT_MM)
    turned_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def turn(self) -> Points:
        """Rotation vector."""
        x, y, z = (cv2.Rodrigues(np.radians(angle) * np.eye(3)[k])[0] for k, angle in enumerate(self.turned_deg))
        return np.asarray(cv2.Rodrigues(x @ y @ z)[0], np.float64).ravel()

    @property
    def shift(self) -> Points:
        """Of the plane's origin from the pinhole, mm."""
        return np.asarray(self.at_mm - cv2.Rodrigues(self.turn)[0] @ (*self.middle_mm, 0.0), np.float64)


def seen(
    camera: KnownCamera, texture: Image, px_per_mm: float, pose: Plane, noise: float = 1.0, seed: int = 0
) -> Image:
    """Return the BGR picture that the camera takes of `texture` (grey or BGR), whose pixel (0, 0) is at 0 mm."""
    turn = cv2.Rodrigues(pose.turn)[0]
    seen_along = rays(camera)
    depth = (turn[:, 2] @ pose.shift) / (seen_along @ turn[:, 2])
    mm = ((seen_along * depth[..., None]) - pose.shift) @ turn[:, :2]
    at = (mm * px_per_mm - 0.5).astype(np.float32)
    fine = cv2.remap(
        texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(90,) * 4
    )
    picture = cv2.resize(fine, camera.size, interpolation=cv2.INTER_AREA).astype(np.float64)
    picture = picture + np.random.default_rng(seed).normal(0, noise, picture.shape)
    grey = np.clip(picture.round(), 0, 255).astype(np.uint8)
    return np.asarray(grey if grey.ndim == 3 else cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def board_poses() -> list[Plane]:
    """Return a flat view, then tilted ones all over the field, as a careful person takes them."""
    middle = (BOARD.columns * BOARD.square_mm / 2, BOARD.rows * BOARD.square_mm / 2)
    tilted = [
        ((-14, -10, 112), (22, 0, 0)), ((14, -10, 112), (-22, 0, 3)), ((-14, 10, 112), (0, 24, -4)),
        ((14, 10, 112), (0, -24, 0)), ((0, 0, 92), (18, 18, 8)), ((0, -8, 100), (-20, 16, -10)),
        ((-16, 0, 105), (16, -20, 90)), ((16, 2, 105), (0, 28, 0)), ((0, 12, 105), (-28, 0, 5)),
    ]  # fmt: skip
    return [Plane(middle), *(Plane(middle, at, turned) for at, turned in tilted)]


def write_views(folder: Path, camera: KnownCamera, poses: list[Plane], noise: float = 1.0) -> list[Path]:
    """Write what the camera sees of the board at each pose, and return the files."""
    scale = FINE * PX_PER_MM
    size = round(BOARD.columns * BOARD.square_mm * scale), round(BOARD.rows * BOARD.square_mm * scale)
    texture = np.asarray(BOARD.opencv.generateImage(size), np.uint8)
    paths = [folder / f"view-{number:02}.png" for number in range(len(poses))]
    for number, (path, pose) in enumerate(zip(paths, poses, strict=True)):
        path.write_bytes(encoded(seen(camera, texture, scale, pose, noise, seed=number), ".png"))
    return paths


def true_calibration(camera: KnownCamera) -> Camera:
    """Return the calibration that says exactly what the camera is, but for its scale."""
    lens = Lens(
        fx_px=camera.focal_px, fy_px=camera.focal_px, cx_px=camera.centre_px[0], cy_px=camera.centre_px[1],
        distortion=camera.distortion, error_px=0.0, views=1, coverage=1.0,
    )  # fmt: skip
    return Camera(
        created_utc="2026-01-01T00:00:00+00:00", pictures_sha256="0" * 64, width_px=camera.size[0],
        height_px=camera.size[1], px_per_mm=10.0, px_per_mm_change=0.0, lens=lens,
    )  # fmt: skip


def write_calibration(path: Path, camera: Camera) -> Path:
    """Write camera.yaml and return its path."""
    path.write_text(as_yaml(camera), encoding="utf-8")
    return path
