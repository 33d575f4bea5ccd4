"""Training batches from tiles that cover a surface, such as a board: nothing stands in a tile's middle.

In: `SitePins` cut by a recipe of tiles. Out: composites and labels as `SiteBatches` makes them, with other edits: dirt,
holes and bridges anywhere, and no moved tips. Golden picture and test are mirrored and turned together, as lines run
any way; and the test moves against the golden picture by as much as registration leaves.
"""

import defects
import torch
from site_edits import Batch, SiteBatches, shown
from site_pins import RIM_PX, TILE_PX, SitePins

SHIFT_PX, GAIN, NOISE = 1.5, 0.1, 4.0
"""What registration leaves (deviation), the lamp's change and the noise in grey levels at most."""
EDIT_REACH = 0.35
"""How far off the middle an edit lies, as a share of the tile."""
CONTAMINATED, SHORT = defects.MODES.index("contaminated"), defects.MODES.index("short")
REAL_SHARE = 0.6
"""Of the defective half, where the set has real defects."""


class SurfaceBatches(SiteBatches):
    """Makes batches of surface tiles on one device; reproducible by its seed."""

    def __init__(self, pins: SitePins, device: str, seed: int) -> None:
        super().__init__(pins, (CONTAMINATED, CONTAMINATED, SHORT), device, seed)

    def draw(self, size: int) -> tuple[torch.Tensor, Batch]:
        """Return composites (size, 3, TILE_PX, 3 * TILE_PX), 0..255, and the labels judgement and mode."""
        half = size // 2
        source = self._pick(self.good, half)
        good, golden = self.tests[source].float(), self.golden[self.golden_of[source]].float()
        bad, mode = self._marked(good)
        bad, first_golden, mode = self._with_real(bad, golden, mode, REAL_SHARE)
        tests, goldens = self._turned(torch.cat([bad, good]), torch.cat([first_golden, golden]))
        labels = {"judgement": torch.cat([torch.ones_like(mode), torch.zeros_like(mode)]),
                  "mode": torch.cat([mode, torch.zeros_like(mode)])}  # fmt: skip
        return shown(goldens[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX].round(), self._seen_again(tests)), labels

    def _marked(self, tile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tiles with dirt, a hole or a bridge somewhere, and the modes."""
        count = len(tile)
        x, y = self._grid(tile.shape[-1])
        u, v = (self._column(-EDIT_REACH, EDIT_REACH, count) * TILE_PX for _ in range(2))
        mode = self.modes[self._pick(torch.arange(len(self.modes), device=self.device), count)]
        bridged = (mode == SHORT)[:, None, None, None]
        marked = torch.where(bridged, self._bridged(tile, x - u, y - v), self._dirty(tile, x - u, y - v))
        return marked.clip(0, 255), mode

    def _turned(self, tests: torch.Tensor, goldens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both, each tile with its golden one in one of the eight ways a square can lie."""
        both = torch.stack([tests, goldens], 1)
        for axes in ((4,), (3,)):
            mirrored = (self.rand(len(both)) < 0.5)[:, None, None, None, None]
            both = torch.where(mirrored, both.flip(axes), both)
        both = torch.where((self.rand(len(both)) < 0.5)[:, None, None, None, None], both.transpose(3, 4), both)
        return both[:, 0], both[:, 1]

    def _seen_again(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the middles of the tiles, moved by what registration leaves, with another light and noise."""
        count = len(tiles)
        dx, dy = (SHIFT_PX * torch.randn(count, 1, 1, device=self.device, generator=self.random) for _ in range(2))
        seen = self._sampled(tiles, dx.clip(-2 * SHIFT_PX, 2 * SHIFT_PX), dy.clip(-2 * SHIFT_PX, 2 * SHIFT_PX))
        seen = seen[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        gain, noise = torch.exp(self._column(-GAIN, GAIN, count))[:, None], NOISE * self.rand(count, 1, 1, 1) ** 2
        grain = torch.randn(seen.shape, device=self.device, generator=self.random)
        return (seen * gain + noise * grain).clip(0, 255).round()
