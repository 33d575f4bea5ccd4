"""A verdict as a result of OPC 40100-1: the words and numbers of its fields, nothing of OPC UA's encoding. No I/O.

Where the hashes stand: InternalRecipeId the recipe, InternalConfigurationId config.yaml, ExternalConfigurationId the
model release (its manifest, which holds the hashes of both GGUF files).
"""

from datetime import datetime, timedelta

from station.journal_reader import Wanted
from station.records import Record, ResultState, Verdict

HASH_ALGORITHM = "SHA-256"


class Identity(Record, frozen=True):
    """One of the specification's ids with a hash; `sha256` hex or empty."""

    id: str
    sha256: str = ""
    version: str = ""


class Result(Record, frozen=True):
    """What a client is told of one verdict."""

    result_id: str
    job_id: str
    is_simulated: bool
    result_state: int
    measurement: str
    part_id: str
    recipe: Identity
    configuration: Identity
    model: Identity
    created: datetime
    started: datetime
    acquisition_ms: float
    processing_ms: float
    evaluation: int
    """OPC 40001-101: 0 Undefined, 1 OK, 2 NotOK, 3 NotDecidable."""
    reason: int
    detail: str


def result_of(verdict: Verdict) -> Result:
    """Return what a client is told of this verdict."""
    created = datetime.fromisoformat(verdict.created_utc)
    return Result(
        result_id=verdict.job_id,
        job_id=job_id_of(verdict),
        is_simulated=verdict.is_simulated,
        result_state=verdict.result_state.code,
        measurement=verdict.trigger.measurement if verdict.trigger else "",
        part_id=verdict.part_id or "",
        recipe=Identity(id=verdict.recipe, sha256=verdict.recipe_sha256),
        configuration=Identity(id=verdict.station, sha256=verdict.config_sha256),
        model=Identity(id=verdict.model.name, sha256=verdict.model.sha256),
        created=created,
        started=created - timedelta(milliseconds=verdict.ms.total),
        acquisition_ms=verdict.ms.capture,
        processing_ms=verdict.ms.inference,
        evaluation=verdict.evaluation.code,
        reason=int(verdict.reason),
        detail=verdict.detail,
    )


def job_id(epoch: int, acquisition_id: int) -> str:
    """Return the JobId of a job that a client started."""
    return f"{epoch}-{acquisition_id}"


def job_id_of(verdict: Verdict) -> str:
    """Return the JobId of a verdict: that of its trigger, without one that of its picture."""
    return job_id(verdict.epoch, verdict.trigger.acquisition_id) if verdict.trigger else verdict.job_id


def wanted(
    *,
    result_state: int = 0,
    measurement: str = "",
    part_id: str = "",
    recipe: str = "",
    recipe_sha256: str = "",
    config_sha256: str = "",
    job_id: str = "",
) -> Wanted:
    """Return the question to the journal for the filter of GetResultListFiltered; empty or 0: any.

    Raises ValueError if the result state is none.
    """
    epoch, _, acquisition = job_id.partition("-")
    is_started = epoch.isdecimal() and acquisition.isdecimal()
    return Wanted(
        result_state=list(ResultState)[result_state].value if _is_state(result_state) else None,
        measurement=measurement or None,
        part_id=part_id or None,
        recipe=recipe or None,
        recipe_sha256=recipe_sha256 or None,
        config_sha256=config_sha256 or None,
        job_id=job_id if job_id and not is_started else None,
        epoch=int(epoch) if is_started else None,
        acquisition_id=int(acquisition) if is_started else None,
    )


def _is_state(number: int) -> bool:
    if not 0 <= number < len(ResultState):
        raise ValueError(f"There is no result state {number}.")
    return number > 0
