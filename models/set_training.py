"""Trains a LoRA on the pins of a labelled set: batches from `PinTiles`, mixed with drawn pins of any product.

In each batch the first half is defective, the second good; what the set has little of comes more often. Test tiles are
shifted, turned, scaled, dimmed, blurred and made noisy at random. Drawn pins keep what the base knows: honest negatives
and defects that the set lacks.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import camera
import network
import numpy as np
import render
import sampling
import torch
import torch.nn.functional as F
from pin_tiles import RIM_PX, TILE_PX, PinTiles

Batch = dict[str, torch.Tensor]
Show = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]
"""From golden and test tiles (n, 3, side, side), 0..255, to the pictures of one query."""
SHIFT_PX, TURN_DEG, SCALE, GAIN, NOISE, BLUR_PX = 2.0, 1.0, 0.01, 0.12, 5.0, 0.9
"""Largest changes of a test tile, in px and grey values of the model's picture."""


@dataclass(frozen=True)
class Plan:
    """One training on a set."""

    seed: int
    seconds: float
    """Of training; the rate falls to nothing over it."""
    batch: int
    learning_rate: float
    drawn_every: int
    """Every so many steps the batch is drawn pins of any product; 0: never."""


def composite(golden: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:
    """Return the station's own picture: golden | test | signed difference."""
    return [camera.compose(golden, test)]


class Tiles:
    """A set's pins on one device."""

    def __init__(self, tiles: PinTiles, device: str, seed: int) -> None:
        self.golden = torch.from_numpy(tiles.golden).to(device).permute(0, 3, 1, 2).float()
        self.tests = torch.from_numpy(tiles.tests).to(device).permute(0, 3, 1, 2).contiguous()
        self.pin, self.part, self.mode = (
            torch.from_numpy(values).to(device) for values in (tiles.pin, tiles.part, tiles.mode)
        )
        self.device = device
        self.random = torch.Generator(device).manual_seed(seed)
        modes = torch.bincount(self.mode, minlength=len(render.MODES)).float()
        self.bad = torch.nonzero(self.mode > 0)[:, 0]
        self.good = torch.nonzero(self.mode == 0)[:, 0]
        self.weights = 1 / modes[self.mode[self.bad]]

    def __len__(self) -> int:
        return len(self.pin)

    def draw(self, size: int) -> tuple[torch.Tensor, torch.Tensor, Batch]:
        """Return golden and changed test tiles of a training batch, each mode as often as the others, and labels."""
        half = size // 2
        bad = self.bad[torch.multinomial(self.weights, half, replacement=True, generator=self.random)]
        good = self.good[torch.randint(len(self.good), (half,), device=self.device, generator=self.random)]
        index = torch.cat([bad, good])
        return self.golden[self.pin[index]], self._changed(self.tests[index].float()), self.labels(index)

    def whole(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, Batch]]:
        """Yield all pins in order, unchanged."""
        for index in torch.arange(len(self), device=self.device).split(size):
            middle = self.tests[index, :, RIM_PX : RIM_PX + TILE_PX, RIM_PX : RIM_PX + TILE_PX].float()
            yield self.golden[self.pin[index]], middle, self.labels(index)

    def labels(self, index: torch.Tensor) -> Batch:
        """Return judgement and mode of pins."""
        mode = self.mode[index]
        return {"mode": mode, "judgement": (mode > 0).long()}

    def _changed(self, wide: torch.Tensor) -> torch.Tensor:
        n = len(wide)

        def spread(most: float) -> torch.Tensor:
            return most * (2 * torch.rand(n, device=self.device, generator=self.random) - 1)

        turn, scale = torch.deg2rad(spread(TURN_DEG)), 1 + spread(SCALE)
        y, x = torch.meshgrid(*[torch.arange(TILE_PX, device=self.device) + 0.5 - TILE_PX / 2] * 2, indexing="ij")
        cos, sin = (scale * torch.cos(turn))[:, None, None], (scale * torch.sin(turn))[:, None, None]
        u = cos * x - sin * y + spread(SHIFT_PX)[:, None, None]
        v = sin * x + cos * y + spread(SHIFT_PX)[:, None, None]
        reach = TILE_PX / 2 + RIM_PX
        seen = F.grid_sample(wide, torch.stack([u, v], -1) / reach, padding_mode="border", align_corners=False)
        sigma = 0.05 + BLUR_PX * torch.rand(n, device=self.device, generator=self.random)
        sigma = torch.where(torch.rand(n, device=self.device, generator=self.random) < 0.5, sigma, 0.05)
        seen = camera.blur(seen.flatten(0, 1), sigma.repeat_interleave(3)).view_as(seen)
        noise = torch.randn(n, 1, TILE_PX, TILE_PX, device=self.device, generator=self.random)
        strength = NOISE * torch.rand(n, device=self.device, generator=self.random) ** 2
        seen = seen * (1 + spread(GAIN))[:, None, None, None] + strength[:, None, None, None] * noise
        return seen.clip(0, 255).round()


