"""The accuracy targets T1 to T11: goal, measured and proof size of each, from what was judged.

Shares carry exact one-sided 95 % limits. `kept` says whether the proven limit keeps the goal, not the share alone.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import Line, share

from calibration.thresholds import temperature
from station.records import Evaluation

GUARDED = 300
"""Crops of each kind."""
Row = tuple[str, str, str, str, str, bool | None]
"""Target, what, goal, measured, proof size, kept."""


def kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Return Cohen's kappa of truth and verdict."""
    n = len(pairs)
    agreed = sum(a == b for a, b in pairs) / n
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(left[name] * right[name] for name in left) / n**2
    return round((agreed - chance) / (1 - chance), 4)


def calibration_of(lines: Sequence[Line]) -> Line:
    """Return log loss and slope of the margins, those of each half of the parts by the temperature of the other half.

    Cross-fitting: no pin is judged with a temperature that it helped to find, and all of them tell the slope.
    """
    known = [[(margin, bad) for margin, bad in line["pins"] if bad is not None] for line in lines]
    halves = [[pin for number, pins in enumerate(known) if number % 4 // 2 == half for pin in pins] for half in (0, 1)]
    pins = [np.array(half, float).T for half in halves]
    temperatures = [temperature(*zip(*half, strict=True)) for half in reversed(halves)]
    bad = np.concatenate([truth for _, truth in pins])
    margins = np.concatenate([margin for margin, _ in pins])
    calibrated = np.concatenate([margin / t for (margin, _), t in zip(pins, temperatures, strict=True)])
    found, error = slope(calibrated, bad)
    return {
        "pins": len(bad), "defective": int(bad.sum()), "temperatures": [round(t, 3) for t in temperatures],
        "log loss": log_loss(margins, bad), "log loss with the temperature": log_loss(calibrated, bad),
        "slope": found, "slope, standard error": error,
    }  # fmt: skip


def log_loss(margins: np.ndarray, bad: np.ndarray) -> float:
    """Return the mean negative log likelihood."""
    return round(float(np.mean(np.logaddexp(0, margins) - bad * margins)), 6)


def slope(margins: np.ndarray, bad: np.ndarray) -> tuple[float, float]:
    """Return the slope of truth on the margin and its standard error, logistic regression by Newton; 1 is calibrated.

    Where the margin hardly ever errs there is no slope: it grows without end, and the error says so.
    """
    weights, design = np.zeros(2), np.stack([np.ones_like(margins), margins], 1)
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -40, 40)))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (bad - p))
        weights = weights + np.clip(step, -1, 1)
    return round(float(weights[1]), 3), round(float(np.linalg.inv(hessian)[1, 1] ** 0.5), 3)


def guards_of(said: dict[str, list[Any]]) -> Line:
    """Return how often the model used the picture."""
    habit = Counter(said["no picture"])
    return {
        "blank not decidable": share(said["blank"].count(Evaluation.NOT_DECIDABLE.name), len(said["blank"])),
        "blank said OK": share(said["blank"].count(Evaluation.OK.name), len(said["blank"])),
        "without a picture": dict(habit),
        "defect found at its new place": share(sum(new == "NOT_OK" for new, _ in said["swapped"]), GUARDED),
        "good pin passed at its new place": share(sum(old == "OK" for _, old in said["swapped"]), GUARDED),
    }  # fmt: skip


def rows(kept: Path, result: Line) -> list[Row]:
    """Return one row or more for each target."""
    measured = json.loads((kept / "measured-accuracy.json").read_text())
    pins = measured["pins"]
    found = {mode: flipped(one) for mode, one in pins["found by mode"].items()}
    out = [_at_most("T1", f"not found, {mode}", one, 0.01) for mode, one in found.items()]
    out += [
        _at_most("T1", "escapes, all modes", pins["escapes"], 0.005),
        _at_most("T2", "false rejects, 27 pins", pins["false rejects"], 0.01),
        _at_most("T3", "no decision, nominal", pins["no decision"], 0.02),
        _at_most("T3", "undecidable pictures said OK", pins["negatives"], 0.01),
        _at_least("T4", "count exact, 0 to 3 missing", pins["count right"], 0.995),
        _at_least("T5", "mode, of defects found", pins["mode right"], 0.97),
        _at_least("T6", "place, of defects found", pins["position right"], 0.99),
    ]
    if "T7" not in result:
        return out + _later(result)
    curve = result["T7"]
    half = bend_at(curve, 0.5)
    late = [one for offset, one in curve.items() if float(offset) >= 0.65]
    each = f"{late[0]['n']} a step"
    early = [one for offset, one in curve.items() if float(offset) <= 0.35]
    out += [
        ("T7", "bend found in half of the parts", "0.45 to 0.55 t", f"{half:.2f} t", each, 0.45 <= half <= 0.55),
        _at_least("T7", "bends from 0.65 t found", _sum(late), 0.99),
        _at_most("T7", "bends to 0.35 t not passed", _sum(early), 0.01),
    ]
    out += _later(result)
    if (kept / "measured-agreement.json").exists():
        out += _agreement(json.loads((kept / "measured-agreement.json").read_text()))
    return out


