"""Gauge R&R of the margin: how much of its spread is the station's own, by kind of repetition. Pure numpy.

In: margins of parts x stations x set-ups x recaptures, every one measured. Out: a `Gauge`: standard deviations with
one-sided 95 % limits. The method is the ANOVA of the AIAG's MSA manual (4th edition) with set-ups in the place of
appraisers; several stations are crossed with the parts, and set-ups are nested in stations.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from station.records import Record

PARTS, STATIONS, SET_UPS, RECAPTURES = "parts", "stations", "set-ups", "recaptures"
PARTS_STATIONS, PARTS_SET_UPS = "parts x stations", "parts x set-ups"
STATION, GAUGE_RR, PART, TOTAL = "station", "gauge R&R", "part to part (PV)", "total (TV)"
POOLED_ABOVE = 0.05
"""The interaction of parts and set-ups is pooled with repeatability when it is less significant than this."""
CATEGORIES = 1.41
"""ndc is this times PV / GRR, rounded down (AIAG)."""
DRAWS, SEED = 20_000, 1
STEPS = 4001

Numbers = npt.NDArray[np.float64]


class Source(Record):
    """One line of the analysis of variance."""

    name: str
    sum_of_squares: float
    df: int


class Spread(Record):
    """One component as a standard deviation, in log odds."""

    name: str
    sigma: float
    lower95: float
    upper95: float
    share_of_total: float
    """sigma / total sigma, 0 to 1; the shares do not add up to 1, their squares do."""


class Gauge(Record):
    """A gauge R&R study."""

    parts: int
    stations: int
    set_ups: int
    """Of each station."""
    recaptures: int
    sources: tuple[Source, ...]
    interaction_p: float | None
    """Chance of so large an interaction of parts and set-ups if there were none; None: one set-up or one part."""
    is_pooled: bool
    spreads: tuple[Spread, ...]
    """Repeatability, set-up, parts x set-ups, station, gauge R&R, part to part, total."""
    rr_share_upper95: float
    """Of the gauge R&R's share of total."""
    categories: int | None
    """Number of distinct categories (ndc); None when the gauge does not scatter at all."""

    def spread(self, name: str) -> Spread:
        """Return the component of that name."""
        return next(one for one in self.spreads if one.name == name)


def gauge(margins: Numbers) -> Gauge:
    """Return the study of margins, an array (parts, stations, set-ups, recaptures) with at least two recaptures.

    Limits are generalized confidence limits (Hamada and Weerahandi, Journal of Quality Technology 32, 2000): each mean
    square is divided by draws of its chi-squared distribution, and components are made of those. Of repeatability
    alone that is the exact limit.
    """
    sources = _sources(margins)
    p_value = _interaction_p(sources)
    is_pooled = p_value is not None and p_value > POOLED_ABOVE
    used = _pooled(sources) if is_pooled else sources
    rng = np.random.default_rng(SEED)
    drawn = {one.name: one.sum_of_squares / rng.chisquare(one.df, DRAWS) for one in used.values()}
    measured = _sigmas({one.name: one.sum_of_squares / one.df for one in used.values()}, margins.shape)
    possible = _sigmas(drawn, margins.shape)
    rr, part, total = measured[GAUGE_RR], measured[PART], measured[TOTAL]
    parts, stations, set_ups, recaptures = margins.shape
    return Gauge(
        parts=parts,
        stations=stations,
        set_ups=set_ups,
        recaptures=recaptures,
        sources=tuple(sources.values()),
        interaction_p=p_value,
        is_pooled=is_pooled,
        spreads=tuple(_spread(name, sigma, possible[name], total) for name, sigma in measured.items()),
        rr_share_upper95=_quantile(possible[GAUGE_RR] / np.maximum(possible[TOTAL], 1e-300), 0.95),
        categories=int(CATEGORIES * part / rr) if rr else None,
    )


