"""Attribute agreement: does the station decide right, and the same again? Pure.

In: `Reading`s: what was said of each part, at each station, in each set-up, at each recapture. Out: effectiveness, miss
rate, false alarm rate and kappa as in the AIAG's MSA manual (4th edition), and agreement by kind of repetition.

A part's readings come together, so limits are counted in parts: the share of wrong decisions cannot be above the share
of parts that were ever decided wrong, nor below that of parts that always were; of those two shares the limits are
exact (Clopper-Pearson, one-sided 95 %). A part is accepted only when it is said OK: no decision is a reject.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from calibration.confidence import lower, upper
from calibration.evaluation import Share, share
from station.records import Evaluation, Record

SAME_PICTURE, RE_PRESENTED = "same picture", "re-presented"
OTHER_SET_UP, OTHER_STATION = "other set-up", "other station"
PROVES = {
    SAME_PICTURE: "same pixels, same answer",
    RE_PRESENTED: "place, focus, noise do not matter",
    OTHER_SET_UP: "lamp, day, fixture do not matter",
    OTHER_STATION: "camera, lens, lamp do not matter",
}
_UNDECIDED = frozenset({Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED})

Wrong = Mapping[str, Sequence[float]]
"""Part -> 1 for each decision (or pair of decisions) that is wrong, 0 for each that is right."""


class Reading(Record):
    """One part, taken once."""

    image: str
    part: str
    is_bad: bool
    station: str
    set_up: str
    recapture: str
    said: Evaluation
    margin: float | None
    """Log odds of a defect; None when nothing was asked."""

    @property
    def is_accepted(self) -> bool:
        """True if it was said OK: everything else is rejected by the line."""
        return self.said is Evaluation.OK


class Rate(Record):
    """Wrong ones of all decisions (or pairs), with limits that are exact in parts."""

    wrong: int
    of: int
    share: float
    """Mean over parts."""
    parts: int
    parts_ever: int
    """With at least one."""
    lower95: float
    upper95: float


class Kappa(Record):
    """Agreement beyond chance: 1 - disagreement / disagreement expected by chance.

    The limits are those of the disagreement; what chance alone would do is taken as seen. None where chance could not
    disagree: everything was said the same.
    """

    kappa: float | None
    lower95: float | None
    upper95: float | None


class Decisions(Record):
    """The decisions of one set-up, or of all."""

    name: str
    effectiveness: Share
    """Parts that were decided right every time."""
    missed: Rate
    """Bad parts accepted."""
    false_alarms: Rate
    """Good parts rejected, also for want of a decision."""
    undecided: int
    kappa: Kappa
    """Against the reference (Cohen)."""


class Repetition(Record):
    """Pairs of decisions on one part that differ in one way only."""

    kind: str
    differing: Rate
    kappa: Kappa
    """Between the two (Scott, which is Fleiss' kappa where every pair is of this kind)."""
    largest_step: float | None
    """Largest difference of two margins, log odds."""


def decisions(readings: Sequence[Reading]) -> tuple[Decisions, ...]:
    """Return the decisions of each set-up, then of all together if there are several."""
    groups: dict[str, list[Reading]] = defaultdict(list)
    several = len({one.station for one in readings}) > 1
    for one in readings:
        groups[f"{one.station}, {one.set_up}" if several else one.set_up].append(one)
    found = [_decisions(name, group) for name, group in groups.items()]
    return (*found, _decisions("all", readings)) if len(found) > 1 else tuple(found)


def _decisions(name: str, readings: Sequence[Reading]) -> Decisions:
    wrong = _by_part(readings, lambda one: float(one.is_accepted is one.is_bad))
    bad = {one.part for one in readings if one.is_bad}
    right = [part for part, flags in wrong.items() if not any(flags)]
    accepted = sum(one.is_accepted for one in readings) / len(readings)
    good = sum(not one.is_bad for one in readings) / len(readings)
    chance = 1 - accepted * good - (1 - accepted) * (1 - good)
    return Decisions(
        name=name,
        effectiveness=share(len(right), len(wrong)),
        missed=rate({part: flags for part, flags in wrong.items() if part in bad}),
        false_alarms=rate({part: flags for part, flags in wrong.items() if part not in bad}),
        undecided=sum(one.said in _UNDECIDED for one in readings),
        kappa=kappa(rate(wrong), chance),
    )


def repetitions(readings: Sequence[Reading], again: Sequence[tuple[Reading, Reading]]) -> tuple[Repetition, ...]:
    """Return the agreement of each kind of repetition that there is; `again`: the same pictures judged twice."""
    pairs: dict[str, list[tuple[Reading, Reading]]] = {SAME_PICTURE: list(again)}
    for group in _groups(readings).values():
        for a, b in itertools.combinations(group, 2):
            pairs.setdefault(_kind(a, b), []).append((a, b))
    return tuple(_repetition(kind, pairs[kind]) for kind in PROVES if pairs.get(kind))


def _kind(a: Reading, b: Reading) -> str:
    if a.station != b.station:
        return OTHER_STATION
    return RE_PRESENTED if a.set_up == b.set_up else OTHER_SET_UP


def _repetition(kind: str, pairs: Sequence[tuple[Reading, Reading]]) -> Repetition:
    flags: dict[str, list[float]] = defaultdict(list)
    for a, b in pairs:
        flags[a.part].append(float(a.is_accepted is not b.is_accepted))
    accepted = sum(one.is_accepted for pair in pairs for one in pair) / (2 * len(pairs))
    steps = [abs(a.margin - b.margin) for a, b in pairs if a.margin is not None and b.margin is not None]
    differing = rate(flags)
    return Repetition(kind, differing, kappa(differing, 2 * accepted * (1 - accepted)), max(steps, default=None))


def rate(wrong: Wrong) -> Rate:
    """Return the share of wrong decisions and its limits."""
    parts = len(wrong)
    ever, always = sum(any(flags) for flags in wrong.values()), sum(all(flags) for flags in wrong.values())
    return Rate(
        wrong=int(sum(map(sum, wrong.values()))),
        of=sum(map(len, wrong.values())),
        share=sum(sum(flags) / len(flags) for flags in wrong.values()) / parts if parts else 0.0,
        parts=parts,
        parts_ever=ever,
        lower95=lower(always, parts),
        upper95=upper(ever, parts),
    )


def kappa(disagreeing: Rate, chance: float) -> Kappa:
    """Return the kappa of a disagreement; `chance`: the share that would disagree by chance."""
    if chance <= 0:
        return Kappa(None, None, None)
    best, worst = disagreeing.lower95, disagreeing.upper95
    return Kappa(1 - disagreeing.share / chance, max(-1.0, 1 - worst / chance), 1 - best / chance)


def _groups(readings: Iterable[Reading]) -> Mapping[str, list[Reading]]:
    groups: dict[str, list[Reading]] = defaultdict(list)
    for one in readings:
        groups[one.part].append(one)
    return groups


def _by_part(readings: Iterable[Reading], value: Callable[[Reading], float]) -> dict[str, list[float]]:
    return {part: [value(one) for one in group] for part, group in _groups(readings).items()}
