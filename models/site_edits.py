"""Training batches from a product's own pins: real pins, and edits of good ones as defects they do not have yet.

In: `SitePins` on one device. Out: composites as the station shows them, with labels. The first half of a batch is
defective, the second half its twins without the defect, with the same pose and lamp. An edit erases the tip, shifts or
deforms it, pastes dirt on it or a bridge beside it. A few of each half are undecidable: blank, black, saturated, noise,
another place.
"""

import math

import defects
import torch
import torch.nn.functional as F
from site_pins import RIM_PX, TILE_PX, UNDECIDABLE, SitePins

PITCH_PX = TILE_PX / 1.7
"""Of the model's picture."""
REAL_SHARE, ENOUGH = 0.5, 30
"""Of the defective half, where the set has real defects; and real ones of a mode from which on none of it are edits."""
BLIND_SHARE = 0.08
SHIFT, TURN_DEG, SCALE, GAIN, NOISE, BLUR_PX = 0.10, 2.0, 0.03, 0.25, 7.0, 1.0
"""Changes of a test tile: shift in pitches (deviation), the others at most; noise in grey levels."""
TIP, WHOLE_TIP = (0.14, 0.5), (0.3, 0.5)
"""Radius of what counts as the tip, in pitches; and where its edge must lie inside, since stretching its flat middle
changes nothing that could be seen."""
BENT, LOOSE, LOOSE_SHARE = (0.28, 0.75), 0.18, 0.4
"""In pitches: how far a bent tip stands off, and how far a share of the good ones may where no real bent ones tell."""
GLINT_SHARE = 0.25

Batch = dict[str, torch.Tensor]


