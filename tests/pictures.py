"""Draws small pictures of a connector for tests: a housing with asymmetric marks and 2 x 4 pins, at any pose.

Everything is drawn from geometry at the wanted pose (no warping of a finished picture), so the pose is exact.
`write_recipe` puts a golden picture and a valid recipe.yaml into a folder. No binary files in git.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from station.recipe import Recipe, RecipeFile

Image = NDArray[np.uint8]

WIDTH_PX, HEIGHT_PX = 800, 600
PART = (190, 160, 420, 280)
"""Housing in the golden picture: x, y, width, height."""
CENTRE = (400.0, 300.0)
PINS = {
    f"{row}{column}": (280.0 + 80 * (column - 1), 262.0 + 76 * "AB".index(row))
    for row in "AB"
    for column in range(1, 5)
}
"""Pin id -> centre in the golden picture: A1..A4, B1..B4."""
REGION = (232, 222, 336, 156)
FIDUCIALS = (
    (196, 166, 48, 48),
    (376, 166, 48, 48),
    (556, 166, 48, 48),
    (196, 386, 48, 48),
    (346, 386, 48, 48),
    (556, 386, 48, 48),
)


@dataclass(frozen=True)
class Pose:
    """Where the part lies: turned and scaled about the middle of the golden part, then shifted (px)."""

    shift_x: float = 0.0
    shift_y: float = 0.0
    rotation_deg: float = 0.0
    """Positive turns clockwise as seen on the screen (y points down)."""
    scale: float = 1.0

    def matrix(self, centre: tuple[float, float] = CENTRE) -> NDArray[np.float64]:
        """Return the (2, 3) matrix golden px -> frame px."""
        angle = np.deg2rad(self.rotation_deg)
        turn = self.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        origin = np.array(centre)
        return np.column_stack([turn, origin + np.array([self.shift_x, self.shift_y]) - turn @ origin])


GOLDEN_POSE = Pose()


class Canvas:
    """Draws shapes given in golden px at a pose, four times finer than the picture."""

    FINE = 4

    def __init__(self, matrix: NDArray[np.float64], size: tuple[int, int], background: int) -> None:
        self._matrix = matrix
        self._size = size
        self._pixels = np.full((size[1] * self.FINE, size[0] * self.FINE), background, np.uint8)

    def polygon(self, corners: list[tuple[float, float]], level: int) -> None:
        """Fill the polygon with a grey level."""
        points = np.array(corners) @ self._matrix[:, :2].T + self._matrix[:, 2]
        # OpenCV fills both edge pixels: only with edges on whole fine pixels does an upright box keep its middle.
        fine = np.round((points + 0.5) * self.FINE * 16).astype(np.int32)
        cv2.fillPoly(self._pixels, [fine], (level,), shift=4)

    def box(self, x: float, y: float, width: float, height: float, level: int) -> None:
        """Fill a rectangle."""
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], level)

    def disc(self, x: float, y: float, radius: float, level: int) -> None:
        """Fill a circle."""
        turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        self.polygon([(x + radius * float(np.cos(t)), y + radius * float(np.sin(t))) for t in turns], level)

    def picture(self) -> Image:
        """Return the grey picture, (height, width) uint8."""
        return np.asarray(cv2.resize(self._pixels, self._size, interpolation=cv2.INTER_AREA), np.uint8)


def draw_part(
    pose: Pose = GOLDEN_POSE,
    *,
    missing: tuple[str, ...] = (),
    bent: Mapping[str, tuple[float, float]] | None = None,
    gain: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
    background: int = 70,
    enlarge: int = 1,
) -> Image:
    """Return a BGR picture (600, 800, 3) of the part at `pose`.

    missing: pins left out; bent: pin id -> shift of its tip in px; gain, noise: brightness factor, standard deviation
    in grey levels; enlarge: 2 draws the same scene with twice the pixels.
    """
    matrix = np.diag([enlarge, enlarge, 1.0])[:2, :2] @ pose.matrix()
    canvas = Canvas(matrix, (WIDTH_PX * enlarge, HEIGHT_PX * enlarge), background)
    _draw_housing(canvas)
    for pin_id, (x, y) in PINS.items():
        if pin_id not in missing:
            _draw_pin(canvas, x, y, (bent or {}).get(pin_id, (0.0, 0.0)))
    return _finish(canvas.picture(), gain, noise, seed)


def empty_scene(*, level: int = 70, noise: float = 2.0, seed: int = 0) -> Image:
    """Return a picture of the background alone, (600, 800, 3)."""
    return _finish(np.full((HEIGHT_PX, WIDTH_PX), level, np.uint8), 1.0, noise, seed)


def encoded(image: Image, ending: str = ".jpg") -> bytes:
    """Return the picture as file bytes (".jpg", ".png", ".bmp", ".tiff")."""
    done, data = cv2.imencode(ending, image, [cv2.IMWRITE_TIFF_COMPRESSION, 1] if ending == ".tiff" else [])
    assert done, ending
    return data.tobytes()


def recipe_data() -> dict[str, Any]:
    """Return the content of recipe.yaml without the golden picture's hash."""
    names = ("x", "y", "width", "height")
    return {
        "recipe": "test-pins-8",
        "product": "8 pin test connector",
        "golden": "golden.png",
        "registration": {
            "part": dict(zip(names, PART, strict=True)),
            "fiducials": [dict(zip(names, box, strict=True)) for box in FIDUCIALS],
            "max_rotation_deg": 12,
            "max_scale_change": 0.06,
            "max_residual_px": 1.0,
            "min_score": 0.6,
        },
        "regions": [
            {
                "region_id": "pins",
                "box": dict(zip(names, REGION, strict=True)),
                "pins": [{"pin_id": pin_id, "x": x, "y": y} for pin_id, (x, y) in PINS.items()],
            }
        ],
        "defect_modes": ["missing", "bent"],
        "ask": "pins",
        "pins": {"instruction": "Judge the pin.", "tile_px": 64, "tile_model_px": 64},
        "report": {"instruction": "Report.", "images": 2, "width_model_px": 336, "height_model_px": 160},
        "thresholds": {"ok_max_p_defect": 0.2, "not_ok_min_p_defect": 0.8, "min_mass": 0.5},
        "deadline_ms": 5000,
    }


