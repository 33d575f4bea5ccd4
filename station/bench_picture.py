"""Pictures of `station bench`: those the model is asked about, and the plot of the result. Pillow only."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from station.engine.base import Picture

_ROW_PX, _BAR_PX, _MARGIN_PX = 30, 560, 20
_NUMBER_PX = 120
"""Room for the milliseconds right of the longest bar."""
_COLOURS = {"stock": "#b0b0b0", "station": "#2f6fb0", "limit": "#3a9a5b"}


def golden_views(path: Path, width_px: int, height_px: int, count: int) -> tuple[Picture, ...]:
    """Return `count` different pictures cut from the golden picture."""
    with Image.open(path) as golden:
        size = max(golden.width, width_px + count), max(golden.height, height_px + count)
        pixels = np.asarray(golden.convert("RGB").resize(size))
    views = (pixels[k : k + height_px, k : k + width_px] for k in range(count))
    return tuple(Picture(width_px=width_px, height_px=height_px, pixels_rgb=view.tobytes()) for view in views)


def plot(bars: list[tuple[str, str, float]], title: str, path: Path) -> None:
    """Write a PNG of horizontal bars: (label, kind: stock, station or limit, milliseconds). Raises OSError."""
    font = ImageFont.load_default(15)
    start_px = _MARGIN_PX + 10 + int(max(font.getlength(label) for label, _, _ in bars))
    size_px = (start_px + _BAR_PX + _NUMBER_PX, _ROW_PX * (len(bars) + 1) + 2 * _MARGIN_PX)
    picture = Image.new("RGB", size_px, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN_PX, _MARGIN_PX), title, "black", font)
    longest = max(ms for _, _, ms in bars)
    for number, (label, kind, ms) in enumerate(bars, start=1):
        top = _MARGIN_PX + number * _ROW_PX
        draw.text((_MARGIN_PX, top + 4), label, "black", font)
        right = start_px + max(1, round(_BAR_PX * ms / longest))
        draw.rectangle((start_px, top + 4, right, top + _ROW_PX - 6), fill=_COLOURS[kind])
        draw.text((right + 8, top + 4), f"{ms:,.0f} ms", "black", font)
    picture.save(path, "PNG")
