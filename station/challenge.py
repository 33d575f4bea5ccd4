"""What came of a challenge, and what that means for the station. Pure.

A challenge is a run through all probes (`guards`) and all samples of the recipe. While the last one is not passed the
station says OK of nothing and is not online.
"""

import enum

from station.records import Failure, ModelRef, Reason, Record

SAMPLE_LIMIT_S = 30
"""A sample that is not at the worker so long after capture was asked to put it does not come."""


class Standing(enum.StrEnum):
    """Where the station stands with its challenges."""

    NOT_ASKED = "not asked"
    """The engine is simulated or not loaded: there is nothing to challenge."""
    DUE = "due"
    """Since the engine was loaded none has passed yet."""
    PASSED = "passed"
    FAILED = "failed"


class Step(Record):
    """What came of one probe or sample."""

    name: str
    guard: str
    wanted: str
    problem: str
    """What is not as it must be; empty: passed."""
    ms: float
    """The engine's time."""
    found: str = ""
    """What else it showed, in words: where the reason for a rejection lies."""


class ChallengeRun(Record):
    """One challenge, from its begin to its end."""

    cause: str
    """start, recipe, plc, person, schedule or line (the few probes now and then)."""
    recipe: str
    recipe_sha256: str
    model: ModelRef
    started_utc: str
    ended_utc: str
    steps: tuple[Step, ...]

    @property
    def is_passed(self) -> bool:
        """True when there was a step and every one was as it must be."""
        return bool(self.steps) and not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What was not as it must be, in words."""
        return tuple(f"{step.name} ({step.guard}) {step.problem}" for step in self.steps if step.problem)


def bar_of(standing: Standing, last: ChallengeRun | None) -> Failure | None:
    """Return why nothing may be said OK, None if it may."""
    if standing in {Standing.PASSED, Standing.NOT_ASKED}:
        return None
    if standing is Standing.DUE:
        detail = "The challenge of this start is not over yet: until then nothing is OK. It takes some seconds."
        return Failure(reason=Reason.CHALLENGE_FAILED, detail=detail)
    why = "; ".join(last.problems[:3]) if last else ""
    detail = (
        f"The last challenge failed: {why}. Look at lamp, lens, camera and model, put it right,"
        " then run it again: station challenge."
    )
    return Failure(reason=Reason.CHALLENGE_FAILED, detail=detail)
