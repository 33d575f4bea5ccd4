"""Plots as SVG text: axes, lines, bars, error bars. Pure; nothing is drawn in the browser by script.

Each plot is 420 x 300 units. Colours are the Okabe-Ito set, which people with colour-blindness can tell apart; lines
have names, and what matters is also in a table.
"""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 30, 44
MIDDLE = (TOP + HEIGHT - BOTTOM) / 2
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GREY = "#767b83"

Points = Sequence[tuple[float, float]]


class Plot:
    """One plot. Add to it, then take `text()`."""

    def __init__(self, title: str, x_name: str, y_name: str, x_range: tuple[float, float], y_max: float = 1.0) -> None:
        self._x, self._y_max = x_range, y_max
        self._names: list[tuple[str, str]] = []
        self._parts = [
            f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>',
            f'<text transform="translate(13 {MIDDLE}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>',
        ]
        self._axes()

    def line(self, points: Points, name: str, colour: str, *, dashed: bool = False) -> None:
        """Join the points; `name` goes to the legend unless it is empty."""
        at = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if name:
            self._names.append((name, colour))

    def bars(self, edges: Sequence[float], heights: Sequence[float], name: str, colour: str) -> None:
        """Draw one bar from each edge to the next."""
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            if height:
                x, y = self._px(left), self._py(height)
                self._parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, self._px(right) - x - 1):.1f}"'
                    f' height="{self._py(0) - y:.1f}" fill="{colour}" fill-opacity="0.55"/>'
                )
        self._names.append((name, colour))

    def dots(self, points: Points, name: str, colour: str) -> None:
        """Draw small circles."""
        self._parts += [
            f'<circle cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="2.5" fill="{colour}" fill-opacity="0.7"/>'
            for x, y in points
        ]
        self._names.append((name, colour))

    def limits(self, x: float, y: float, low: float, high: float, colour: str) -> None:
        """Draw a point with its confidence limits."""
        at = f"{self._px(x):.1f}"
        self._parts.append(
            f'<line x1="{at}" x2="{at}" y1="{self._py(low):.1f}" y2="{self._py(high):.1f}" stroke="{colour}"/>'
            f'<circle cx="{at}" cy="{self._py(y):.1f}" r="3.5" fill="{colour}"/>'
        )

    def mark(self, x: float, name: str, row: int = 0) -> None:
        """Draw a vertical line with its name in a row from the top, if it is in the plot."""
        if self._x[0] <= x <= self._x[1]:
            at = f"{self._px(x):.1f}"
            self._parts.append(
                f'<line x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GREY}" stroke-dasharray="3 3"/>'
                f'<text x="{at}" y="{TOP + 9 + 12 * row}" dx="3" class="small">{escape(name)}</text>'
            )

    def text(self) -> str:
        """Return the SVG element."""
        legend = "".join(
            f'<rect x="{WIDTH - RIGHT - 148}" y="{TOP + 16 + 15 * k}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{WIDTH - RIGHT - 134}" y="{TOP + 25 + 15 * k}" class="small">{escape(name[:24])}</text>'
            for k, (name, colour) in enumerate(self._names)
        )
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(self._parts)}{legend}</svg>'

    def _axes(self) -> None:
        for x in ticks(*self._x):
            at = f"{self._px(x):.1f}"
            self._parts.append(
                f'<line x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>'
                f'<text x="{at}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle" class="small">{x:g}</text>'
            )
        for y in ticks(0.0, self._y_max):
            at = f"{self._py(y):.1f}"
            self._parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" class="grid"/>'
                f'<text x="{LEFT - 5}" y="{at}" dy="4" text-anchor="end" class="small">{y:g}</text>'
            )

    def _px(self, x: float) -> float:
        low, high = self._x
        return LEFT + (min(max(x, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _py(self, y: float) -> float:
        return HEIGHT - BOTTOM - min(max(y, 0.0), self._y_max) / self._y_max * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float) -> list[float]:
    """Return four to ten round numbers from low to high."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 8)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
