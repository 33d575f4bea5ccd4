"""What the worker asks of an output. Pure."""

from typing import Protocol

from station.records import Job, Verdict


class Output(Protocol):
    """A place verdicts go to. Called from the worker's one thread; must never block longer than a few ms."""

    name: str

    def start(self) -> None:
        """Open and go to the safe state. Raises OutputError."""

    def send(self, verdict: Verdict, job: Job) -> None:
        """Show this verdict. Called after the journal has it. Raises OutputError."""

    def heartbeat(self, ready: bool, last_seq: int) -> None:
        """Called by the worker's loop at least each second, from the loop that makes verdicts."""

    def go_safe(self) -> None:
        """Not ready, nothing valid, not OK. Must work in every state and never raise."""

    def close(self) -> None:
        """Go safe and free everything. Never raises."""