def _sources(margins: Numbers) -> dict[str, Source]:
    """Return the sums of squares with any degree of freedom."""
    parts, stations, set_ups, recaptures = margins.shape
    of_set_up, of_station, of_part = margins.mean((0, 3)), margins.mean((0, 2, 3)), margins.mean((1, 2, 3))
    cell, part_station, mean = margins.mean(3), margins.mean((2, 3)), margins.mean()
    station_effect = part_station - of_part[:, None] - of_station + mean
    set_up_effect = cell - part_station[:, :, None] - of_set_up + of_station[:, None]
    found = [
        (PARTS, of_part - mean, stations * set_ups * recaptures, parts - 1),
        (STATIONS, of_station - mean, parts * set_ups * recaptures, stations - 1),
        (SET_UPS, of_set_up - of_station[:, None], parts * recaptures, stations * (set_ups - 1)),
        (PARTS_STATIONS, station_effect, set_ups * recaptures, (parts - 1) * (stations - 1)),
        (PARTS_SET_UPS, set_up_effect, recaptures, (parts - 1) * stations * (set_ups - 1)),
        (RECAPTURES, margins - cell[..., None], 1, parts * stations * set_ups * (recaptures - 1)),
    ]
    return {name: Source(name, float((away**2).sum()) * times, df) for name, away, times, df in found if df}


def _interaction_p(sources: Mapping[str, Source]) -> float | None:
    above, below = sources.get(PARTS_SET_UPS), sources[RECAPTURES]
    if above is None or not below.sum_of_squares:
        return None
    ratio = above.sum_of_squares / above.df / (below.sum_of_squares / below.df)
    return f_tail(ratio, above.df, below.df)


def _pooled(sources: Mapping[str, Source]) -> dict[str, Source]:
    above, below = sources[PARTS_SET_UPS], sources[RECAPTURES]
    both = Source(RECAPTURES, above.sum_of_squares + below.sum_of_squares, above.df + below.df)
    return {name: one for name, one in sources.items() if name != PARTS_SET_UPS} | {RECAPTURES: both}


def _sigmas(mean_squares: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the components as standard deviations; mean squares are numbers, or arrays of equal length.

    A source that is not there has the mean square expected without its component, which is then 0.
    """
    parts, _, set_ups, recaptures = shape
    repeat = mean_squares[RECAPTURES]
    cross = mean_squares.get(PARTS_SET_UPS, repeat)
    across = mean_squares.get(PARTS_STATIONS, cross)
    set_up = mean_squares.get(SET_UPS, cross)
    station = mean_squares.get(STATIONS, across + set_up - cross)
    own = {
        "repeatability (EV)": repeat,
        "set-up (AV)": _above(set_up, cross, parts * recaptures),
        "parts x set-ups (INT)": _above(cross, repeat, recaptures),
        STATION: _above(across, cross, set_ups * recaptures)
        + _above(station, across + set_up - cross, parts * set_ups * recaptures),
    }
    rr = sum(own.values())
    part = _above(mean_squares.get(PARTS, across), across, shape[1] * set_ups * recaptures)
    return {name: np.sqrt(one) for name, one in (own | {GAUGE_RR: rr, PART: part, TOTAL: rr + part}).items()}


def _above(mean_square: Any, below: Any, times: int) -> Any:
    """Return a variance component; one that comes out negative is 0."""
    return np.maximum(mean_square - below, 0) / times


def _spread(name: str, sigma: Any, possible: Numbers, total: Any) -> Spread:
    share = float(sigma / total) if total else 0.0
    return Spread(name, float(sigma), _quantile(possible, 0.05), _quantile(possible, 0.95), share)


def _quantile(values: Numbers, share: float) -> float:
    return float(np.quantile(values, share))


def f_tail(ratio: float, df: int, df_below: int) -> float:
    """Return P(F >= ratio) of the F distribution with `df` and `df_below` degrees of freedom, to about 1e-6.

    With x = sin^2 of an angle the beta density that belongs to it has no pole, and is summed by trapezoids.
    """
    split = math.atan(math.sqrt(df * ratio / df_below))
    below, above = np.linspace(0, split, STEPS), np.linspace(split, math.pi / 2, STEPS)
    logs = [
        (df - 1) * np.log(np.maximum(np.sin(one), 1e-300)) + (df_below - 1) * np.log(np.maximum(np.cos(one), 1e-300))
        for one in (below, above)
    ]
    highest = max(float(one.max()) for one in logs)
    low, high = (float(np.trapezoid(np.exp(log - highest), one)) for log, one in zip(logs, (below, above), strict=True))
    return high / (low + high)