class SiteBatches:
    """Makes batches on one device; reproducible by its seed."""

    def __init__(self, pins: SitePins, modes: tuple[int, ...], device: str, seed: int) -> None:
        self.device = device
        self.golden = self._planes(pins.golden)
        self.tests = self._planes(pins.tests)
        self.golden_of = torch.from_numpy(pins.golden_of).to(device).long()
        self.mode = torch.from_numpy(pins.mode).to(device).long()
        self.random = torch.Generator(device).manual_seed(seed)
        self.good = torch.nonzero(self.mode == 0)[:, 0]
        self.bad = torch.nonzero(self.mode > 0)[:, 0]
        self.blind = torch.nonzero(self.mode == UNDECIDABLE)[:, 0]
        real = torch.bincount(self.mode[self.bad], minlength=len(defects.MODES)).tolist()
        lacking = tuple(mode for mode in modes if real[mode] < ENOUGH)
        self.modes = torch.tensor(lacking or modes, device=device)
        self.real_share = REAL_SHARE if lacking else 1.0
        self.loose_share = LOOSE_SHARE if defects.BENT in lacking else 0.0

    def _planes(self, pixels: object) -> torch.Tensor:
        planes = torch.as_tensor(pixels).to(self.device).permute(0, 3, 1, 2)
        return planes.contiguous()

    def rand(self, *shape: int) -> torch.Tensor:
        """Return uniform noise, 0..1."""
        return torch.rand(*shape, device=self.device, generator=self.random)

    def draw(self, size: int) -> tuple[torch.Tensor, Batch]:
        """Return composites (size, 3, TILE_PX, 3 * TILE_PX), 0..255, and the labels judgement and mode."""
        half = size // 2
        source = self._pick(self.good, half)
        mode = self.modes[self._pick(torch.arange(len(self.modes), device=self.device), half)]
        good = self._loosened(self.tests[source].float(), source)
        bad = self._edited(good, mode)
        golden = self.golden[self.golden_of[source]].float()
        bad, first_golden, mode = self._with_real(bad, golden, mode, self.real_share)
        tests = self._changed(torch.cat([bad, good]), half)
        goldens = torch.cat([first_golden, golden])[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        judgement = torch.cat([torch.ones_like(mode), torch.zeros_like(mode)])
        modes = torch.cat([mode, torch.zeros_like(mode)])
        tests = self._blinded(tests, goldens, judgement, modes)
        return shown(goldens, tests), {"judgement": judgement, "mode": modes}

    def _with_real(
        self, bad: torch.Tensor, golden: torch.Tensor, mode: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tiles, golden tiles and modes, a share of them the set's own defects, where it has any."""
        if not len(self.bad):
            return bad, golden, mode
        real, chosen = self.rand(len(bad)) < share, self._pick(self.bad, len(bad))
        wide, its_golden = real[:, None, None, None], self.golden[self.golden_of[chosen]].float()
        mode = torch.where(real, self.mode[chosen], mode)
        return torch.where(wide, self.tests[chosen].float(), bad), torch.where(wide, its_golden, golden), mode

    def _pick(self, index: torch.Tensor, count: int) -> torch.Tensor:
        return index[torch.randint(len(index), (count,), device=self.device, generator=self.random)]

    def _grid(self, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        line = torch.arange(side, device=self.device) + 0.5 - side / 2
        y, x = torch.meshgrid(line, line, indexing="ij")
        return x[None], y[None]

    def _column(self, low: float, high: float, count: int) -> torch.Tensor:
        return (low + (high - low) * self.rand(count))[:, None, None]

    def _loosened(self, tile: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Return good tiles, some with a tip that stands off a little, some with a glint beside it."""
        count = len(source)
        away = self._column(0, LOOSE, count) * PITCH_PX * (self.rand(count) < self.loose_share)[:, None, None]
        loose = self._moved_tip(tile, away, self._column(0, 2 * math.pi, count))
        x, y = self._grid(tile.shape[-1])
        angle, far = self._column(0, 2 * math.pi, count), self._column(0.35, 0.8, count) * PITCH_PX
        size = self._column(0.8, 2.2, count)
        spot = torch.exp(-((x - far * torch.cos(angle)) ** 2 + (y - far * torch.sin(angle)) ** 2) / (2 * size**2))
        glint = spot * 220 * self.rand(count)[:, None, None] * (self.rand(count) < GLINT_SHARE)[:, None, None]
        return (loose + glint[:, None]).clip(0, 255)

    def _disc(self, count: int, side: int, radius: torch.Tensor) -> torch.Tensor:
        x, y = self._grid(side)
        return torch.sigmoid((radius - (x**2 + y**2).sqrt()) / 0.8).expand(count, -1, -1)

    def _hole(self, tile: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what may lie below the tip: a mean of its surroundings, or what lies beside it."""
        count, side = len(tile), tile.shape[-1]
        weight = (1 - mask)[:, None]
        smooth = F.avg_pool2d(tile * weight, 31, 1, 15) / F.avg_pool2d(weight, 31, 1, 15).clip(min=1e-3)
        grain = 6 * torch.randn(count, 1, side, side, device=self.device, generator=self.random)
        angle, far = self._column(0, 2 * math.pi, count), PITCH_PX * self._column(0.45, 0.7, count)
        beside = self._sampled(tile, far * torch.cos(angle), far * torch.sin(angle))
        return torch.where((self.rand(count) < 0.5)[:, None, None, None], smooth + grain, beside)

    def _sampled(
        self, tile: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, a: torch.Tensor | None = None,
        b: torch.Tensor | None = None, c: torch.Tensor | None = None, d: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Return the tile seen at (a x + b y + dx, c x + d y + dy)."""
        x, y = self._grid(tile.shape[-1])
        u = (x if a is None else a * x + b * y) + dx
        v = (y if d is None else c * x + d * y) + dy
        where = torch.stack([u.expand(len(tile), -1, -1), v.expand(len(tile), -1, -1)], -1) / (tile.shape[-1] / 2)
        return F.grid_sample(tile, where, padding_mode="reflection", align_corners=False)

    def _moved_tip(self, tile: torch.Tensor, away: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """Return tiles whose tip stands `away` px off, its old place filled."""
        radius = self._column(*TIP, len(tile)).clip(max=0.35) * PITCH_PX
        dx, dy = away * torch.cos(angle), away * torch.sin(angle)
        mask = self._disc(len(tile), tile.shape[-1], radius)
        empty = torch.lerp(tile, self._hole(tile, mask), mask[:, None])
        x, y = self._grid(tile.shape[-1])
        there = torch.sigmoid((radius - ((x - dx) ** 2 + (y - dy) ** 2).sqrt()) / 0.8)
        return torch.where(
            (away > 0.3)[:, None], torch.lerp(empty, self._sampled(tile, -dx, -dy), there[:, None]), tile
        )

    def _edited(self, tile: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        """Return the tiles, each with a defect of its mode."""
        x, y = self._grid(tile.shape[-1])
        edits = {
            defects.MISSING: self._emptied, defects.BENT: self._bent, defects.DEFORMED: self._deformed,
            defects.CONTAMINATED: lambda some: self._dirty(some, x, y),
            defects.SHORT: lambda some: self._bridged(some, x, y),
        }  # fmt: skip
        out = tile.clone()
        for number, edit in edits.items():
            here = torch.nonzero(mode == number)[:, 0]
            if len(here):
                out[here] = edit(tile[here])
        return out.clip(0, 255)

    def _tip_mask(self, tile: torch.Tensor, radius: tuple[float, float]) -> torch.Tensor:
        return self._disc(len(tile), tile.shape[-1], self._column(*radius, len(tile)) * PITCH_PX)

    def _emptied(self, tile: torch.Tensor) -> torch.Tensor:
        """Erase the tip."""
        mask = self._tip_mask(tile, TIP)
        return torch.lerp(tile, self._hole(tile, mask), mask[:, None])

    def _bent(self, tile: torch.Tensor) -> torch.Tensor:
        """Put the tip elsewhere."""
        count = len(tile)
        return self._moved_tip(tile, self._column(*BENT, count) * PITCH_PX, self._column(0, 2 * math.pi, count))

    def _deformed(self, tile: torch.Tensor) -> torch.Tensor:
        """Stretch the tip along one direction, squeeze it across."""
        count = len(tile)
        long, wide = self._column(0.4, 0.75, count), self._column(1.25, 1.9, count)
        turn = self._column(0, math.pi, count)
        cos, sin = torch.cos(turn), torch.sin(turn)
        a, d = cos**2 * long + sin**2 * wide, sin**2 * long + cos**2 * wide
        b = cos * sin * (long - wide)
        return torch.lerp(tile, self._sampled(tile, 0 * a, 0 * a, a, b, b, d), self._tip_mask(tile, WHOLE_TIP)[:, None])

    def _colour(self, tile: torch.Tensor) -> torch.Tensor:
        """Return the colour of what is pasted: dark, bright, or the tile's own darkest or brightest."""
        flat = tile.flatten(2)
        own = torch.where((self.rand(len(tile)) < 0.5)[:, None], flat.quantile(0.03, 2), flat.quantile(0.97, 2))
        plain = 255 * self.rand(len(tile))[:, None].expand_as(own)
        return torch.where((self.rand(len(tile)) < 0.7)[:, None], own, plain)[:, :, None, None]

    def _dirty(self, tile: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Paste a blob of another colour on or near the tip."""
        count = len(tile)
        angle, far = self._column(0, 2 * math.pi, count), self._column(0, 0.6, count) * PITCH_PX
        u, v = x - far * torch.cos(angle), y - far * torch.sin(angle)
        long, wide = self._column(0.07, 0.35, count) * PITCH_PX, self._column(0.07, 0.2, count) * PITCH_PX
        turn = self._column(0, math.pi, count)
        p, q = torch.cos(turn) * u + torch.sin(turn) * v, torch.cos(turn) * v - torch.sin(turn) * u
        edge = 1 + 0.25 * torch.sin(3 * torch.atan2(q, p) + 6 * self._column(0, 1, count))
        mask = torch.sigmoid((edge - ((p / long) ** 2 + (q / wide) ** 2).sqrt()) * wide / 0.8)
        return self._seen(tile, mask)

    def _bridged(self, tile: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Paste a bar through the middle, towards a neighbour."""
        count = len(tile)
        turn = self._column(0, 2 * math.pi, count)
        p, q = torch.cos(turn) * x + torch.sin(turn) * y, torch.cos(turn) * y - torch.sin(turn) * x
        width = self._column(0.06, 0.2, count) * PITCH_PX
        q = q - self._column(-0.3, 0.3, count) * PITCH_PX
        length = self._column(0.3, 1.0, count) * PITCH_PX
        mask = torch.sigmoid((width - q.abs()) / 0.8) * torch.sigmoid((length - p) / 0.8) * torch.sigmoid((p + 3) / 0.8)
        return self._seen(tile, mask)

    def _seen(self, tile: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the tile with a colour pasted; where that changes nothing, its inverse."""
        colour = self._colour(tile)
        below = (tile * mask[:, None]).sum((2, 3), keepdim=True) / mask[:, None].sum((2, 3), keepdim=True).clip(min=1)
        same = (colour - below).abs().amax(1, keepdim=True) < 40
        colour = torch.where(same, torch.where(below > 127, below - 100, below + 100), colour)
        return torch.lerp(tile, colour.expand_as(tile), mask[:, None])

    def _changed(self, wide: torch.Tensor, half: int) -> torch.Tensor:
        """Return test tiles as another frame shows them: registration, lamp, focus, noise. Twins share them."""

        def both(values: torch.Tensor) -> torch.Tensor:
            return torch.cat([values, values])

        def spread(most: float) -> torch.Tensor:
            return both(self._column(-most, most, half))

        def normal(deviation: float) -> torch.Tensor:
            values = deviation * torch.randn(half, 1, 1, device=self.device, generator=self.random)
            return both(values.clip(-2 * deviation, 2 * deviation))

        turn, scale = torch.deg2rad(spread(TURN_DEG)), 1 + spread(SCALE)
        cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
        seen = self._sampled(wide, normal(SHIFT * PITCH_PX), normal(SHIFT * PITCH_PX), cos, -sin, sin, cos)
        seen = seen[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        soft = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
        seen = torch.lerp(seen, soft, both(BLUR_PX * self.rand(half))[:, None, None, None])
        grain = both(torch.randn(half, seen.shape[1], TILE_PX, TILE_PX, device=self.device, generator=self.random))
        gain, offset = torch.exp(spread(GAIN)), spread(10.0)
        seen = seen * gain[:, None] + offset[:, None] + both(NOISE * self.rand(half) ** 2)[:, None, None, None] * grain
        return seen.clip(0, 255).round()

    def _blinded(
        self, tests: torch.Tensor, goldens: torch.Tensor, judgement: torch.Tensor, modes: torch.Tensor
    ) -> torch.Tensor:
        """Replace the last of each half by what nobody can judge; labels are changed in place.

        So are golden tiles: a grey one, beside the pin or beside the same grey, is nothing to compare with (G2 and G5
        of the challenge).
        """
        count, side = max(2, round(len(tests) // 2 * BLIND_SHARE)), TILE_PX
        half = len(tests) // 2
        index = torch.cat([torch.arange(half - count, half), torch.arange(2 * half - count, 2 * half)]).to(self.device)
        n, channels = len(index), tests.shape[1]
        level = 255 * self.rand(n, 1, 1, 1)
        grain = torch.randn(n, channels, side, side, device=self.device, generator=self.random)
        before = goldens[index]
        cut = before.flatten(1).quantile(0.5 + 0.4 * float(self.rand(1)), 1)[:, None, None, None]
        back_light = (before - cut) * (3 + 9 * self.rand(n, 1, 1, 1)) + cut
        elsewhere = goldens[torch.randperm(len(goldens), device=self.device, generator=self.random)[:n]]
        moved = torch.roll(elsewhere, (int(0.5 * PITCH_PX), int(0.35 * PITCH_PX)), (2, 3))
        grey = 64 + 128 * self.rand(n, 1, 1, 1)
        without_golden = [tests[index], grey]
        choices = [level + 2 * grain, 5 * grain.abs(), 255 - 4 * grain.abs(), 128 + 60 * grain, back_light, moved]
        choices += without_golden
        picture = torch.stack([choice.expand_as(before) for choice in choices])
        kind = torch.randint(len(choices), (n,), device=self.device, generator=self.random)
        chosen = picture[kind, torch.arange(n, device=self.device)]
        out = tests.clone()
        out[index] = chosen.clip(0, 255).round()
        is_grey = kind >= len(choices) - len(without_golden)
        goldens[index[is_grey]] = grey[is_grey].round()
        if len(self.blind):
            real = index[: max(1, n // 3)]
            tiles = self.tests[self._pick(self.blind, len(real))].float()
            out[real] = tiles[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        judgement[index], modes[index] = 2, 0
        return out


def shown(golden: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
    """Return golden | test | signed difference, always three channels, as station.composite does."""
    picture = torch.cat([golden, test, torch.floor((test - golden) / 2) + 128], 3)
    return picture.expand(-1, 3, -1, -1) if picture.shape[1] == 1 else picture
