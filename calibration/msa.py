"""A measurement system analysis: attribute agreement and gauge R&R of one study, and what it proves. Pure.

In: readings (see agreement.py) and the recipe's limits. Out: a `Study`. What is acceptable is the AIAG's MSA manual
(4th edition); each figure is graded twice, as it was measured and at its 95 % confidence limit.
"""

import enum
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from calibration.agreement import (
    OTHER_SET_UP,
    OTHER_STATION,
    RE_PRESENTED,
    SAME_PICTURE,
    Decisions,
    Reading,
    Repetition,
    decisions,
    repetitions,
)
from calibration.confidence import parts_needed
from calibration.gauge import GAUGE_RR, Gauge, gauge
from calibration.seen import MARGIN_LIMIT
from station.records import Record

USUAL_PARTS, USUAL_SET_UPS, USUAL_RECAPTURES = 50, 3, 3
USUAL_SHARE = 0.25
"""Least share of good parts, and of bad ones."""
MISS, FALSE_ALARM, EFFECTIVENESS = "miss rate", "false alarm rate", "effectiveness"
RR_SHARE, CATEGORIES = "gauge R&R of total", "distinct categories"
SAME, KAPPA = "same picture, other decision", "kappa, reference"
TO_LIMIT = {"good": "good parts to OK limit", "bad": "bad parts to OK limit"}


class Grade(enum.StrEnum):
    """How good a figure is."""

    ACCEPTABLE = "acceptable"
    MARGINAL = "marginal"
    NOT_ACCEPTABLE = "not acceptable"


LIMITS: Mapping[str, tuple[float, float]] = {
    SAME: (0.0, 0.0),
    EFFECTIVENESS: (0.90, 0.80),
    MISS: (0.02, 0.05),
    FALSE_ALARM: (0.05, 0.10),
    KAPPA: (0.75, 0.40),
    f"kappa, {RE_PRESENTED}": (0.75, 0.40),
    f"kappa, {OTHER_SET_UP}": (0.75, 0.40),
    f"kappa, {OTHER_STATION}": (0.75, 0.40),
    RR_SHARE: (0.10, 0.30),
    CATEGORIES: (5, 2),
    TO_LIMIT["good"]: (6, 3),
    TO_LIMIT["bad"]: (6, 3),
}
"""Figure -> acceptable, marginal (AIAG; but the same picture and the distances to the limit, in sigmas, are ours)."""


class Criterion(Record):
    """One figure of the study, held against what is acceptable."""

    figure: str
    value: float
    limit95: float | None
    """The side that matters: the upper limit of what should be small; None: none is given."""
    grade: Grade
    grade_at_limit: Grade | None


class Distance(Record):
    """How far the margins of the good, or of the bad parts stand from the OK limit: only good ones may be below it."""

    parts: int
    mean: float
    sigma: float
    """Of the gauge (R&R) on these parts, log odds."""
    sigma_upper95: float
    nearest: str
    """The part whose mean margin is nearest to the limit."""
    nearest_sigmas: float | None
    """From its mean to the limit, in sigmas; negative: on the wrong side; None when nothing scatters."""
    sigmas: float | None
    """From the mean of all of them."""
    sigmas_lower95: float | None
    """The same with sigma's limit."""


class Facts(Record):
    """What a study is of."""

    name: str
    recipe: str
    recipe_sha256: str
    model: str
    model_sha256: str
    is_simulated: bool
    created_utc: str
    ok_max_margin: float
    not_ok_min_margin: float


class Study(Record):
    """A whole measurement system analysis."""

    facts: Facts
    good_parts: int
    bad_parts: int
    stations: tuple[str, ...]
    set_ups: tuple[str, ...]
    recaptures: int
    """The most of one part in one set-up."""
    criteria: tuple[Criterion, ...]
    decisions: tuple[Decisions, ...]
    repetitions: tuple[Repetition, ...]
    gauge: Gauge | None
    distances: dict[str, Distance]
    """good, bad."""
    too_small: tuple[str, ...]
    """What is missing from a usual study, and what it would take to prove each figure."""
    left_out: tuple[str, ...]
    """Parts without a margin for every recapture: not in the gauge study."""
    readings: tuple[Reading, ...]

    @property
    def is_acceptable(self) -> bool:
        """True when no figure, as it was measured, is not acceptable."""
        return all(one.grade is not Grade.NOT_ACCEPTABLE for one in self.criteria)


