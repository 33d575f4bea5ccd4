"""The ablation's other way of asking: the whole region, alone or beside its golden picture; five lines of report.

The same pictures, the same seconds; labels are the count, the judgement, the first defective pin's mode and place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import defects
import network
import numpy as np
import probe
import scenes
import site_cut
import torch
import torch.nn.functional as F
from PIL import Image
from site_edits import Batch
from site_pins import Pixels, SitePins
from site_training import Plan, steps

from station.capture.crop import golden_crops
from station.recipe_file import load_recipe

if TYPE_CHECKING:
    from ablate import Material

BATCH = 48
SHIFT_PX, GAIN, NOISE = 3.0, 0.12, 5.0
PATCH = 16


def cut(recipe_path: Path, folder: Path) -> Pixels:
    """Return the first region at the report's size, (1 + pictures, height, width, 3): golden, and of each picture."""
    recipe = load_recipe(recipe_path)
    name, size = recipe.file.regions[0].region_id, recipe.file.report
    crops = [site_cut.lit_crops(recipe, golden_crops(recipe).values())]
    crops += [each for _, _, each in site_cut.registered([recipe], folder)]
    pictures = (Image.fromarray(each[name]) for each in crops)
    wanted = (size.width_model_px, size.height_model_px)
    return np.stack([np.asarray(one.resize(wanted, Image.Resampling.BICUBIC)) for one in pictures])


class Regions:
    """A set's regions on one device."""

    def __init__(self, regions: Pixels, pins: SitePins, columns: int, device: str, seed: int) -> None:
        pixels = torch.from_numpy(regions).to(device).permute(0, 3, 1, 2).contiguous()
        self.golden, self.tests = pixels[:1].float(), pixels[1:]
        mode = pins.mode.reshape(len(self.tests), -1).astype(np.int64)
        first = np.argmax(mode > 0, axis=1)
        bad = (mode > 0).any(axis=1)
        place = first // columns * scenes.MAX_COLUMNS + first % columns
        labels = {
            "judgement": bad.astype(np.int64), "mode": mode[np.arange(len(mode)), first],
            "position": np.where(bad, place, -1), "count": (mode != defects.MISSING).sum(axis=1),
        }  # fmt: skip
        self.labels = {key: torch.from_numpy(value).to(device) for key, value in labels.items()}
        self.pin_bad = torch.from_numpy(mode > 0).to(device)
        self.device = device
        self.random = torch.Generator(device).manual_seed(seed)

    def draw(self) -> tuple[torch.Tensor, Batch]:
        """Return changed test regions, defective ones first, and labels."""
        halves = []
        for judgement in (1, 0):
            pool = torch.nonzero(self.labels["judgement"] == judgement)[:, 0]
            halves.append(pool[torch.randint(len(pool), (BATCH // 2,), device=self.device, generator=self.random)])
        index = torch.cat(halves)
        return self._changed(self.tests[index].float()), {key: value[index] for key, value in self.labels.items()}

    def _changed(self, seen: torch.Tensor) -> torch.Tensor:
        n, _, height, width = seen.shape

        def spread(*shape: int) -> torch.Tensor:
            return 2 * torch.rand(n, *shape, device=self.device, generator=self.random) - 1

        shift = torch.eye(2, 3, device=self.device).expand(n, -1, -1).clone()
        shift[:, :, 2] = 2 * SHIFT_PX * spread(2) / torch.tensor([width, height], device=self.device)
        grid = F.affine_grid(shift, [n, 3, height, width], align_corners=False)
        seen = F.grid_sample(seen, grid, padding_mode="border", align_corners=False)
        noise = torch.randn(n, 1, height, width, device=self.device, generator=self.random)
        seen = seen * (1 + GAIN * spread(1, 1, 1)) + NOISE * spread(1, 1, 1).abs() ** 2 * noise
        return seen.clip(0, 255).round()

    def show(self, test: torch.Tensor, pictures: int) -> list[torch.Tensor]:
        """Return the pictures of the queries."""
        return [test] if pictures == 1 else [self.golden.expand_as(test), test]


def run(
    asker: network.Asker, material: "Material", pictures: int, plan: Plan, trained: bool, before: Batch
) -> dict[str, Any]:
    """Train on the set's regions, put the 16-bit weights `before` back, measure and probe."""
    train, test = (
        Regions(regions, pins, material.columns, material.device, plan.seed)
        for regions, pins in ((material.train_regions, material.train), (material.test_regions, material.test))
    )

    def query(_: int) -> tuple[Sequence[torch.Tensor], Batch]:
        tests, labels = train.draw()
        return train.show(tests, pictures), labels

    row: dict[str, Any] = {"steps": steps(asker, asker.forms["report"], query, plan)} if trained else {}
    probe.restore(asker, before)
    row |= _judged(asker, test, pictures)
    centres = torch.from_numpy(material.centres).float().to(material.device)
    seen = [_pin_features(asker, regions, centres) for regions in (train, test)]
    return row | {"probe right": probe.fitted(*seen[0], *seen[1])}


@torch.no_grad()
def _judged(asker: network.Asker, regions: Regions, pictures: int) -> dict[str, float]:
    """Return how right the parts are judged; the judgement is read after the true count, as in training."""
    form = asker.forms["report"]
    prompt = torch.tensor([form.prompt], device=regions.device)
    asker.eval()
    best = []
    for index in torch.arange(len(regions.tests), device=regions.device).split(BATCH):
        labels = {key: value[index] for key, value in regions.labels.items()}
        with torch.autocast(regions.device, torch.bfloat16, enabled=regions.device == "cuda"):
            logits, _ = asker(regions.show(regions.tests[index].float(), pictures), prompt, form.answers(labels)[0])
        best.append(logits[:, form.judgement_at()][:, form.judgements].float().argmax(1))
    said, truth = torch.cat(best), regions.labels["judgement"]
    bad, good = truth == 1, truth == 0
    return {
        "parts": len(truth),
        "judgement right": round(float((said == truth).float().mean()), 4),
        "escapes": round(float((said[bad] == 0).float().mean()), 4),
        "false rejects": round(float((said[good] != 0).float().mean()), 4),
    }


@torch.no_grad()
def _pin_features(asker: network.Asker, regions: Regions, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the tower says at each pin's place and around it, (parts * pins, width), and who is bad."""
    asker.eval()
    rows = []
    around = torch.tensor([(0.0, 0.0), (1, 0), (-1, 0), (0, 1), (0, -1)], device=regions.device)
    for tests in regions.tests.split(BATCH):
        height, width = tests.shape[2] // PATCH, tests.shape[3] // PATCH
        with torch.autocast(regions.device, torch.bfloat16, enabled=regions.device == "cuda"):
            patches = asker.see(tests.float())[1].float()
        grid = patches.transpose(1, 2).reshape(len(tests), -1, height, width)
        step = 2 * around / torch.tensor([width, height], device=regions.device)
        where = (2 * centres - 1)[:, None] + step[None]
        seen = F.grid_sample(grid, where[None].expand(len(tests), -1, -1, -1), align_corners=False)
        rows.append(torch.cat([seen[..., 0], seen.mean(3)], 1).transpose(1, 2).flatten(0, 1))
    return torch.cat(rows), regions.pin_bad.flatten().long()
