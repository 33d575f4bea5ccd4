"""Curves of a score against the truth: ROC, precision-recall, reliability, histogram. Pure numpy.

A score is any number that is larger for worse parts; `bad` says which are. Nothing here decides anything.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calibration.confidence import lower, upper
from station.records import Record

RELIABILITY_EDGES = (-8.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 8.0)
"""Margins between the bins: nearly all pins are trivial, so bins of equal probability would hold only the ends."""
HISTOGRAM_BINS = 32

Numbers = npt.NDArray[np.float64]
Line = tuple[tuple[float, float], ...]


class Bin(Record):
    """One bin of the reliability diagram."""

    count: int
    predicted: float
    """Mean p(defect) that was said."""
    observed: float
    """Share that is defective."""
    lower95: float
    upper95: float


class Histogram(Record):
    """Counts of good and bad in the same bins; `edges` has one more."""

    edges: tuple[float, ...]
    good: tuple[int, ...]
    bad: tuple[int, ...]


def roc(scores: Sequence[float], bad: Sequence[bool]) -> Line:
    """Return (false reject share, found share) from (0, 0) to (1, 1); empty without good or without bad parts."""
    hits, alarms, total_bad, total_good = _counted(scores, bad)
    if not total_bad or not total_good:
        return ()
    return ((0.0, 0.0), *zip((alarms / total_good).tolist(), (hits / total_bad).tolist(), strict=True))


def precision_recall(scores: Sequence[float], bad: Sequence[bool]) -> Line:
    """Return (recall, precision) from the strictest limit to the loosest; empty without bad parts."""
    hits, alarms, total_bad, _ = _counted(scores, bad)
    if not total_bad:
        return ()
    return tuple(zip((hits / total_bad).tolist(), (hits / (hits + alarms)).tolist(), strict=True))


def area(line: Line) -> float:
    """Return the area under the line (trapezoids); NaN of an empty one."""
    if not line:
        return float("nan")
    x, y = np.array(line).T
    return float(np.trapezoid(y, x))


def _counted(scores: Sequence[float], bad: Sequence[bool]) -> tuple[Numbers, Numbers, int, int]:
    """Return bad and good parts at or above each distinct score, from the highest down, and how many there are."""
    values, is_bad = np.asarray(scores, np.float64), np.asarray(bad, bool)
    order = np.argsort(-values, kind="stable")
    values, is_bad = values[order], is_bad[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1) if len(values) else np.array([], int)
    hits, alarms = np.cumsum(is_bad)[last].astype(float), np.cumsum(~is_bad)[last].astype(float)
    return hits, alarms, int(is_bad.sum()), int((~is_bad).sum())


def reliability(margins: Sequence[float], bad: Sequence[bool]) -> tuple[Bin, ...]:
    """Return the bins that hold anything; margins are log-odds of being bad."""
    values, is_bad = np.asarray(margins, np.float64), np.asarray(bad, bool)
    place = np.digitize(values, RELIABILITY_EDGES)
    return tuple(
        _bin(values[place == k], is_bad[place == k]) for k in range(len(RELIABILITY_EDGES) + 1) if (place == k).any()
    )


def _bin(margins: Numbers, bad: npt.NDArray[np.bool_]) -> Bin:
    hits, count = int(bad.sum()), len(bad)
    return Bin(
        count=count,
        predicted=float((1 / (1 + np.exp(-margins))).mean()),
        observed=hits / count,
        lower95=lower(hits, count),
        upper95=upper(hits, count),
    )


def log_loss(margins: Sequence[float], bad: Sequence[bool], temperature: float = 1.0) -> float:
    """Return the mean negative log likelihood of the truth (nats) with margins divided by `temperature`."""
    signed = np.where(np.asarray(bad, bool), 1.0, -1.0) * np.asarray(margins, np.float64) / temperature
    return float(np.logaddexp(0.0, -signed).mean())


def brier(margins: Sequence[float], bad: Sequence[bool]) -> float:
    """Return the mean squared distance of p(defect) from the truth."""
    p = 1 / (1 + np.exp(-np.asarray(margins, np.float64)))
    return float(((p - np.asarray(bad, float)) ** 2).mean())


def histogram(margins: Sequence[float], bad: Sequence[bool]) -> Histogram:
    """Return counts of good and bad in bins of equal width over all margins."""
    values, is_bad = np.asarray(margins, np.float64), np.asarray(bad, bool)
    edges = np.histogram_bin_edges(values, HISTOGRAM_BINS) if len(values) else np.linspace(-1, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(values[chosen], edges)[0] for chosen in (~is_bad, is_bad)]
    return Histogram(tuple(edges.tolist()), tuple(counts[0].tolist()), tuple(counts[1].tolist()))
