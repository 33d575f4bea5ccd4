"""When each job must have its verdict. Pure: the clock is passed in.

All times are nanoseconds of one monotonic clock, so that a step of the wall clock moves no deadline.
"""


class Deadlines:
    """One deadline per job id."""

    def __init__(self) -> None:
        # A dict and min(): there are never more jobs here than the credit granted, two by default.
        self._due_ns: dict[str, int] = {}

    def add(self, job_id: str, due_ns: int) -> None:
        """Set the deadline of a job; an earlier one of the same job is replaced."""
        self._due_ns[job_id] = due_ns

    def remove(self, job_id: str) -> None:
        """Forget a job; nothing happens if it has no deadline."""
        self._due_ns.pop(job_id, None)

    def next_due_ns(self) -> int | None:
        """Return the earliest deadline, None when there is none."""
        return min(self._due_ns.values(), default=None)

    def pop_due(self, now_ns: int) -> list[str]:
        """Remove and return the jobs whose deadline is at or before `now_ns`, earliest first."""
        due = sorted((due_ns, job_id) for job_id, due_ns in self._due_ns.items() if due_ns <= now_ns)
        for _, job_id in due:
            del self._due_ns[job_id]
        return [job_id for _, job_id in due]
