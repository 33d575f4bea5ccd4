"""The ablation's parts: all pins of each, what the network answers of them, and how right parts are judged by that."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import network
import numpy as np
import site_cut
import torch
from site_edits import Batch, shown
from site_pins import RIM_PX, SitePins

Show = Callable[[torch.Tensor], Sequence[torch.Tensor]]
"""From composites (n, 3, side, 3 * side), 0..255, to the pictures of one query."""
MANY = 1024
"""Pins that are asked about at once."""


def cut(recipe_path: Path, folder: Path) -> SitePins:
    """Return the pins of a set, part after part, each part's in the recipe's order."""
    pins = site_cut.cut([(recipe_path, folder)])
    count = len(pins.golden)
    order = np.lexsort((pins.golden_of, np.arange(len(pins.mode)) // count))
    if (pins.golden_of[order] != np.arange(len(order)) % count).any() or pins.mode.min() < 0:
        raise SystemExit(f"{folder}: every pin of every part must be known to be good or defective.")
    return replace(pins, tests=pins.tests[order], golden_of=pins.golden_of[order], mode=pins.mode[order])


def pictures(pins: SitePins, device: str) -> Iterator[tuple[torch.Tensor, Batch]]:
    """Yield the composites of all pins in order, as the station shows them, and their labels."""
    middle = slice(RIM_PX, -RIM_PX)
    for first in range(0, len(pins.mode), MANY):
        now = slice(first, first + MANY)
        tiles = (pins.golden[pins.golden_of[now]], pins.tests[now])
        golden, test = (
            torch.from_numpy(each[:, middle, middle]).to(device).permute(0, 3, 1, 2).float() for each in tiles
        )
        mode = torch.from_numpy(pins.mode[now]).to(device).long()
        yield shown(golden, test), {"mode": mode, "judgement": (mode > 0).long()}


@torch.no_grad()
def answers(
    asker: network.Asker, form: network.AnswerForm, show: Show, pins: SitePins, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return of each pin the margin of defective over passed, and whether undecidable is the best answer."""
    prompt = torch.tensor([form.prompt], device=device)
    asker.eval()
    rows = []
    for composites, labels in pictures(pins, device):
        answer, _ = form.answers(labels)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = asker(show(composites), prompt, answer)[0].float()
        best = logits[:, form.judgement_at()][:, form.judgements].argmax(1)
        rows.append(torch.stack([network.margin_of(form, logits), (best == 2).float()], 1))
    margin, undecided = torch.cat(rows).cpu().numpy().T
    return margin, undecided > 0


def table(pins: SitePins, margin: np.ndarray, undecided: np.ndarray) -> dict[str, float]:
    """Return how right parts and pins are judged at margin 0; an undecided pin is no pass, but finds no defect."""
    bad_pin, found_pin, passed_pin = pins.mode > 0, (margin >= 0) & ~undecided, (margin < 0) & ~undecided
    each = (-1, len(pins.golden))
    bad, found = bad_pin.reshape(each).any(1), found_pin.reshape(each).any(1)
    passed = passed_pin.reshape(each).all(1)
    return {
        "parts": len(bad),
        "judgement right": round(float(np.where(bad, found, passed).mean()), 4),
        "escapes": round(float(passed[bad].mean()), 4),
        "false rejects": round(float((~passed[~bad]).mean()), 4),
        "pin escapes": round(float(passed_pin[bad_pin].mean()), 5),
        "pin false rejects": round(float((~passed_pin[~bad_pin]).mean()), 6),
    }
