"""A job that waits for its verdict, and the times it took. Pure: the clock is passed in, monotonic nanoseconds."""

from dataclasses import dataclass

from station.challenge_file import Sample
from station.engine.base import Answer, Query
from station.guards import Probe
from station.records import Failure, Job, Timing, TriggerRef

Check = Probe | Sample


@dataclass
class Pending:
    """A job from its arrival to its verdict."""

    peer: bytes
    """Address of the capture that waits for the ack."""
    job: Job
    received_ns: int
    queries: tuple[Query, ...] = ()
    """What the engine is asked; empty when there is nothing to ask: concluded as soon as it is the oldest."""
    doubts: tuple[Query, ...] = ()
    """What is asked once more, because an answer was near the limit."""
    answers: tuple[Answer, ...] = ()
    """The first answers, while the doubts are asked about."""
    first_ms: float = 0.0
    """How long they took."""
    trouble: Failure | None = None
    """Why the engine is not asked, apart from the job's own failure."""
    asked_ns: int | None = None
    """When the engine got the queries; None before, and again after it died over them."""
    trigger: TriggerRef | None = None
    """The PLC's trigger that its picture belongs to."""
    check: Check | None = None
    """A step of a challenge: no part, no verdict."""
    deaths: int = 0
    """How often the engine died over this job."""

    def timing(self, now_ns: int, inference_ms: float | None) -> Timing:
        """Return the times of a verdict that is made now; without an answer the engine's share runs until now."""
        asked_ns = now_ns if self.asked_ns is None else self.asked_ns
        return Timing(
            capture=self.job.capture_ms,
            queue=(asked_ns - self.received_ns) / 1e6,
            inference=(now_ns - asked_ns) / 1e6 if inference_ms is None else inference_ms,
            total=self.job.capture_ms + (now_ns - self.received_ns) / 1e6,
        )
