"""Hands every verdict and heartbeat to all outputs, in order. One that fails is counted and logged; others go on.

One that is lost for good ends the worker: systemd starts it again with all outputs.
"""

import logging
from collections.abc import Callable, Sequence

from station import failpoints
from station.complaints import Complaints
from station.errors import OutputError, OutputLostError
from station.outputs.base import Output
from station.records import Job, Verdict


class Fanout:
    """All outputs of the worker as one. Used from one thread."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self.complaints = Complaints(logging.getLogger(__name__))
        """Counts the failures of each output by its name."""

    def start(self) -> None:
        """Open every output in its safe state. Raises OutputError: a station starts with all its outputs or not."""
        for output in self._outputs:
            output.start()

    def send(self, verdict: Verdict, job: Job) -> None:
        """Show a verdict that the journal has. Never raises."""
        self._each(lambda output: _sent(output, verdict, job), f"Verdict {verdict.epoch}:{verdict.seq}")

    def heartbeat(self, *, ready: bool, last_seq: int) -> None:
        """Show that the worker's loop runs. Raises OutputLostError: the worker must be started again."""
        self._each(lambda output: output.heartbeat(ready, last_seq), "Heartbeat")

    def close(self) -> None:
        """Make every output safe, then free them all. Never raises."""
        self._each(lambda output: output.go_safe(), "Safe state")
        self._each(lambda output: output.close(), "End")

    def _each(self, act: Callable[[Output], None], what: str) -> None:
        for output in self._outputs:
            try:
                act(output)
            except OutputLostError:
                raise
            except OutputError as error:
                self.complaints.say(output.name, f"{what} not shown by {output.name}: {error}")
            except Exception:  # noqa: BLE001 - outermost guard: a fault in one output must not stop the others
                self.complaints.say(output.name, f"{what} not shown by {output.name}: unexpected error", traceback=True)


def _sent(output: Output, verdict: Verdict, job: Job) -> None:
    output.send(verdict, job)
    failpoints.hit("output-sent")
