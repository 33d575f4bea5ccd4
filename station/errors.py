"""The station's errors. Each says what and where, and carries a hint: what the operator should do. Pure."""

from station.records import Failure, Reason


class StationError(Exception):
    """Base of all errors the station raises on purpose.

    `message` says what happened and where; `hint` says what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigurationError(StationError):
    """config.yaml, a recipe or a manifest is wrong. Holds every problem found, one line each."""

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = problems


class CaptureError(StationError):
    """The picture is not one the station can inspect (unreadable, wrong kind, wrong size); `reason` says why."""

    def __init__(self, reason: Reason, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason

    @property
    def failure(self) -> Failure:
        """The same, as the job carries it to the worker."""
        return Failure(reason=self.reason, detail=str(self))


class RegistrationError(CaptureError):
    """The part was not found, or not where the recipe allows."""


class SpoolError(StationError):
    """The spool or hot folder cannot be used (rights, disk, second station)."""


class QueueError(StationError):
    """A message of the queue is malformed or of another version, or the socket cannot be opened."""


class EngineError(StationError):
    """The model cannot be loaded or did not answer."""


class JournalError(StationError):
    """The journal cannot be opened, is damaged or belongs to another release."""


class OutputError(StationError):
    """An output (PLC, publisher, archive) cannot be opened or written."""


class RestartError(StationError):
    """Nothing is wrong: the service must start anew, because what it read at its start is another now."""


class OutputLostError(OutputError):
    """A part of an output that should run has ended by itself; only a new start of the worker brings it back."""
