"""Turns scenes into the pictures a model sees, on the GPU: a camera, a registration, a crop, a composite.

Each picture is drawn at camera pixels, blurred, given noise and JPEG damage, and only then warped onto the golden grid
with the registration error of its view, as the station does with a real frame. Grey values are rounded to 8 bit twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import render
import sampling
import scenes
import torch
import torch.nn.functional as F

Tensors = Mapping[str, torch.Tensor]
# ITU-T T.81 table K.1, luminance
_JPEG = torch.tensor(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
).reshape(8, 8)
_DCT = torch.tensor(
    [[math.cos((2 * x + 1) * u * math.pi / 16) * (0.5 if u else 0.5**1.5) for x in range(8)] for u in range(8)]
)


def part(batch: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    """Return the entries of `batch` under `prefix`."""
    return {key[len(prefix) :]: value for key, value in batch.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class Golden:
    """A recipe's own golden pixels, 0..255."""

    tiles: torch.Tensor
    """(scenes.MAX_PINS, tile, tile), by pin index."""
    region: torch.Tensor
    """(160, 400)."""


class Camera:
    """Draws on one device. `generator` makes noise reproducible."""

    def __init__(self, device: str, seed: int, fast: bool) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.table = _JPEG.to(device).float()
        self.dct = _DCT.to(device)
        self.shade = torch.compile(render.shade, dynamic=False) if fast else render.shade

    def rand(self, *shape: int) -> torch.Tensor:
        """Return uniform noise."""
        return torch.rand(*shape, device=self.device, generator=self.generator)

    def randn(self, *shape: int) -> torch.Tensor:
        """Return normal noise; both halves of a batch (the twins) get the same."""
        half = torch.randn(shape[0] // 2, *shape[1:], device=self.device, generator=self.generator)
        return torch.cat([half, half])

    def pins(self, batch: Tensors, own: Golden | None = None, tile: int = sampling.TILE_PX) -> torch.Tensor:
        """Return composites (n, 3, tile, 3 * tile), 0..255 whole numbers: golden | test | signed difference.

        `own`: the product's golden picture; without it every part gets a golden part of its own design.
        """
        target = batch["target"]
        row, column = (target // scenes.MAX_COLUMNS)[:, None, None], (target % scenes.MAX_COLUMNS)[:, None, None]
        centre = torch.cat(scenes.place_at(part(batch, "scene."), row, column), 2)[:, 0].float()
        pitch = tile / batch["extent"]
        test = self.view(part(batch, "scene."), part(batch, "view."), centre, pitch, (tile, tile))
        if own is None:
            golden = self.golden(part(batch, "golden."), part(batch, "view."), centre, pitch, (tile, tile))
        else:
            golden = own.tiles[target]
        test = self.negate(test, batch, pitch, (tile, tile))
        if own is not None:
            return compose(golden, test)
        return compose(*(render.coloured(grey, part(batch, "scene."), torch) for grey in (golden, test)))

    def regions(self, batch: Tensors, images: int, own: Golden | None = None) -> list[torch.Tensor]:
        """Return `images` pictures (n, 160, 400), 0..255: the crop, or golden crop and crop."""
        scene, view, size = part(batch, "scene."), part(batch, "view."), sampling.REGION_PX
        centre = torch.stack([batch["centre_x"], batch["centre_y"]], 1).float()
        test = self.view(scene, view, centre, batch["pitch"], size)
        test = self.negate(test, batch, batch["pitch"], size)
        if images == 1:
            return [test]
        if own is not None:
            return [own.region.expand_as(test), test]
        return [self.golden(part(batch, "golden."), view, centre, batch["pitch"], size), test]

    def golden(
        self, scene: Tensors, view: Tensors, centre: torch.Tensor, pitch: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """Return the golden picture's pixels (n, h, w) on its own grid, nominal lamp."""
        n, (w, h) = len(pitch), size
        x, y = _grid(w, h, self.device)
        x, y = x / pitch[:, None, None] + centre[:, 0, None, None], y / pitch[:, None, None] + centre[:, 1, None, None]
        light = {"hx": view["hx"] * 0 - 0.12, "hy": view["hy"] * 0 - 0.12, "gain": view["gain"] * 0 + 1}
        light |= {"slope_x": view["slope_x"] * 0, "slope_y": view["slope_y"] * 0}
        grey = self.shade(scene, x, y, pitch[:, None, None], light, torch)
        grey = blur(grey, view["golden_blur"]) + view["golden_noise"][:, None, None] * self.randn(n, h, w)
        return (grey.clip(0, 1) * 255).round()

    def view(
        self, scene: Tensors, view: Tensors, centre: torch.Tensor, pitch: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """Return the test picture's pixels (n, h, w), as capture would crop them from a camera frame."""
        n, (w, h) = len(pitch), size
        reach = 1.2 * (w * 0.99 + h * 0.16) + 12, 1.2 * (h * 0.99 + w * 0.16) + 12
        cw, ch = (8 * math.ceil(r / 8) for r in reach)
        u, v = _grid(cw, ch, self.device)
        u, v = u + view["phase_x"][:, None, None], v + view["phase_y"][:, None, None]
        cos, sin = torch.cos(view["rotation"])[:, None, None], torch.sin(view["rotation"])[:, None, None]
        sharp = (pitch * view["scale"])[:, None, None]
        x = (cos * u + sin * v) / sharp + centre[:, 0, None, None]
        y = (-sin * u + cos * v) / sharp + centre[:, 1, None, None]
        frame = self.shade(scene, x, y, sharp, view, torch)
        frame = blur(frame, (view["blur"] ** 2 + view["motion"] ** 2).sqrt(), view["blur"])
        frame = frame + view["noise"][:, None, None] * self.randn(n, ch, cw)
        frame = self.jpeg((frame.clip(0, 1) * 255).round(), view["jpeg"])
        return (self.warp(frame, view, size) + 1e-3).round()

    def warp(self, frame: torch.Tensor, view: Tensors, size: tuple[int, int]) -> torch.Tensor:
        """Return what registration with its error makes of the camera pixels: (n, h, w) on the golden grid."""
        n, ch, cw = frame.shape
        gx, gy = _grid(*size, self.device)
        gx, gy = gx.expand(n, -1, -1), gy.expand(n, -1, -1)
        e = view["error_rotation"][:, None, None]
        ex = view["error_scale_x"][:, None, None] * (gx - e * gy) + view["error_x"][:, None, None]
        ey = view["error_scale_y"][:, None, None] * (gy + e * gx) + view["error_y"][:, None, None]
        cos, sin = torch.cos(view["rotation"])[:, None, None], torch.sin(view["rotation"])[:, None, None]
        k = view["scale"][:, None, None]
        u = k * (cos * ex - sin * ey) - view["phase_x"][:, None, None]
        v = k * (sin * ex + cos * ey) - view["phase_y"][:, None, None]
        where = torch.stack([2 * u / cw, 2 * v / ch], -1)
        return F.grid_sample(frame[:, None], where, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]

    def jpeg(self, grey: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        """Return 0..255 pictures after quantizing their 8x8 blocks; quality 0..1 means JPEG 75..98, above 0.9 none."""
        n, h, w = grey.shape
        percent = 75 + 23 * quality[:, None, None]
        table = (self.table[None] * (200 - 2 * percent) / 100).clip(1, 255)[:, None, None]
        blocks = (grey - 128).view(n, h // 8, 8, w // 8, 8).transpose(2, 3)
        coefficients = self.dct @ blocks @ self.dct.T
        coefficients = (coefficients / table).round() * table
        blocks = self.dct.T @ coefficients @ self.dct
        damaged = (blocks.transpose(2, 3).reshape(n, h, w) + 128).round().clip(0, 255)
        return torch.where((quality > 0.9)[:, None, None], grey, damaged)

    def negate(self, test: torch.Tensor, batch: Tensors, pitch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Replace the pixels of the honest negatives."""
        kind = batch["negative"]
        index = torch.nonzero(kind >= 0)[:, 0]
        if not len(index):
            return test
        kind, n, (w, h) = kind[index], len(index), size
        level, noise = self.rand(n, 1, 1), torch.randn(n, h, w, device=self.device, generator=self.generator)
        x, y = _grid(w, h, self.device)
        slope = (self.rand(n, 1, 1) - 0.5) * x / w + (self.rand(n, 1, 1) - 0.5) * y / h
        empty = level + 0.6 * slope + 0.03 * self.rand(n, 1, 1) * noise
        # another product: other tiles of the batch, drawn half a pitch off and at another scale
        donors = test[(index + 1 + n) % len(test)]
        scale = torch.where(self.rand(n, 1, 1) < 0.5, 0.55 + 0.2 * self.rand(n, 1, 1), 1.4 + 0.6 * self.rand(n, 1, 1))
        other = _resample(donors, scale * x, scale * y)
        really = (self.rand(n, 1, 1) < 0.6) & ~batch["own_golden"][index][:, None, None]
        other = torch.where(really, test[index], other)
        angle = self.rand(n, 1, 1) * 2 * math.pi
        shift = pitch[index][:, None, None] * (0.42 + 0.16 * self.rand(n, 1, 1))
        shifted = _resample(test[index], x + shift * torch.cos(angle), y + shift * torch.sin(angle))
        faint = 2 * noise * self.rand(n, 1, 1)
        choices = torch.stack(
            [
                level * 255 + faint, 6 * level + faint.abs(), 255 - 4 * level - faint.abs(),
                128 + 60 * noise, 255 * empty, other, shifted,
            ]
        )  # fmt: skip
        replaced = test.clone()
        replaced[index] = choices[kind, torch.arange(n, device=self.device)].clip(0, 255).round()
        return replaced


def compose(golden: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
    """Return golden | test | signed difference side by side, as station.composite does with whole numbers."""
    return torch.cat([golden, test, torch.floor((test - golden) / 2) + 128], -1)


def blur(grey: torch.Tensor, sigma_x: torch.Tensor, sigma_y: torch.Tensor | None = None) -> torch.Tensor:
    """Return each picture blurred by its own Gaussian, sigma in px up to 2."""
    n = len(grey)
    taps = torch.arange(-5, 6, device=grey.device).float()

    def kernel(sigma: torch.Tensor) -> torch.Tensor:
        k = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
        return k / k.sum(1, keepdim=True)

    rows, columns = kernel(sigma_x), kernel(sigma_x if sigma_y is None else sigma_y)
    padded = F.pad(grey[None], (5, 5, 5, 5), mode="replicate")
    across = F.conv2d(padded, rows[:, None, None, :], groups=n)
    return F.conv2d(across, columns[:, None, :, None], groups=n)[0]


def _grid(w: int, h: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pixel centres relative to the picture's middle, (1, h, w) each."""
    y, x = torch.meshgrid(
        torch.arange(h, device=device) + 0.5 - h / 2, torch.arange(w, device=device) + 0.5 - w / 2, indexing="ij"
    )
    return x[None], y[None]


def _resample(pictures: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    n, h, w = pictures.shape
    where = torch.stack([2 * x.expand(n, h, w) / w, 2 * y.expand(n, h, w) / h], -1)
    return F.grid_sample(pictures[:, None], where, padding_mode="reflection", align_corners=False)[:, 0]


def patch_modes(batch: Tensors, size: tuple[int, int], patch: int = 16) -> torch.Tensor:
    """Return the mode of the pin nearest to each patch's middle, (n, patches); 6 where none is within 0.6 pitch."""
    scene = part(batch, "scene.")
    w, h = size[0] // patch, size[1] // patch
    x, y = _grid(w, h, batch["pitch"].device)
    x = x * patch / batch["pitch"][:, None, None] + batch["centre_x"][:, None, None].float()
    y = y * patch / batch["pitch"][:, None, None] + batch["centre_y"][:, None, None].float()
    column, row, index = scenes.nearest_pin(scene, x, y, torch)
    mode = scene["mode"][scene["part"][:, None, None], index]
    place_x, place_y = scenes.place_at(scene, row, column)
    near = torch.maximum((x - place_x).abs(), (y - place_y).abs()) < 0.6
    known = (batch["negative"] < 0)[:, None, None]
    return torch.where(near & known, mode, torch.full_like(mode, 6)).flatten(1)


def to_device(batch: Mapping[str, object], device: str) -> dict[str, torch.Tensor]:
    """Return a loader's arrays as tensors: whole numbers as int64, the rest as float32."""
    out = {}
    for key, value in batch.items():
        tensor = torch.as_tensor(value)
        tensor = tensor.to(device, non_blocking=True)
        whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
        keep = key.endswith((".mode", ".part")) or "." not in key
        out[key] = tensor.long() if whole and keep else tensor.float() if tensor.dtype != torch.bool else tensor
    return out