def analysed(facts: Facts, readings: Sequence[Reading], again: Sequence[tuple[Reading, Reading]]) -> Study:
    """Return the study; `readings` is not empty, `again` holds pictures that were judged twice."""
    decided, repeated = decisions(readings), repetitions(readings, again)
    margins, left_out = cells(readings)
    measured = _gauge(margins)
    distances = _distances(facts, readings, margins)
    bad = {one.part for one in readings if one.is_bad}
    return Study(
        facts=facts,
        good_parts=len({one.part for one in readings}) - len(bad),
        bad_parts=len(bad),
        stations=tuple(dict.fromkeys(one.station for one in readings)),
        set_ups=tuple(dict.fromkeys(one.set_up for one in readings)),
        recaptures=_most_recaptures(readings),
        criteria=tuple(_criteria(decided[-1], repeated, measured, distances)),
        decisions=decided,
        repetitions=repeated,
        gauge=measured,
        distances=distances,
        too_small=tuple(_too_small(readings, decided[-1], bad)),
        left_out=left_out,
        readings=tuple(readings),
    )


def cells(readings: Iterable[Reading]) -> tuple[dict[str, list[list[list[float]]]], tuple[str, ...]]:
    """Return part -> margins by station, set-up and recapture, of the parts that have all of them; and the others.

    As many recaptures are taken as most cells have.
    """
    found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    stations: dict[str, dict[str, None]] = defaultdict(dict)
    parts = dict.fromkeys(one.part for one in readings)
    for one in readings:
        stations[one.station][one.set_up] = None
        if one.margin is not None:
            found[one.part][one.station, one.set_up].append(one.margin)
    counts = [len(values) for part in found.values() for values in part.values()]
    recaptures = statistics.mode(counts) if counts else 0
    by_part = {
        part: [
            [found[part][station, set_up][:recaptures] for set_up in set_ups] for station, set_ups in stations.items()
        ]
        for part in parts
    }
    whole = {
        part: table for part, table in by_part.items() if all(len(cell) == recaptures for row in table for cell in row)
    }
    return whole, tuple(part for part in parts if part not in whole)


def _gauge(margins: Mapping[str, list[list[list[float]]]]) -> Gauge | None:
    """Return the gauge R&R; None with fewer than two parts or recaptures, or set-ups that differ in number."""
    tables = list(margins.values())
    if len(tables) < 2 or len(tables[0][0][0]) < 2 or len({len(row) for row in tables[0]}) > 1:
        return None
    return gauge(np.array(tables, float))


def _distances(
    facts: Facts, readings: Iterable[Reading], margins: Mapping[str, list[list[list[float]]]]
) -> dict[str, Distance]:
    is_bad = {one.part: one.is_bad for one in readings}
    found = {}
    for name, bad in (("good", False), ("bad", True)):
        chosen = {part: table for part, table in margins.items() if is_bad[part] is bad}
        measured = _gauge(chosen)
        if measured is not None:
            means = {part: float(np.mean(table)) for part, table in chosen.items()}
            found[name] = _distance(means, measured, facts.ok_max_margin, -1 if bad else 1)
    return found


def _distance(means: Mapping[str, float], measured: Gauge, limit: float, sign: int) -> Distance:
    rr = measured.spread(GAUGE_RR)
    mean = float(np.mean(list(means.values())))
    away = sign * (limit - mean)
    nearest = min(means, key=lambda part: sign * (limit - means[part]))
    worst_sigma = rr.upper95 if away > 0 else rr.lower95
    return Distance(
        parts=len(means),
        mean=mean,
        sigma=rr.sigma,
        sigma_upper95=rr.upper95,
        nearest=nearest,
        nearest_sigmas=sign * (limit - means[nearest]) / rr.sigma if rr.sigma else None,
        sigmas=away / rr.sigma if rr.sigma else None,
        sigmas_lower95=away / worst_sigma if worst_sigma else None,
    )