def sha256_of(path: Path) -> str:
    """Return the hash of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_recipe(folder: Path, golden_png: bytes | None = None, **changes: Any) -> Path:
    """Write golden.png and recipe.yaml into `folder`, keywords replace keys; return the path of recipe.yaml."""
    golden = golden_png or encoded(draw_part(), ".png")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golden.png").write_bytes(golden)
    data = recipe_data() | {"golden_sha256": hashlib.sha256(golden).hexdigest()} | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def make_recipe(folder: Path, **registration: Any) -> Recipe:
    """Write the test recipe into `folder` and return it; keywords replace values of its `registration` section."""
    path = write_recipe(folder)
    data = yaml.safe_load(path.read_text())
    data["registration"] |= registration
    digest = hashlib.sha256(path.read_bytes() + (folder / "golden.png").read_bytes()).hexdigest()
    return Recipe(file=RecipeFile.model_validate(data), sha256=digest, golden_path=folder / "golden.png")


def _draw_housing(canvas: Canvas) -> None:
    x, y, width, height = PART
    canvas.box(x, y, width, height, 120)
    canvas.box(x + 6, y + 6, width - 12, height - 12, 95)
    canvas.box(232, 222, 336, 156, 40)
    canvas.polygon([(204, 174), (236, 174), (204, 206)], 170)
    canvas.disc(400, 190, 15, 25)
    canvas.disc(405, 187, 6, 160)
    canvas.box(566, 176, 28, 28, 30)
    canvas.box(580, 176, 14, 14, 180)
    canvas.box(204, 394, 32, 12, 175)
    canvas.box(204, 394, 12, 32, 175)
    canvas.polygon([(354, 426), (386, 426), (370, 394)], 20)
    canvas.disc(580, 410, 16, 165)
    canvas.disc(573, 405, 7, 30)


def _draw_pin(canvas: Canvas, x: float, y: float, bend: tuple[float, float]) -> None:
    canvas.disc(x, y, 14, 20)
    x, y = x + bend[0], y + bend[1]
    canvas.disc(x, y, 10, 200)
    canvas.disc(x - 2.5, y - 3, 4, 250)


def _finish(grey: Image, gain: float, noise: float, seed: int) -> Image:
    levels = grey.astype(np.float32) * gain
    if noise:
        levels += np.random.default_rng(seed).normal(0, noise, grey.shape).astype(np.float32)
    tint = np.stack([levels * 0.96, levels, levels * 1.03], axis=2)
    return np.asarray(np.clip(np.round(tint), 0, 255), np.uint8)
