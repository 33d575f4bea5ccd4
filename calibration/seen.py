"""What was known and what was said of each picture of a labelled set. Pure.

In: labels and verdicts. Out: `Seen` records, and `Part`s: limits and shares are counted in parts, because the errors of
one part's pins come together. Margins are the model's raw scores: log(p(defect) / p(passed)), 0 when it is torn.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from station.labels import POPULATIONS, Label
from station.records import Evaluation, Record, Verdict

MARGIN_LIMIT = 40.0
"""Margins end here: beyond it a double cannot tell p(defect) from 0 or 1."""
NOT_SAID = "not said"
_WORST_FIRST = (Evaluation.NOT_OK, Evaluation.UNDEFINED, Evaluation.NOT_DECIDABLE, Evaluation.OK)


class PinSeen(Record):
    """One pin of one picture."""

    place: str
    """region_id/pin_id."""
    margin: float
    is_bad: bool | None
    """None: the labels do not tell."""
    said: Evaluation
    mode: str
    """What was said, or "none"."""


class Seen(Record):
    """One picture: what is known and what was said."""

    image: str
    part: str
    """The part's id, or the picture's name if it has none."""
    truth: Evaluation
    modes: tuple[str, ...]
    positions: tuple[str, ...]
    pin_count: int | None
    population: str
    """drawn, edited, real, or "not said"."""
    verdict: Verdict
    pins: tuple[PinSeen, ...]
    baseline: float | None
    """The OpenCV baseline's score, grey levels; None when nothing was cropped."""

    @property
    def said(self) -> Evaluation:
        """The verdict's evaluation."""
        return self.verdict.evaluation

    @property
    def margin(self) -> float | None:
        """The largest margin of its regions; None when nothing was asked."""
        found = [region.p_defect for region in self.verdict.regions if region.p_defect is not None]
        return max(map(margin_of, found), default=None)


class Part(Record):
    """One part, all its pictures together, the worst for us counted."""

    part: str
    is_bad: bool
    modes: tuple[str, ...]
    population: str
    score: float | None
    """A bad part's smallest margin, a good one's largest; None when a picture was not asked about."""


def margin_of(p_defect: float) -> float:
    """Return log(p / (1 - p)), within +-MARGIN_LIMIT."""
    if p_defect <= 0:
        return -MARGIN_LIMIT
    if p_defect >= 1:
        return MARGIN_LIMIT
    return max(-MARGIN_LIMIT, min(MARGIN_LIMIT, math.log(p_defect) - math.log1p(-p_defect)))


def p_of(margin: float) -> float:
    """Return the p(defect) of a margin."""
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def seen_of(labels: Sequence[Label], verdict: Verdict, baseline: float | None) -> Seen:
    """Return what is known (all labels of one picture) beside what was said of it."""
    truth = min((label.evaluation for label in labels), key=_WORST_FIRST.index)
    counts = [label.pin_count for label in labels]
    return Seen(
        image=labels[0].image,
        part=next((label.part_id for label in labels if label.part_id), labels[0].image),
        truth=truth,
        modes=tuple(mode for label in labels for mode in label.defect_modes),
        positions=tuple(pin for label in labels for pin in label.defect_positions),
        pin_count=sum(count for count in counts if count is not None) if None not in counts else None,
        population=next((label.population for label in labels if label.population), NOT_SAID),
        verdict=verdict,
        pins=tuple(_pins(labels, verdict)),
        baseline=baseline,
    )


def _pins(labels: Sequence[Label], verdict: Verdict) -> Iterable[PinSeen]:
    for region in verdict.regions:
        known = [label for label in labels if label.region_id in {None, region.region_id}]
        bad = {pin for label in known for pin in label.defect_positions}
        # A defective region without positions leaves open which pin it was.
        tells = bool(known) and all(label.evaluation is Evaluation.OK or label.defect_positions for label in known)
        for pin in region.pins:
            yield PinSeen(
                place=f"{region.region_id}/{pin.pin_id}",
                margin=margin_of(pin.p_defect),
                is_bad=pin.pin_id in bad if tells else None,
                said=pin.evaluation,
                mode=pin.defect_mode,
            )


def parts_of(seen: Iterable[Seen]) -> tuple[Part, ...]:
    """Return the good and bad parts; a part with a bad picture is bad. Undecidable pictures are left out."""
    groups: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.truth in {Evaluation.OK, Evaluation.NOT_OK}:
            groups[one.part].append(one)
    return tuple(_part(name, pictures) for name, pictures in groups.items())


def _part(name: str, pictures: list[Seen]) -> Part:
    bad = [picture for picture in pictures if picture.truth is Evaluation.NOT_OK]
    margins = [picture.margin for picture in bad or pictures]
    asked = [margin for margin in margins if margin is not None]
    return Part(
        part=name,
        is_bad=bool(bad),
        modes=tuple(dict.fromkeys(mode for picture in bad for mode in picture.modes)),
        population=min((picture.population for picture in pictures), key=(*POPULATIONS, NOT_SAID).index),
        score=(min(asked) if bad else max(asked)) if len(asked) == len(margins) else None,
    )
