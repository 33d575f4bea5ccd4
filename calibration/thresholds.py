"""Two limits that keep a promise: the exact fixed-sequence test (Learn-then-Test) on parts. Pure numpy.

In: parts with scores, larger is worse; what is promised. Out: limits, and what the set shows about them. A score up to
`t_lo` is OK, from `t_hi` on NOT_OK, between them NOT_DECIDABLE. The grid of candidates is fixed beforehand and walked
from the safe end until the binomial test first fails: so the promise holds with the stated confidence whatever the
scores look like, as long as the parts are drawn like those of the line.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calibration.confidence import at_most, parts_needed
from calibration.evaluation import Share, share
from calibration.seen import Part, p_of
from calibration.splitting import CALIBRATE, SHARES, TUNE, VERIFY, group_of
from station.records import Record

STEP = 0.1
GRID = tuple(k * STEP for k in range(-400, 401))
"""Candidates for a limit, in log odds after the temperature. Declared here, before any set is seen."""
TEMPERATURES = (0.05, 20.0)
LEAST_TUNING = 10
"""Good and bad pins each; with fewer the temperature stays 1."""
_GOLDEN = (math.sqrt(5) - 1) / 2

Numbers = npt.NDArray[np.float64]


class Promise(Record):
    """What the limits must keep."""

    max_escape: float
    """Largest share of defective parts that may be said OK."""
    max_reject: float
    """Largest share of good parts that may be said NOT_OK."""
    confidence: float
    """Of each of the two."""


class GroupCount(Record):
    """How many parts a group holds."""

    good: int
    bad: int


class Measured(Record):
    """What a group of parts shows at the limits."""

    escapes: Share
    rejects: Share
    undecided_good: Share
    undecided_bad: Share
    escapes_by_mode: dict[str, Share]
    escapes_by_population: dict[str, Share]
    rejects_by_population: dict[str, Share]


class Limits(Record):
    """The two limits."""

    temperature: float
    t_lo: float
    """In log odds divided by the temperature."""
    t_hi: float
    ok_max_p_defect: float
    """The same as the recipe wants them: p(defect) of the model as it is."""
    not_ok_min_p_defect: float


class Calibration(Record):
    """Limits and what they rest on, or why there are none."""

    promise: Promise
    groups: dict[str, GroupCount]
    limits: Limits | None
    modes_kept: tuple[str, ...]
    """Modes for which the promise holds by itself, not only for all modes together."""
    too_small: tuple[str, ...]
    """What cannot be promised yet, and how many more parts are needed."""
    challenged: tuple[str, ...]
    """Probes of the challenge that fail at the OK limit that the parts alone allow: for them it is lower, or none."""
    calibrate: Measured | None
    verify: Measured | None
    verified: str
    """`proven`: the verifying parts alone prove the promise; `not contradicted`; `broken`; or `no limits`."""


def temperature(margins: Sequence[float], bad: Sequence[bool]) -> float:
    """Return the temperature of least log loss; 1 with fewer than LEAST_TUNING good or bad.

    Targets are drawn in from 0 and 1 as Platt did, so that a set without errors does not ask for temperature 0.
    """
    values, is_bad = np.asarray(margins, np.float64), np.asarray(bad, bool)
    hits, misses = int(is_bad.sum()), int((~is_bad).sum())
    if min(hits, misses) < LEAST_TUNING:
        return 1.0
    target = np.where(is_bad, (hits + 1) / (hits + 2), 1 / (misses + 2))

    def loss(log_temperature: float) -> float:
        scaled = values * math.exp(-log_temperature)
        return float(np.mean(np.logaddexp(0.0, scaled) - target * scaled))

    low, high = (math.log(end) for end in TEMPERATURES)
    for _ in range(60):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)


def fixed_sequence(scores: Numbers, largest_share: float, confidence: float) -> float | None:
    """Return the largest grid value at which, and below which, the share of `scores` up to it is proven small.

    None when even the lowest value cannot be proven: too few scores.
    """
    counts = np.searchsorted(np.sort(scores), GRID, side="right")
    kept = None
    for limit, count in zip(GRID, counts.tolist(), strict=True):
        if at_most(count, len(scores), largest_share) > 1 - confidence:
            break
        kept = limit
    return kept


def calibrated(
    groups: dict[str, list[Part]],
    tuned_temperature: float,
    promise: Promise,
    most: float = math.inf,
    challenged: Sequence[str] = (),
) -> Calibration:
    """Return the limits that the CALIBRATE group allows, and what it and the VERIFY group show about them.

    `most`: margin that the OK limit must not exceed whatever the parts say, because of what is `challenged`.
    """
    parts = groups[CALIBRATE]
    t_lo, modes_kept = _ok_limit(parts, tuned_temperature, promise)
    t_lo = _held_down(t_lo, most / tuned_temperature)
    good = -_scores(parts, tuned_temperature, is_bad=False)
    reject = fixed_sequence(good, promise.max_reject, promise.confidence)
    t_hi = None if reject is None else -reject
    limits = None if t_lo is None or t_hi is None else _limits(t_lo, t_hi, tuned_temperature)
    verify = measured(groups[VERIFY], limits) if limits else None
    return Calibration(
        promise=promise,
        groups={
            name: GroupCount(good=sum(not part.is_bad for part in group), bad=sum(part.is_bad for part in group))
            for name, group in groups.items()
        },
        limits=limits,
        modes_kept=modes_kept,
        too_small=tuple(_too_small(parts, promise)),
        challenged=tuple(challenged),
        calibrate=measured(parts, limits) if limits else None,
        verify=verify,
        verified=_verified(verify, promise),
    )


def _ok_limit(parts: Sequence[Part], scale: float, promise: Promise) -> tuple[float | None, tuple[str, ...]]:
    """Return the lowest of the limits for all defective parts and for each mode that has enough of them."""
    least = parts_needed(0, promise.max_escape, promise.confidence)
    modes = {mode: group for mode, group in _by_mode(parts).items() if len(group) >= least}
    bad = [part for part in parts if part.is_bad]
    limits = [
        fixed_sequence(_scores(group, scale, is_bad=True), promise.max_escape, promise.confidence)
        for group in (bad, *modes.values())
    ]
    found = [limit for limit in limits if limit is not None]
    return (min(found) if len(found) == len(limits) else None), tuple(modes)


def _held_down(t_lo: float | None, most: float) -> float | None:
    """Return the limit, or the largest one of the grid that is not above `most`."""
    if t_lo is None or t_lo <= most:
        return t_lo
    return max((limit for limit in GRID if limit <= most), default=None)


def _scores(parts: Sequence[Part], scale: float, *, is_bad: bool) -> Numbers:
    """Return the scores of the bad or good parts. What was not asked about is never OK and never NOT_OK."""
    never = math.inf if is_bad else -math.inf
    chosen = [part.score for part in parts if part.is_bad is is_bad]
    return np.array([never if score is None else score / scale for score in chosen], np.float64)


def _limits(t_lo: float, t_hi: float, scale: float) -> Limits:
    """Return the limits; where both promises leave room for one another, they meet in the middle."""
    if t_hi <= t_lo:
        t_lo = math.floor((t_lo + t_hi) / 2 / STEP) * STEP
        t_hi = t_lo + STEP
    return Limits(
        temperature=scale,
        t_lo=t_lo,
        t_hi=t_hi,
        ok_max_p_defect=p_of(t_lo * scale),
        not_ok_min_p_defect=p_of(t_hi * scale),
    )


def measured(parts: Sequence[Part], limits: Limits) -> Measured:
    """Return what the parts show at the limits."""

    def is_ok(part: Part) -> bool:
        return part.score is not None and p_of(part.score) <= limits.ok_max_p_defect

    def is_rejected(part: Part) -> bool:
        return part.score is not None and p_of(part.score) >= limits.not_ok_min_p_defect

    def is_neither(part: Part) -> bool:
        return not is_ok(part) and not is_rejected(part)

    good, bad = [part for part in parts if not part.is_bad], [part for part in parts if part.is_bad]
    populations = sorted({part.population for part in parts})
    return Measured(
        escapes=share(sum(map(is_ok, bad)), len(bad)),
        rejects=share(sum(map(is_rejected, good)), len(good)),
        undecided_good=share(sum(map(is_neither, good)), len(good)),
        undecided_bad=share(sum(map(is_neither, bad)), len(bad)),
        escapes_by_mode={mode: share(sum(map(is_ok, group)), len(group)) for mode, group in _by_mode(parts).items()},
        escapes_by_population={
            name: share(sum(is_ok(part) for part in bad if part.population == name), _count(bad, name))
            for name in populations
        },
        rejects_by_population={
            name: share(sum(is_rejected(part) for part in good if part.population == name), _count(good, name))
            for name in populations
        },
    )


def _count(parts: Sequence[Part], population: str) -> int:
    return sum(part.population == population for part in parts)


def _by_mode(parts: Sequence[Part]) -> dict[str, list[Part]]:
    groups: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        for mode in part.modes if part.is_bad else ():
            groups[mode].append(part)
    return dict(sorted(groups.items()))


def _too_small(parts: Sequence[Part], promise: Promise) -> list[str]:
    """Return in words what the calibrating group is too small for."""
    bad, good = sum(part.is_bad for part in parts), sum(not part.is_bad for part in parts)
    least_bad = parts_needed(0, promise.max_escape, promise.confidence)
    least_good = parts_needed(0, promise.max_reject, promise.confidence)
    wanted = [("defective parts", bad, least_bad), ("good parts", good, least_good)]
    wanted += [(f"parts with {mode}", len(group), least_bad) for mode, group in _by_mode(parts).items()]
    return [
        f"{what}: {found} to calibrate with, at least {least} are needed: about"
        f" {math.ceil((least - found) / share_of(CALIBRATE))} more in the set."
        for what, found, least in wanted
        if found < least
    ]


def share_of(group: str) -> float:
    """Return which share of all parts goes to the group."""
    ends = [0.0, *(end for _, end in SHARES)]
    names = [name for name, _ in SHARES]
    return ends[names.index(group) + 1] - ends[names.index(group)]


def _verified(found: Measured | None, promise: Promise) -> str:
    if found is None:
        return "no limits"
    pairs = ((found.escapes, promise.max_escape), (found.rejects, promise.max_reject))
    if any(one.lower95 > most for one, most in pairs):
        return "broken"
    return "proven" if all(one.upper95 <= most for one, most in pairs) else "not contradicted"


def groups_of(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return the parts in their groups."""
    groups: dict[str, list[Part]] = {TUNE: [], CALIBRATE: [], VERIFY: []}
    for part in parts:
        groups[group_of(part.part)].append(part)
    return groups