def _later(result: Line) -> list[Row]:
    """Return the rows of what was judged; a target that was not is left out."""
    out: list[Row] = []
    if t8 := result.get("T8"):
        kappa, pictures = t8["kappa"], t8["pictures"]
        out += [
            _at_most("T8", "verdicts that flip under 12 changes", share(t8["flips"], t8["pairs"]), 0.002),
            ("T8", "kappa with the truth", ">= 0.95", f"{kappa:.3f}", f"{pictures:,} pictures", kappa >= 0.95),
        ]
    if t9 := result.get("T9"):
        found, error = t9["slope"], t9["slope, standard error"]
        better = t9["log loss with the temperature"] <= 1.05 * t9["log loss"]
        out += [
            ("T9", "slope of the calibrated margin", "0.9 to 1.1", f"{found:.2f} +- {2 * error:.2f}",
             f"{t9['pins']} pins, {t9['defective']} defective", 0.9 <= found <= 1.1),
            ("T9", "log loss with the temperature", f"<= 1.05 of {t9['log loss']:.2g} without",
             f"{t9['log loss with the temperature']:.2g}", f"{t9['pins']} pins", better),
        ]  # fmt: skip
    return out + (_guards(result["T11"]) if "T11" in result else [])


def _guards(t11: Line) -> list[Row]:
    habit = t11["without a picture"]
    # Of as many good as defective pins, a constant answer is right for half.
    guessed = max(habit.get("OK", 0), habit.get("NOT_OK", 0)) / max(1, sum(habit.values())) / 2
    said = ", ".join(f"{name} {count}" for name, count in habit.items())
    return [
        ("T11", "right without a picture", "<= 53 %", f"{100 * guessed:.1f} % (said {said})", "300", guessed <= 0.53),
        _at_least("T11", "blank crop is not decidable", t11["blank not decidable"], 1.0),
        _at_least("T11", "swapped: defect found at its new place", t11["defect found at its new place"], 0.99),
        _at_least("T11", "swapped: good pin passed at its new place", t11["good pin passed at its new place"], 0.99),
    ]


def _agreement(found: Line) -> list[Row]:
    verdicts = share(found["same verdict"], found["pins"])
    apart = found["difference of the margin, 99 of 100 at most"]
    return [
        _at_least("T10", "GGUF and PyTorch, same verdict", verdicts, 0.999),
        ("T10", "difference of the margin, 99 of 100", "< 0.3", f"{apart:.4f}", f"{found['pins']} pins", apart < 0.3),
    ]


def bend_curve(lines: Sequence[Line]) -> Line:
    """Return the share of parts that did not pass, by the offset in t that their names carry."""
    by_offset: dict[str, list[bool]] = {}
    for line in lines:
        by_offset.setdefault(str(line["image"])[:4], []).append(line["said"] != "OK")
    return {offset: share(sum(some), len(some)) for offset, some in sorted(by_offset.items())}


def bend_at(curve: dict[str, Line], wanted: float) -> float:
    """Return the offset in t at which the share not passed reaches `wanted`, between the measured ones."""
    points = [(float(offset), float(one["share"])) for offset, one in curve.items()]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 < wanted <= y1:
            return x0 + (wanted - y0) / (y1 - y0) * (x1 - x0)
    return points[0][0] if points[0][1] >= wanted else math.inf


def flipped(one: Line) -> Line:
    """Return the share of the opposite."""
    return share(one["n"] - one["k"], one["n"])


def _sum(some: Sequence[Line]) -> Line:
    return share(sum(one["k"] for one in some), sum(one["n"] for one in some))


def _at_most(target: str, what: str, one: Line, goal: float) -> Row:
    measured = f"{100 * one['share']:.2f} % (at most {100 * one['upper95']:.2f})"
    return target, what, f"<= {100 * goal:g} %, proven", measured, f"{one['k']} of {one['n']}", one["upper95"] <= goal


def _at_least(target: str, what: str, one: Line, goal: float) -> Row:
    measured = f"{100 * one['share']:.2f} % (at least {100 * one['lower95']:.2f})"
    return target, what, f">= {100 * goal:g} %", measured, f"{one['k']} of {one['n']}", one["share"] >= goal


def printed(kept: Path, result: Line) -> str:
    """Return the table in Markdown."""
    lines = ["| target | what | goal | measured | proof size | kept |", "| --- | --- | --- | --- | --- | --- |"]
    for *cells, good in rows(kept, result):
        lines.append(f"| {' | '.join(map(str, cells))} | {'yes' if good else '**no**'} |")
    return "\n".join(lines)
