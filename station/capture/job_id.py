"""Job ids: UTC time of capture to the millisecond, then 8 random hex digits, so that ids sort by time. Pure."""

import secrets
from datetime import UTC, datetime

_TIME_FORM = "%Y%m%dT%H%M%S%f"


def new_job_id(now_utc: datetime) -> str:
    """Return the id of a job captured `now_utc`, as 20261122T101530123-0f3a9c1e."""
    return f"{now_utc.strftime(_TIME_FORM)[:-3]}-{secrets.token_hex(4)}"


def captured_at(job_id: str) -> datetime:
    """Return when the job was captured, UTC. Raises ValueError if this is not a job id of this form."""
    time_text, _, random_text = job_id.partition("-")
    if len(time_text) != 18 or len(random_text) != 8:
        raise ValueError(f"{job_id!r} is not a job id")
    return datetime.strptime(time_text + "000", _TIME_FORM).replace(tzinfo=UTC)
