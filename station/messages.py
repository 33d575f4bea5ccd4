"""Every message between capture and worker, versioned. Pure.

Capture is a DEALER that connects, the worker a ROUTER that binds. Capture says `Hello`; the worker grants `Credit`, or
gives a `Refusal` if it is of another station or configuration. Capture sends at most that many `Job`s without an `Ack`;
each `Ack` gives one credit back. Sending is at least once, judging is idempotent by job id. A `Credit` with another
session means: the worker restarted, send all again. A job that was sent to an earlier session is dropped by the worker,
since those before it may be lost: it comes again in its turn.
"""

from station.challenge import ChallengeRun
from station.envelope import Envelope
from station.records import IN_QUARANTINE, Failure, Job, Reason, Record

VERSION = 7
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Identity(Record):
    """Which station, and by which settings it runs; the same in capture and worker."""

    station: str
    config_sha256: str
    """Of the bytes of config.yaml, hex."""

    @property
    def text(self) -> str:
        """For people."""
        return f"station {self.station}, configuration {self.config_sha256[:12]}"


class Hello(Record, tag="hello"):
    """Capture -> worker at start, then every second: I am here. Asks for credit when none was ever granted."""

    identity: Identity
    recipe: str
    recipe_sha256: str
    hot_folder_problem: str = ""
    """Why no picture would be seen now; empty: the folder is there."""


class Refusal(Record, tag="refusal"):
    """Worker -> capture, answer to a Hello of another station or configuration: nothing else of it is taken."""

    identity: Identity
    """Of the worker."""


class Credit(Record, tag="credit"):
    """Worker -> capture, answer to every Hello: session of this worker start, and how many jobs may be unacked."""

    session: str
    jobs: int
    recipe_sha256: str = ""
    """The recipe in force: capture follows, and says so with a Hello. Empty: the one that capture has."""


class Sighting(Record, tag="sighting"):
    """Capture -> worker at each claim, before the job is made and without credit: this picture is here."""

    job_id: str
    sha256: str
    """Of the whole file, hex."""
    captured_ns: int | None
    """As `Job.captured_ns`."""


class JobMessage(Record, tag="job"):
    """Capture -> worker: inspect this."""

    session: str
    """Of the `Credit` that it is sent on."""
    job: Job


class Ack(Record, tag="ack"):
    """Worker -> capture: the journal holds the verdict of this job; the picture may leave the spool."""

    job_id: str
    unreadable: Failure | None
    """Why the picture goes to the quarantine, by its verdict, whatever capture thinks now; None: to the archive."""


class PutSample(Record, tag="put-sample"):
    """Worker -> capture: put this challenge sample into the hot folder."""

    sha256: str


class ChallengeNow(Record, tag="challenge-now"):
    """`station challenge` -> worker: begin a challenge; `ChallengeDone` follows."""


class ChallengeDone(Record, tag="challenge-done"):
    """Worker -> `station challenge`: it is over."""

    run: ChallengeRun | None
    """None: the engine has no model, so there is nothing to challenge."""


Message = Hello | Refusal | Credit | Sighting | JobMessage | Ack | PutSample | ChallengeNow | ChallengeDone

_ENVELOPE: Envelope[Message] = Envelope(
    Message, VERSION, "in the queue", "Capture and worker must be of the same release: restart both."
)
encode, decode = _ENVELOPE.encode, _ENVELOPE.decode


def ack(job_id: str, reason: Reason, detail: str) -> Ack:
    """Return the ack of a job whose verdict has this reason."""
    return Ack(job_id=job_id, unreadable=Failure(reason=reason, detail=detail) if reason in IN_QUARANTINE else None)
