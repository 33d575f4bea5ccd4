"""The worker's end of the one path from the OPC UA server: a ZeroMQ ROUTER that takes starts of jobs.

In: `orders.Greeting` and `StartJob`; out: what the worker is and does. Implements `Output` for the heartbeat and
`TriggerSource` for the triggers. Runs in the worker's one thread, never waits; what cannot be read is counted and
dropped. When the server is silent, nothing runs continuously any more; nothing else changes for anybody.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import zmq

from station import orders as messages
from station.challenge import Standing
from station.complaints import Complaints
from station.errors import OutputError, QueueError
from station.outputs.plc_orders import CommandCode, CommandGiven, FreeRunning, Order, Refusal, TriggerTaken
from station.outputs.plc_state import Condition
from station.records import Job, TriggerRef, Verdict

MAX_PER_TURN = 16
"""Messages taken in one turn, so that a flood delays no deadline."""
MAX_SERIAL = 44
MAX_MEASUREMENT = 128
LAST_TRIGGER_ID = 65_535

_IPC = "ipc://"
_log = logging.getLogger(__name__)


class OpcuaLink:
    """What the OPC UA server may ask of the worker. `position` gives (epoch, seq) of the newest verdict."""

    name = "opcua"

    def __init__(
        self,
        endpoint: str,
        context: zmq.Context[zmq.Socket[bytes]],
        position: Callable[[], tuple[int, int]],
        *,
        triggered: bool,
        recipe_sha256: str,
        recipes: Mapping[str, int] | None = None,
        config_sha256: str = "",
    ) -> None:
        """`triggered` False: free running; no job is started and no recipe changed through here.

        `recipe_sha256` is in force at first; `recipes`: sha256 -> number of those that may be asked for.
        """
        self._endpoint = endpoint
        self._context = context
        self._position = position
        self._triggered = triggered
        self._recipes = dict(recipes or {})
        self._first_sha256 = self._recipe_sha256 = recipe_sha256
        self._config_sha256 = config_sha256
        self._preparing: int | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._peer = b""
        self._heard_ns = 0
        self._is_ready = False
        self._is_continuous = False
        self._acquisition_id = 0
        self._window_of: int | None = None
        self._orders: list[Order] = []
        self.complaints = Complaints(_log)

    def start(self) -> None:
        """Bind. Raises OutputError if the endpoint cannot be used."""
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES)
        socket.sndhwm = socket.rcvhwm = 100
        try:
            Path(self._endpoint.removeprefix(_IPC)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            socket.bind(self._endpoint)
        except (OSError, zmq.ZMQError) as error:
            socket.close()
            raise OutputError(
                f"The link to the OPC UA server cannot be opened at {self._endpoint}: {error}.",
                "Check that the folder can be written (config.yaml, outputs.opcua.orders_endpoint).",
            ) from error
        self._socket = socket

    @property
    def event_fd(self) -> int:
        """Readable when the server may have said something; -1 while closed."""
        return int(self._socket.getsockopt(zmq.FD)) if self._socket else -1

    def send(self, verdict: Verdict, job: Job) -> None:  # noqa: ARG002 - an output gets both
        """Nothing to show: the server hears of verdicts by the stream. Raises OutputError if the link is not open."""
        if self._socket is None:
            raise OutputError("The link to the OPC UA server is not open.", "Restart the worker; see its log above.")

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002 - the journal knows the last seq
        """Take in what the server said, and notice its silence."""
        self._is_ready = ready
        self._take_in()
        if self._is_continuous and time.monotonic_ns() - self._heard_ns > messages.SILENT_AFTER_S * 1e9:
            self._run_continuously(wanted=False)

    def orders(self) -> list[Order]:
        """Return the triggers taken since the last call, and whether every picture is a job from now on."""
        self._take_in()
        taken, self._orders = self._orders, []
        return taken

    def picture_came(self, acquisition_id: int) -> None:
        """Tell that the picture of this trigger is complete."""
        self._send(messages.PictureCame(epoch=self._position()[0], acquisition_id=acquisition_id))

    def window_closed(self, acquisition_id: int) -> None:
        """Take the next trigger."""
        if acquisition_id == self._window_of:
            self._window_of = None

    def mismatched(self) -> None:
        """Tell that pictures and triggers do not match."""
        self._send(messages.Mismatch())

    def challenged(self, standing: Standing) -> None:
        """Nothing to tell: while no challenge has passed the worker is not ready, and its heartbeat says so."""

    def recipe_is(self, number: int) -> None:
        """Take in which recipe is in force; only the first may have no number."""
        found = (sha256 for sha256, its_number in self._recipes.items() if its_number == number)
        self._recipe_sha256 = next(found, self._first_sha256)

    def condition_is(self, condition: Condition) -> None:
        """Nothing to do: the model has no place for it, and what bars inspections is in `ready` of the heartbeat."""

    def command_done(self, refusal: Refusal | None) -> None:
        """Tell that the recipe was changed, or not."""
        if self._preparing is not None:
            request, self._preparing = self._preparing, None
            self._send(self._status())
            self._send(messages.RecipeDone(request=request, succeeded=refusal is None))

    def go_safe(self) -> None:
        """Say that nothing can be inspected."""
        self._is_ready = False
        self._send(self._status())

    def close(self) -> None:
        """Close the socket. May be called in any state."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _take_in(self) -> None:
        for _ in range(MAX_PER_TURN):
            if self._socket is None:
                return
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = messages.decode(parts[1] if len(parts) == 2 else b"")
            except QueueError as error:
                self.complaints.say("malformed message", str(error))
                continue
            self._peer = parts[0]
            self._answer(message)

    def _answer(self, message: messages.Message) -> None:
        match message:
            case messages.Greeting():
                self._heard_ns = time.monotonic_ns()
                self._run_continuously(wanted=message.is_continuous)
                self._send(self._status())
            case messages.StartJob():
                self._start_job(message)
            case messages.PrepareRecipe():
                self._prepare(message)
            case _:
                self.complaints.say("unexpected message", f"The OPC UA server sent {type(message).__name__}; ignored.")

    def _run_continuously(self, *, wanted: bool) -> None:
        """Begin or end continuous running; not before the window of the last trigger is over."""
        is_now = wanted and self._triggered and self._window_of is None
        if is_now != self._is_continuous:
            self._is_continuous = is_now
            self._orders.append(FreeRunning(is_on=is_now))

    def _start_job(self, order: messages.StartJob) -> None:
        now_ns = time.monotonic_ns()
        if not 0 <= now_ns - order.sent_ns <= messages.FRESH_FOR_NS:
            self.complaints.say("stale order", "A start of a job came too late from the OPC UA server; dropped.")
            return
        if why := self._refusal(order):
            self._send(messages.JobRefused(request=order.request, why=why))
            return
        number = self._acquisition_id = self._acquisition_id + 1
        trigger = TriggerRef(
            trigger_id=(number - 1) % LAST_TRIGGER_ID + 1,
            acquisition_id=number,
            serial=order.serial,
            measurement=order.measurement,
        )
        self._window_of = number
        self._orders.append(TriggerTaken(trigger=trigger, taken_ns=now_ns, window_ms=0))
        self._send(messages.JobTaken(request=order.request, epoch=self._position()[0], acquisition_id=number))

    def _prepare(self, order: messages.PrepareRecipe) -> None:
        """Begin to change the recipe; the one in force is there already."""
        is_there = order.recipe_sha256 == self._recipe_sha256
        is_idle = self._triggered and not self._is_continuous and self._window_of is None and self._preparing is None
        if is_there or not is_idle or order.recipe_sha256 not in self._recipes:
            self._send(messages.RecipeDone(request=order.request, succeeded=is_there))
            return
        self._preparing = order.request
        number = self._recipes[order.recipe_sha256]
        self._orders.append(CommandGiven(code=CommandCode.PREPARE_RECIPE, argument=number))

    def _refusal(self, order: messages.StartJob) -> str:
        """Return why no trigger is taken now; empty: it is."""
        if not self._triggered:
            return "The station runs free: pictures start inspections (outputs.opcua.mode)."
        if not self._is_ready:
            return "The station is not ready."
        if self._is_continuous:
            return "The station runs continuously: stop it first."
        if self._window_of is not None:
            return "The picture window of the job before is not over."
        if len(order.serial) > MAX_SERIAL or not (order.serial.isascii() and order.serial.isprintable()):
            return f"A part id has at most {MAX_SERIAL} printable ASCII characters."
        if len(order.measurement) > MAX_MEASUREMENT:
            return f"A measurement id has at most {MAX_MEASUREMENT} characters."
        return ""

    def _status(self) -> messages.WorkerStatus:
        return messages.WorkerStatus(
            epoch=self._position()[0],
            is_ready=self._is_ready,
            is_continuous=self._is_continuous,
            recipe_sha256=self._recipe_sha256,
            config_sha256=self._config_sha256,
            is_changing=self._preparing is not None,
        )

    def _send(self, message: messages.Message) -> None:
        """Send if it can be done now; a server that is gone or stuck is not waited for."""
        if self._socket is None or not self._peer:
            return
        try:
            self._socket.send_multipart([self._peer, messages.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self.complaints.say("server not reached", f"{type(message).__name__} not delivered: {error}.")
