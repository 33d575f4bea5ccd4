"""What a labelled set says about a model: errors with exact limits, per mode and pin, curves, the worst pictures. Pure.

In: the `Seen` records of a set, one list a model. Out: an `Evaluation` record; all shares are k of n with one-sided
95 % Clopper-Pearson limits. A verdict that is neither OK nor NOT_OK counts as no decision: the line rejects it.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from calibration import baseline, curves
from calibration.confidence import at_most, lower, upper
from calibration.seen import PinSeen, Seen
from calibration.splitting import half_of
from station.records import Evaluation, ModelRef, Record

WORST = 20
_UNDECIDED = frozenset({Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED})


class Share(Record):
    """k of n with exact one-sided 95 % limits."""

    k: int
    n: int
    share: float
    lower95: float
    upper95: float


class PlaceErrors(Record):
    """What was said of one pin over the whole set."""

    place: str
    missed: Share
    """Said OK where it is defective."""
    false_alarms: Share
    """Said NOT_OK where it is good."""
    undecided: int


class Curves(Record):
    """The curves of one judge (a model or the baseline)."""

    roc: curves.Line
    roc_area: float | None
    precision_recall: curves.Line
    reliability: tuple[curves.Bin, ...] = ()
    histogram: curves.Histogram | None = None


class Worst(Record):
    """A picture that was judged badly, or most narrowly right."""

    image: str
    truth: Evaluation
    said: Evaluation
    margin: float | None
    known: str
    """Modes and places from the labels."""
    detail: str


class ModelReport(Record):
    """One model on the set."""

    model: ModelRef
    is_simulated: bool
    confusion: dict[str, dict[str, int]]
    """Known evaluation -> said evaluation -> pictures."""
    rates: dict[str, Share]
    found_by_mode: dict[str, Share]
    """Defective pictures with this mode that were said NOT_OK."""
    escapes_by_mode: dict[str, Share]
    places: tuple[PlaceErrors, ...]
    count_errors: dict[str, int]
    """Pins counted minus pins known -> pictures."""
    curves: Curves
    log_loss: float | None
    brier: float | None
    """Over pins, or regions when asked by report."""
    worst: tuple[Worst, ...]
    ms_median: float


class BaselineReport(Record):
    """The OpenCV baseline on the same pictures; each half of the parts is judged with the other half's limit."""

    rates: dict[str, Share]
    curves: Curves


class Disagreement(Record):
    """Two judges on the same pictures; only where one is right and the other wrong says which is better."""

    first: str
    second: str
    only_first_right: int
    only_second_right: int
    p_value: float
    """Exact McNemar: chance of so uneven a split if both were equally good."""


class SetReport(Record):
    """A whole evaluation."""

    labelled_set: str
    recipe: str
    recipe_sha256: str
    created_utc: str
    pictures: int
    parts: int
    ok_max_p_defect: float
    not_ok_min_p_defect: float
    models: tuple[ModelReport, ...]
    baseline: BaselineReport | None
    comparisons: tuple[Disagreement, ...]


def share(k: int, n: int) -> Share:
    """Return k of n with its limits."""
    return Share(k=k, n=n, share=k / n if n else 0.0, lower95=lower(k, n), upper95=upper(k, n))


