"""The picture of `export_gguf.py inspect`: a bar for each layer, as high as its change, one colour per adapter."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groups import VISION
from PIL import Image, ImageDraw

Report = dict[str, Any]
COLOURS = ((38, 99, 186), (214, 110, 30))
_GREY = (205, 205, 205)
_PARTS = {
    "vision tower, layer": VISION,
    "projector": ("projector",),
    "language model, layer": ("language attention", "language mlp"),
    "head": ("head",),
}
_ALWAYS = ("vision tower, layer", "language model, layer")
_HEIGHT, _BAR, _GAP, _LEFT, _LEAST_WIDTH = 240, 8, 6, 70, 130


@dataclass(frozen=True)
class _Part:
    """One part of the model: where it stands, how many layers it has, and the size of each change by adapter."""

    name: str
    left: int
    right: int
    layers: int
    changes: list[dict[int, float]]


def draw(reports: list[Report], path: Path) -> None:
    """Draw the reports of one adapter or two; relative to the base where all of them know it."""
    is_relative = all(module["relative"] is not None for one in reports for module in one["modules"])
    slot = _GAP + _BAR * len(reports)
    parts = list(_parts(reports, is_relative, slot))
    step, top = _scale(max((value for part in parts for one in part.changes for value in one.values()), default=0.0))
    ground = 50 + 18 * len(reports) + _HEIGHT
    picture = Image.new("RGB", (max(560, parts[-1].right + 30), ground + 50), "white")
    pen = ImageDraw.Draw(picture)
    said = "relative to the base's weights" if is_relative else "Frobenius norm"
    pen.text((20, 10), f"Size of the change by layer, {said}", fill="black")
    for number, one in enumerate(reports):
        pen.rectangle((20, 32 + 18 * number, 31, 43 + 18 * number), fill=COLOURS[number])
        pen.text((40, 32 + 18 * number), str(one["adapter"]), fill="black")
    for number in range(round(top / step) + 1):
        line = ground - round(_HEIGHT * number * step / top)
        pen.line((_LEFT, line, parts[-1].right, line), fill=_GREY if number else "black")
        label = f"{100 * number * step:g} %" if is_relative else f"{number * step:g}"
        pen.text((_LEFT - 8, line), label, fill="black", anchor="rm")
    for part in parts:
        _draw_part(pen, part, slot, ground, _HEIGHT / top)
    picture.save(path)


def _parts(reports: list[Report], is_relative: bool, slot: int) -> Iterator[_Part]:
    left = _LEFT + 10
    for name, names in _PARTS.items():
        changes = [_changes(one, names, is_relative) for one in reports]
        layers = 1 + max((layer for one in changes for layer in one), default=-1)
        if layers or name in _ALWAYS:
            right = left + max(layers * slot, _LEAST_WIDTH if name in _ALWAYS else 60)
            yield _Part(name, left, right, layers, changes)
            left = right + 30


def _changes(one: Report, names: tuple[str, ...], is_relative: bool) -> dict[int, float]:
    """Return the size of the change of each layer."""
    change: dict[int, float] = {}
    base: dict[int, float] = {}
    for module in one["modules"]:
        if module["group"] in names:
            layer = module["layer"] or 0
            change[layer] = math.hypot(change.get(layer, 0.0), module["norm"] or 0.0)
            base[layer] = math.hypot(base.get(layer, 0.0), module["base_norm"] or 0.0)
    return {n: norm / (base[n] or 1.0) if is_relative else norm for n, norm in sorted(change.items())}


def _scale(largest: float) -> tuple[float, float]:
    """Return a round step and the top of the scale, at most five steps above zero."""
    if not largest > 0:
        return 1.0, 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if largest <= 5 * power * factor)
    return step, step * math.ceil(largest / step)


def _draw_part(pen: ImageDraw.ImageDraw, part: _Part, slot: int, ground: int, scale: float) -> None:
    for number, one in enumerate(part.changes):
        for layer, value in one.items():
            start = part.left + layer * slot + _BAR * number
            if value > 0:
                pen.rectangle((start, ground - round(value * scale), start + _BAR - 2, ground - 1), COLOURS[number])
    pen.text((part.left, ground + 24), part.name if part.layers else f"{part.name.split(',')[0]}: not trained", "black")
    if part.layers > 1:
        for layer in range(0, part.layers, 4 if part.layers > 12 else 1):
            pen.text((part.left + layer * slot, ground + 6), str(layer), fill="black")
