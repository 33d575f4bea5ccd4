"""Job ids: UTC time of capture to the millisecond, then 8 random hex digits, so that ids sort by time. Pure.

After a restart pictures are sent in the order of their ids, so ids must grow even if two are made in a millisecond or
the clock is set back.
"""

import secrets
from datetime import UTC, datetime, timedelta

_TIME_FORM = "%Y%m%dT%H%M%S%f"


def new_job_id(now_utc: datetime) -> str:
    """Return the id of a job captured `now_utc`, as 20261122T101530123-0f3a9c1e."""
    return f"{now_utc.strftime(_TIME_FORM)[:-3]}-{secrets.token_hex(4)}"


class JobIds:
    """Makes job ids that only grow."""

    def __init__(self) -> None:
        self._last_utc = datetime.min.replace(tzinfo=UTC)

    def follow(self, job_id: str) -> None:
        """Make all further ids later than this one. Raises ValueError if it is no job id."""
        self._last_utc = max(self._last_utc, captured_at(job_id))

    def next(self, now_utc: datetime) -> str:
        """Return the id of a job captured `now_utc`, or a millisecond after the last one if that is later."""
        whole_ms = now_utc.replace(microsecond=now_utc.microsecond // 1000 * 1000)
        self._last_utc = max(whole_ms, self._last_utc + timedelta(milliseconds=1))
        return new_job_id(self._last_utc)


def captured_at(job_id: str) -> datetime:
    """Return when the job was captured, UTC. Raises ValueError if this is not a job id of this form."""
    time_text, _, random_text = job_id.partition("-")
    if len(time_text) != 18 or len(random_text) != 8:
        raise ValueError(f"{job_id!r} is not a job id")
    return datetime.strptime(time_text + "000", _TIME_FORM).replace(tzinfo=UTC)