def _criteria(
    decided: Decisions, repeated: Iterable[Repetition], measured: Gauge | None, distances: Mapping[str, Distance]
) -> Iterable[Criterion]:
    yield from (_criterion(SAME, one.differing.share, None) for one in repeated if one.kind == SAME_PICTURE)
    yield _criterion(EFFECTIVENESS, decided.effectiveness.share, decided.effectiveness.lower95)
    for figure, rate in ((MISS, decided.missed), (FALSE_ALARM, decided.false_alarms)):
        if rate.parts:
            yield _criterion(figure, rate.share, rate.upper95)
    for name, kappa in [("reference", decided.kappa), *((one.kind, one.kappa) for one in repeated)]:
        if f"kappa, {name}" in LIMITS and kappa.kappa is not None:
            yield _criterion(f"kappa, {name}", kappa.kappa, kappa.lower95)
    if measured is not None:
        yield _criterion(RR_SHARE, measured.spread(GAUGE_RR).share_of_total, measured.rr_share_upper95)
        if measured.categories is not None:
            yield _criterion(CATEGORIES, measured.categories, None)
    for name, one in distances.items():
        if one.sigmas is not None:
            yield _criterion(TO_LIMIT[name], one.sigmas, one.sigmas_lower95)


def _criterion(figure: str, value: float, limit95: float | None) -> Criterion:
    at_limit = None if limit95 is None else grade_of(figure, limit95)
    return Criterion(figure, value, limit95, grade_of(figure, value), at_limit)


def grade_of(figure: str, value: float) -> Grade:
    """Return how good the value of a figure in LIMITS is."""
    acceptable, marginal = LIMITS[figure]
    sign = 1 if acceptable > marginal else -1
    if sign * value >= sign * acceptable:
        return Grade.ACCEPTABLE
    return Grade.MARGINAL if sign * value >= sign * marginal else Grade.NOT_ACCEPTABLE


def _too_small(readings: Sequence[Reading], decided: Decisions, bad: set[str]) -> Iterable[str]:
    parts = decided.effectiveness.n
    set_ups = len({(one.station, one.set_up) for one in readings})
    recaptures = _most_recaptures(readings)
    if parts < USUAL_PARTS:
        yield f"{parts} parts; {USUAL_PARTS} are usual, a third of them near the limit"
    for name, count in (("bad", len(bad)), ("good", parts - len(bad))):
        if count < USUAL_SHARE * parts:
            yield f"{count} of {parts} parts are {name}; at least a quarter should be"
    if set_ups < USUAL_SET_UPS:
        yield f"{set_ups} set-ups; {USUAL_SET_UPS} are usual (another lamp, fixture, day or station)"
    if recaptures < USUAL_RECAPTURES:
        yield f"{recaptures} recaptures; {USUAL_RECAPTURES} are usual (take the part out and put it in again)"
    for figure, rate, kind in ((MISS, decided.missed, "bad"), (FALSE_ALARM, decided.false_alarms, "good")):
        wanted = LIMITS[figure][0]
        if rate.upper95 > wanted:
            yield (
                f"{rate.parts_ever} of {rate.parts} {kind} parts with a wrong decision: the {figure} is at most"
                f" {rate.upper95:.1%}; proving {wanted:.0%} takes"
                f" {parts_needed(rate.parts_ever, wanted)} {kind} parts, {rate.parts_ever} of them with one"
            )
    ends = sum(one.margin is not None and abs(one.margin) >= MARGIN_LIMIT for one in readings)
    if ends:
        yield f"{ends} margins stand at the end of their range, {MARGIN_LIMIT:g}: what they scatter there is not seen"


def _most_recaptures(readings: Iterable[Reading]) -> int:
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in readings:
        counts[one.part, one.station, one.set_up] += 1
    return max(counts.values())