def model_report(seen: Sequence[Seen]) -> ModelReport:
    """Return what the set says about the model that judged `seen` (not empty)."""
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for one in seen:
        confusion[one.truth][one.said] += 1
    known = [pin for one in seen for pin in one.pins if pin.is_bad is not None]
    margins, bad = _probabilities(seen, known)
    scored = [one for one in seen if one.margin is not None and one.truth not in _UNDECIDED]
    last = next((one for one in reversed(seen) if one.verdict.regions), seen[-1])
    return ModelReport(
        model=last.verdict.model,
        is_simulated=any(one.verdict.is_simulated for one in seen),
        confusion={truth: dict(said) for truth, said in confusion.items()},
        rates=_rates([(one.truth, one.said) for one in seen]) | _detail_rates(seen),
        found_by_mode=_by_mode(seen, lambda one: one.said is Evaluation.NOT_OK),
        escapes_by_mode=_by_mode(seen, lambda one: one.said is Evaluation.OK),
        places=_places(known),
        count_errors=_count_errors(seen),
        curves=_curves(
            [one.margin or 0.0 for one in scored], [one.truth is Evaluation.NOT_OK for one in scored], margins, bad
        ),
        log_loss=curves.log_loss(margins, bad) if margins else None,
        brier=curves.brier(margins, bad) if margins else None,
        worst=tuple(_worst(one) for one in worst_first(seen)[:WORST]),
        ms_median=statistics.median(one.verdict.ms.total for one in seen),
    )


def _rates(judged: Sequence[tuple[Evaluation, Evaluation]]) -> dict[str, Share]:
    """Return the shares over (known, said)."""
    good = [said for truth, said in judged if truth is Evaluation.OK]
    bad = [said for truth, said in judged if truth is Evaluation.NOT_OK]
    neither = [said for truth, said in judged if truth in _UNDECIDED]
    rates = {
        "judgement right": share(sum(truth is said for truth, said in judged), len(judged)),
        "escapes": share(bad.count(Evaluation.OK), len(bad)),
        "false rejects": share(good.count(Evaluation.NOT_OK), len(good)),
        "no decision, good": share(sum(said in _UNDECIDED for said in good), len(good)),
        "no decision, bad": share(sum(said in _UNDECIDED for said in bad), len(bad)),
    }
    return rates | ({"undecidable, said OK": share(neither.count(Evaluation.OK), len(neither))} if neither else {})


def _detail_rates(seen: Sequence[Seen]) -> dict[str, Share]:
    counted = [one for one in seen if one.pin_count is not None and one.verdict.regions]
    found = [one for one in seen if one.truth is one.said is Evaluation.NOT_OK]
    with_modes, with_places = [one for one in found if one.modes], [one for one in found if one.positions]
    return {
        "count right": share(sum(_counted(one) == one.pin_count for one in counted), len(counted)),
        "mode right": share(sum(bool(_modes(one) & set(one.modes)) for one in with_modes), len(with_modes)),
        "position right": share(sum(_positions(one) == set(one.positions) for one in with_places), len(with_places)),
    }


def _counted(one: Seen) -> int:
    return sum(region.pins_counted or 0 for region in one.verdict.regions)


def _modes(one: Seen) -> set[str]:
    return {region.defect_mode for region in one.verdict.regions} | {pin.mode for pin in one.pins} - {"none"}


def _positions(one: Seen) -> set[str]:
    return {pin for region in one.verdict.regions for pin in region.defect_position.split(";")} - {"none"}


def _count_errors(seen: Iterable[Seen]) -> dict[str, int]:
    errors = Counter(_counted(one) - one.pin_count for one in seen if one.pin_count is not None and one.verdict.regions)
    return {f"{error:+d}" if error else "0": count for error, count in sorted(errors.items())}


def _by_mode(seen: Iterable[Seen], is_hit: Callable[[Seen], bool]) -> dict[str, Share]:
    groups: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        for mode in dict.fromkeys(one.modes if one.truth is Evaluation.NOT_OK else ()):
            groups[mode].append(one)
    return {mode: share(sum(map(is_hit, group)), len(group)) for mode, group in sorted(groups.items())}


def _places(known: Iterable[PinSeen]) -> tuple[PlaceErrors, ...]:
    groups: dict[str, list[PinSeen]] = defaultdict(list)
    for pin in known:
        groups[pin.place].append(pin)
    return tuple(_place(place, pins) for place, pins in groups.items())


