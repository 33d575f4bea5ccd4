"""What a second model, the shadow, said beside the active one: agreement, differences, and who was right where known.

In: lines of shadow.jsonl and what people said of parts (overrides). Out: a `ShadowReport` of the two releases and the
recipe that were compared last. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from station.records import Evaluation, ModelRef, Record


class ShadowJudged(Record, tag="judged"):
    """One part that both models judged by the same recipe."""

    job_id: str
    recipe_sha256: str
    active: ModelRef
    shadow: ModelRef
    active_said: Evaluation
    """What the active model's answers alone come to, whatever certificate or challenge bars."""
    shadow_said: Evaluation
    active_bad: tuple[str, ...]
    """Places (region_id/pin_id) that were NOT_OK, or regions when asked by report."""
    shadow_bad: tuple[str, ...]
    ms: float
    """The shadow's time, pauses left out."""
    judged_utc: str


class ShadowDropped(Record, tag="dropped"):
    """Parts since the last line that the shadow did not judge: the line was busy."""

    count: int


class ShadowState(Record, tag="state"):
    """The shadow's state from here on."""

    shadow: str
    """Its manifest."""
    problem: str
    """Why it does not judge; empty: it does."""
    at_utc: str


ShadowLine = ShadowJudged | ShadowDropped | ShadowState


class Difference(Record):
    """One part over which the two differ."""

    job_id: str
    active_said: Evaluation
    shadow_said: Evaluation
    active_bad: tuple[str, ...]
    shadow_bad: tuple[str, ...]
    truth: Evaluation | None
    """What a person said of it; None: nobody did."""


class Errors(Record):
    """What one model would have done with the parts that a person judged."""

    escapes: int
    """Defective, said OK."""
    false_rejects: int
    """Good, said NOT_OK."""


class ShadowReport(Record):
    """The shadow beside the active model, of the newest pair of releases and recipe."""

    active: ModelRef | None
    """None: nothing was compared yet."""
    shadow: ModelRef | None
    recipe_sha256: str
    problem: str
    """Why the shadow does not judge; empty: it does."""
    judged: int
    agreed: int
    dropped: int
    """Parts that came while the line was busy, since the file was begun."""
    defective: int
    """Of the parts that a person judged; `good`: likewise."""
    good: int
    active_errors: Errors
    shadow_errors: Errors
    differences: tuple[Difference, ...]
    """Newest first."""


def report_of(lines: Iterable[ShadowLine], truths: Mapping[str, Evaluation]) -> ShadowReport:
    """Return the report. `truths`: what a person said, by job id."""
    judged: list[ShadowJudged] = []
    dropped, problem = 0, ""
    for line in lines:
        match line:
            case ShadowDropped():
                dropped += line.count
            case ShadowState():
                problem = line.problem
            case ShadowJudged():
                if judged and _pair(judged[-1]) != _pair(line):
                    judged.clear()
                judged.append(line)
    last = judged[-1] if judged else None
    known = [(line, truths[line.job_id]) for line in judged if line.job_id in truths]
    differences = [_difference(line, truths) for line in reversed(judged) if line.active_said is not line.shadow_said]
    return ShadowReport(
        active=last.active if last else None,
        shadow=last.shadow if last else None,
        recipe_sha256=last.recipe_sha256 if last else "",
        problem=problem,
        judged=len(judged),
        agreed=len(judged) - len(differences),
        dropped=dropped,
        defective=sum(truth is Evaluation.NOT_OK for _, truth in known),
        good=sum(truth is Evaluation.OK for _, truth in known),
        active_errors=_errors(known, lambda line: line.active_said),
        shadow_errors=_errors(known, lambda line: line.shadow_said),
        differences=tuple(differences),
    )


def _pair(line: ShadowJudged) -> tuple[str, str, str]:
    return line.active.sha256, line.shadow.sha256, line.recipe_sha256


def _difference(line: ShadowJudged, truths: Mapping[str, Evaluation]) -> Difference:
    return Difference(
        job_id=line.job_id,
        active_said=line.active_said,
        shadow_said=line.shadow_said,
        active_bad=line.active_bad,
        shadow_bad=line.shadow_bad,
        truth=truths.get(line.job_id),
    )


def _errors(known: Sequence[tuple[ShadowJudged, Evaluation]], said: Callable[[ShadowJudged], Evaluation]) -> Errors:
    return Errors(
        escapes=sum(truth is Evaluation.NOT_OK and said(line) is Evaluation.OK for line, truth in known),
        false_rejects=sum(truth is Evaluation.OK and said(line) is Evaluation.NOT_OK for line, truth in known),
    )
