"""The cells of a study's tables as text, for terminal and page. Pure."""

from collections import defaultdict
from collections.abc import Iterable

from calibration.agreement import Decisions, Kappa, Rate, Reading
from calibration.evaluation import Share
from calibration.gauge import STATION, Gauge
from calibration.msa import (
    CATEGORIES,
    EFFECTIVENESS,
    FALSE_ALARM,
    LIMITS,
    MISS,
    RR_SHARE,
    SAME,
    Criterion,
    Distance,
    Study,
)

CRITERION_HEAD = ("figure", "measured", "95 % limit", "acceptable (marginal)", "measured is", "limit is")
DECISION_HEAD = ("effectiveness, parts", "missed", "false alarms", "undecided", "kappa")
REPETITION_HEAD = ("decisions that differ", "kappa", "largest step of the margin")
SPREAD_HEAD = ("sigma", "95 % limits", "share of total sigma")
DISTANCE_HEAD = ("parts", "mean margin", "sigma of gauge", "mean to limit, sigmas", "nearest part, sigmas")
_PERCENT = frozenset({SAME, EFFECTIVENESS, MISS, FALSE_ALARM, RR_SHARE})


def criterion_row(one: Criterion) -> list[str]:
    """Return the cells of CRITERION_HEAD."""
    acceptable, marginal = LIMITS[one.figure]
    sign = "≥" if acceptable > marginal else "≤"
    limit = "-" if one.limit95 is None else f"{sign} {_number(one.figure, one.limit95)}"
    wanted = f"{sign} {_number(one.figure, acceptable)} ({_number(one.figure, marginal)})"
    return [
        one.figure, _number(one.figure, one.value), limit, wanted, str(one.grade), str(one.grade_at_limit or "-")
    ]  # fmt: skip


def _number(figure: str, value: float) -> str:
    if figure in _PERCENT:
        return f"{value:.1%}"
    return f"{value:.0f}" if figure == CATEGORIES else f"{value:.2f}"


def decision_row(one: Decisions) -> list[str]:
    """Return the cells of a set-up and DECISION_HEAD."""
    return [
        one.name, share_text(one.effectiveness), rate_text(one.missed), rate_text(one.false_alarms), str(one.undecided),
        kappa_text(one.kappa),
    ]  # fmt: skip


def repetition_rows(study: Study) -> list[list[str]]:
    """Return for each kind of repetition its cells and those of REPETITION_HEAD."""
    return [
        [
            one.kind, rate_text(one.differing), kappa_text(one.kappa),
            "-" if one.largest_step is None else f"{one.largest_step:.3f}",
        ]
        for one in study.repetitions
    ]  # fmt: skip


def share_text(share: Share) -> str:
    """Return "k/n = share [limits]", in percent."""
    return f"{share.k}/{share.n} = {_percent(share.share, share.lower95, share.upper95)}"


def rate_text(rate: Rate) -> str:
    """Return "k/n = share [limits], parts ever/parts", in percent, or a dash without any."""
    if not rate.parts:
        return "-"
    shares = _percent(rate.share, rate.lower95, rate.upper95)
    return f"{rate.wrong}/{rate.of} = {shares}, {rate.parts_ever}/{rate.parts} parts"


def _percent(share: float, low: float, high: float) -> str:
    return f"{share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def kappa_text(kappa: Kappa) -> str:
    """Return "kappa [limits]"; a dash where chance could not disagree."""
    if kappa.kappa is None:
        return "-"
    return f"{kappa.kappa:.2f} [{kappa.lower95:.2f}, {kappa.upper95:.2f}]"


def spread_rows(gauge: Gauge) -> list[list[str]]:
    """Return name and cells of SPREAD_HEAD of each component."""
    return [
        [one.name, f"{one.sigma:.3f}", f"[{one.lower95:.3f}, {one.upper95:.3f}]", f"{one.share_of_total:.1%}"]
        for one in gauge.spreads
        if one.name != STATION or gauge.stations > 1
    ]


def distance_rows(distances: dict[str, Distance]) -> list[list[str]]:
    """Return name and cells of DISTANCE_HEAD of good and bad parts."""
    return [
        [
            name, str(one.parts), f"{one.mean:.2f}", f"{one.sigma:.3f}", _sigmas(one.sigmas),
            f"{_sigmas(one.nearest_sigmas)} ({one.nearest})",
        ]
        for name, one in distances.items()
    ]  # fmt: skip


def _sigmas(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def wrong_parts(readings: Iterable[Reading]) -> Iterable[str]:
    """Yield each part that was not decided right every time, with what was said of it in each set-up."""
    groups: dict[str, list[Reading]] = defaultdict(list)
    for one in readings:
        groups[one.part].append(one)
    several = len({one.station for group in groups.values() for one in group}) > 1
    for part, group in groups.items():
        if any(one.is_accepted is one.is_bad for one in group):
            said: dict[str, list[str]] = defaultdict(list)
            for one in group:
                said[f"{one.station}, {one.set_up}" if several else one.set_up].append(str(one.said))
            words = "; ".join(f"{place}: {' '.join(words)}" for place, words in said.items())
            yield f"{part}, {'bad' if group[0].is_bad else 'good'}: {words}"