def drawn_pins(count: int, size: int, device: str, seed: int) -> list[tuple[torch.Tensor, torch.Tensor, Batch]]:
    """Return batches of drawn pins of any product: golden tiles, test tiles, labels."""
    shot, out = camera.Camera(device, seed, fast=False), []
    for k in range(count):
        raw = sampling.draw_pins(sampling.step_rng(seed, k), size // 2, None, sampling.BASE)
        batch = camera.to_device(raw, device)
        golden, test, _ = shot.pins(batch).to(torch.uint8).chunk(3, dim=-1)
        out.append((golden, test, {key: batch[key] for key in ("judgement", "mode")}))
    return out


def train(
    asker: network.Asker, form: network.AnswerForm, show: Show, tiles: Tiles,
    drawn: Sequence[tuple[torch.Tensor, torch.Tensor, Batch]], plan: Plan,
) -> int:  # fmt: skip
    """Train what requires a gradient until the plan's seconds are over; return the number of steps."""
    parameters = [p for p in asker.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=tiles.device == "cuda"
    )
    prompt = torch.tensor([form.prompt], device=tiles.device)
    asker.train()
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / plan.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, (step + 1) / 20) * (1 - share) ** 0.5
        if plan.drawn_every and step % plan.drawn_every == plan.drawn_every - 1:
            golden, test, labels = drawn[(step // plan.drawn_every) % len(drawn)]
            golden, test = golden.float(), test.float()
        else:
            golden, test, labels = tiles.draw(plan.batch)
        answer, weight = form.answers(labels)
        with torch.autocast(tiles.device, torch.bfloat16):
            logits, _ = asker(show(golden, test), prompt, answer)
            loss = network.loss_of(form, logits, answer, weight, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if tiles.device == "cuda" and step % 4 == 0:
            torch.cuda.synchronize()  # else the clock runs ahead of the work
        step += 1
    return step


@torch.no_grad()
def answers(
    asker: network.Asker, form: network.AnswerForm, show: Show, tiles: Tiles, size: int = 1024
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each pin the margin of defective over passed, whether undecidable is the best, and the said mode."""
    prompt = torch.tensor([form.prompt], device=tiles.device)
    asker.eval()
    rows = []
    for golden, test, labels in tiles.whole(size):
        answer, _ = form.answers(labels)
        with torch.autocast(tiles.device, torch.bfloat16, enabled=tiles.device == "cuda"):
            logits, _ = asker(show(golden, test), prompt, answer)
        logits = logits.float()
        at = logits[:, form.judgement_at()][:, form.judgements]
        said = logits[:, form.mode_at()][:, form.modes].argmax(1)
        rows.append(torch.stack([network.margin_of(form, logits), (at.argmax(1) == 2).float(), said.float()], 1))
    table = torch.cat(rows).cpu().numpy()
    return table[:, 0], table[:, 1] > 0, table[:, 2].astype(np.int64)


def part_table(tiles: PinTiles, margin: np.ndarray, undecided: np.ndarray) -> dict[str, float]:
    """Return how right parts and pins are judged at margin 0; an undecided pin is no pass, but finds no defect."""
    bad_pin = tiles.mode > 0
    parts = int(tiles.part.max()) + 1
    bad, found, passed = np.zeros(parts, bool), np.zeros(parts, bool), np.ones(parts, bool)
    np.logical_or.at(bad, tiles.part, bad_pin)
    np.logical_or.at(found, tiles.part, (margin >= 0) & ~undecided)
    np.logical_and.at(passed, tiles.part, (margin < 0) & ~undecided)
    return {
        "parts": parts,
        "judgement right": round(float(np.where(bad, found, passed).mean()), 4),
        "escapes": round(float(passed[bad].mean()), 4),
        "false rejects": round(float((~passed[~bad]).mean()), 4),
        "pin escapes": round(float(((margin < 0) & ~undecided)[bad_pin].mean()), 5),
        "pin false rejects": round(float(((margin >= 0) | undecided)[~bad_pin].mean()), 6),
    }
