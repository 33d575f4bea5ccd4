"""What the worker asks of an output, and of the one that gives it triggers. Pure."""

from typing import Protocol

from station.challenge import Standing
from station.outputs.plc_orders import Order, Refusal
from station.outputs.plc_state import Condition
from station.records import Job, Verdict


class Output(Protocol):
    """A place verdicts go to. Called from the worker's one thread; must never block longer than a few ms."""

    name: str

    def start(self) -> None:
        """Open and go to the safe state. Raises OutputError."""

    def send(self, verdict: Verdict, job: Job) -> None:
        """Show this verdict. Called after the journal has it. Raises OutputError."""

    def heartbeat(self, ready: bool, last_seq: int) -> None:
        """Called by the worker's loop at least each second, from the loop that makes verdicts.

        Raises OutputLostError when only a new start of the worker helps.
        """

    def go_safe(self) -> None:
        """Not ready, nothing valid, not OK. Must work in every state and never raise."""

    def close(self) -> None:
        """Go safe and free everything. Never raises."""


class TriggerSource(Protocol):
    """The PLC's triggers and commands. Called from the worker's one thread; never blocks."""

    @property
    def event_fd(self) -> int:
        """Readable when `orders` has something new."""

    def orders(self) -> list[Order]:
        """Return the triggers taken and the commands given since the last call."""

    def picture_came(self, acquisition_id: int) -> None:
        """Tell the PLC that the picture of this trigger is complete: the part may leave."""

    def window_closed(self, acquisition_id: int) -> None:
        """Tell that no more picture of this trigger is expected: the next may be taken."""

    def mismatched(self) -> None:
        """Tell the PLC that pictures and triggers do not match."""

    def recipe_is(self, number: int) -> None:
        """Tell the PLC which recipe the worker has now; 0: one without a number."""

    def condition_is(self, condition: Condition) -> None:
        """Tell the PLC how the station is; in each beat of the worker."""

    def challenged(self, standing: Standing) -> None:
        """Tell the PLC where the station stands with its challenges."""

    def command_done(self, refusal: Refusal | None) -> None:
        """Tell the PLC how its command ended; None: carried out."""