def _place(place: str, pins: Sequence[PinSeen]) -> PlaceErrors:
    bad, good = [pin for pin in pins if pin.is_bad], [pin for pin in pins if not pin.is_bad]
    return PlaceErrors(
        place=place,
        missed=share(sum(pin.said is Evaluation.OK for pin in bad), len(bad)),
        false_alarms=share(sum(pin.said is Evaluation.NOT_OK for pin in good), len(good)),
        undecided=sum(pin.said in _UNDECIDED for pin in pins),
    )


def _probabilities(seen: Iterable[Seen], known: Sequence[PinSeen]) -> tuple[list[float], list[bool]]:
    """Return margins and truth of all pins; of whole pictures when no pin is known."""
    if known:
        return [pin.margin for pin in known], [bool(pin.is_bad) for pin in known]
    asked = [one for one in seen if one.margin is not None and one.truth not in _UNDECIDED]
    return [one.margin or 0.0 for one in asked], [one.truth is Evaluation.NOT_OK for one in asked]


def _curves(scores: list[float], bad: list[bool], margins: list[float], pin_bad: list[bool]) -> Curves:
    line = curves.roc(scores, bad)
    return Curves(
        roc=line,
        roc_area=curves.area(line) if line else None,
        precision_recall=curves.precision_recall(scores, bad),
        reliability=curves.reliability(margins, pin_bad),
        histogram=curves.histogram(scores, bad) if scores else None,
    )


def worst_first(seen: Iterable[Seen]) -> list[Seen]:
    """Return the pictures with a known evaluation: escapes, false rejects, other errors, then the narrowest."""

    def badness(one: Seen) -> tuple[int, float]:
        grade = 3 if one.truth is one.said else 0 if one.said is Evaluation.OK else 2 if one.said in _UNDECIDED else 1
        margin = one.margin if one.margin is not None else math.inf
        return grade, -margin if one.truth is Evaluation.OK else margin

    return sorted(seen, key=badness)


def _worst(one: Seen) -> Worst:
    known = " ".join(filter(None, (";".join(one.modes), ";".join(one.positions))))
    return Worst(one.image, one.truth, one.said, one.margin, known, one.verdict.detail)


def baseline_report(seen: Sequence[Seen]) -> BaselineReport | None:
    """Return the OpenCV baseline's errors; None without good and bad pictures in both halves of the parts."""
    scored = [one for one in seen if one.baseline is not None and one.truth not in _UNDECIDED]
    halves = [[one for one in scored if half_of(one.part) == half] for half in (0, 1)]
    if any(len({one.truth for one in half}) < 2 for half in halves):
        return None
    judged = [*_by_baseline(halves[0], halves[1]), *_by_baseline(halves[1], halves[0])]
    scores, bad = [one.baseline or 0.0 for one in scored], [one.truth is Evaluation.NOT_OK for one in scored]
    return BaselineReport(rates=_rates(judged), curves=_curves(scores, bad, [], []))


def _by_baseline(tuning: Sequence[Seen], judged: Sequence[Seen]) -> list[tuple[Evaluation, Evaluation]]:
    """Return (known, said) of `judged` with the limit that suits `tuning` best."""
    scores = {
        truth: np.array([one.baseline for one in tuning if one.truth is truth], float)
        for truth in (Evaluation.OK, Evaluation.NOT_OK)
    }
    limit = baseline.best_limit(scores[Evaluation.OK], scores[Evaluation.NOT_OK])
    said = [Evaluation.NOT_OK if (one.baseline or 0.0) >= limit else Evaluation.OK for one in judged]
    return [(one.truth, word) for one, word in zip(judged, said, strict=True)]


def compared(first: Sequence[Seen], second: Sequence[Seen], names: tuple[str, str]) -> Disagreement:
    """Return where two models differ on the same pictures."""
    pairs = [(a.truth is a.said, b.truth is b.said) for a, b in zip(first, second, strict=True)]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    total = only_first + only_second
    p_value = min(1.0, 2 * at_most(min(only_first, only_second), total, 0.5)) if total else 1.0
    return Disagreement(*names, only_first, only_second, p_value)
