"""Output to the PLC: a Modbus TCP server with the blocks of `plc_map` and the handshake between them.

Two threads: the worker's tells verdicts and turns of its loop, the server's takes what the PLC writes, so that a
trigger is acknowledged at once. They meet in `plc_exchange`; neither waits for a PLC, and no read can see half of a
verdict. The status block cannot be written from outside. A worker whose loop stands still does not look alive because
its socket still answers: the heartbeat stands still with it.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from station.challenge import Standing
from station.complaints import Complaints
from station.errors import OutputError, OutputLostError
from station.outputs import handshake, plc_map
from station.outputs.handshake_state import Handshake
from station.outputs.modbus_guard import GuardedServer
from station.outputs.plc_exchange import Exchange
from station.outputs.plc_orders import Order, Refusal
from station.outputs.plc_state import Condition
from station.records import Job, Verdict

OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5.0
ANY_UNIT_ID = 0
"""pymodbus: the device that answers for every unit id that is not defined."""
_READ_INPUTS = 4
_READ_CODES = {3, _READ_INPUTS}
_WRITE_CODES = {6, 16, 22, 23}

_log = logging.getLogger(__name__)


class ModbusServerOutput:
    """Exchange triggers, verdicts and heartbeats with a PLC.

    Implements `station.outputs.base.Output` and `TriggerSource`; all calls from the worker's one thread. `allow` are
    addresses or networks that may connect; empty: all.
    """

    name = "modbus_server"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        triggered: bool = False,
        allow: Sequence[str] = (),
        recipe_sha256: str = "",
        recipes: Mapping[str, int] | None = None,
    ) -> None:
        """`recipe_sha256` is in force at first; `recipes`: sha256 -> number of those that the PLC can have."""
        self._host = host
        self._port = port
        self._allow = allow
        self.complaints = Complaints(_log)
        """What peers did wrong, by kind; counted in the server's thread."""
        numbers = dict(recipes or {})
        start = Handshake(triggered=triggered, recipes=numbers, recipe_loaded=numbers.get(recipe_sha256, 0))
        self._exchange = Exchange(start)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    @property
    def event_fd(self) -> int:
        """Readable when `orders` has something new; -1 while closed."""
        return self._exchange.event_fd

    def start(self) -> None:
        """Listen, showing the safe state. Raises OutputError if the address cannot be used."""
        self._check_address()
        self._exchange.open()
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # a line for each bad byte; `complaints` counts them
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="modbus-server", daemon=True)
        self._thread.start()
        try:
            opened.result(OPEN_TIMEOUT_S)
        except (RuntimeError, OSError) as error:
            raise self._cannot_listen(error) from error
        _log.info("Modbus server listens on %s:%d", self._host, self._port)

    def send(self, verdict: Verdict, job: Job) -> None:  # noqa: ARG002 - an output gets the job too
        """Show this verdict. Never blocks. Raises OutputError if no PLC can see it."""
        if self._thread is None or not self._thread.is_alive():
            raise OutputError(
                f"The Modbus server on {self._host}:{self._port} does not run.",
                "Restart the worker; see its log above.",
            )
        self._exchange.judged(verdict)

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002
        """Count one turn of the worker's loop and show whether the station judges. Never blocks.

        Raises OutputLostError when the server has ended by itself: no PLC sees the station.
        """
        if self._thread is not None and not self._thread.is_alive():
            raise OutputLostError(f"The Modbus server on {self._host}:{self._port} has ended.", "See the log above.")
        self._exchange.turn(ready=ready)

    def orders(self) -> list[Order]:
        """Return the triggers taken and the commands given since the last call."""
        return self._exchange.take_orders()

    def picture_came(self, acquisition_id: int) -> None:
        """Show that the picture of this trigger is complete."""
        self._exchange.step(lambda now: handshake.picture_came(now, acquisition_id))

    def window_closed(self, acquisition_id: int) -> None:
        """Take the next trigger, if the PLC wants."""
        self._exchange.step(lambda now: handshake.window_closed(now, acquisition_id))

    def recipe_is(self, number: int) -> None:
        """Show which recipe is in force."""
        self._exchange.step(lambda now: handshake.recipe_is(now, number))

    def mismatched(self) -> None:
        """Show that pictures and triggers do not match."""
        self._exchange.step(handshake.mismatched)

    def condition_is(self, condition: Condition) -> None:
        """Show how the station is."""
        self._exchange.step(lambda now: handshake.condition_is(now, condition))

    def challenged(self, standing: Standing) -> None:
        """Show where the station stands with its challenges."""
        self._exchange.step(lambda now: handshake.challenged(now, standing))

    def command_done(self, refusal: Refusal | None) -> None:
        """Show how the command ended."""
        self._exchange.step(lambda now: handshake.command_done(now, refusal))

    def go_safe(self) -> None:
        """Not online, nothing valid, not OK."""
        self._exchange.step(handshake.safe)

    def close(self) -> None:
        """Show the safe state, end all connections and the server's thread."""
        self.go_safe()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._end(thread)
        self._exchange.close()

    def _end(self, thread: threading.Thread) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            _log.error("the Modbus server did not end within %.0f s", CLOSE_TIMEOUT_S)

    def _run(self, opened: Future[None]) -> None:
        """Thread of the server: serve until shut down."""
        asyncio.run(self._serve(opened))

    async def _serve(self, opened: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        server = GuardedServer(
            _device(self._exchange, self.complaints), (self._host, self._port), self._allow, self.complaints
        )
        try:
            await server.serve_forever(background=True)
        except (RuntimeError, OSError) as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        await self._stop.wait()
        await server.end()

    def _check_address(self) -> None:
        """Bind once by hand: pymodbus keeps the reason of a failure to itself."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            socket.create_server((self._host, self._port), family=family).close()
        except OSError as error:
            raise self._cannot_listen(error) from error

    def _cannot_listen(self, error: Exception) -> OutputError:
        number = error.errno if isinstance(error, OSError) else None
        hints = {
            errno.EADDRINUSE: f"Another program uses the port (`ss -ltnp sport = :{self._port}` says which): end it,"
            " or set another outputs.modbus_server.port.",
            errno.EACCES: "Ports below 1024 need the capability CAP_NET_BIND_SERVICE;"
            " without it set outputs.modbus_server.port to 5020.",
            errno.EADDRNOTAVAIL: "outputs.modbus_server.host must be an address of this machine (`ip address`).",
        }
        why = os.strerror(number) if number in hints else str(error) or type(error).__name__
        return OutputError(
            f"The Modbus server cannot listen on {self._host}:{self._port}: {why}.",
            hints.get(number or 0, "Check outputs.modbus_server.host and outputs.modbus_server.port."),
        )


def _device(exchange: Exchange, complaints: Complaints) -> SimDevice:
    """Return the device: control block and mirror in the holding registers, status in the input registers; no bits."""

    async def on_request(
        code: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Bring the registers up to date before pymodbus reads them; take in a write of the control block."""
        if values is None and code in _READ_CODES | _WRITE_CODES:
            place = 0 if code == _READ_INPUTS else plc_map.MIRROR - start
            registers[place : place + plc_map.WORDS] = exchange.words()
            return None
        if code in _WRITE_CODES and address + count <= plc_map.CONTROL_WORDS and values is not None:
            exchange.write(address, values)
            return None
        complaints.say("refused write", f"Modbus: a write of {count} at {address} (function {code}) was refused.")
        return ExcCodes.ILLEGAL_ADDRESS

    no_bits = [SimData(0, datatype=DataType.BITS)]
    control = SimData(0, count=plc_map.CONTROL_WORDS, datatype=DataType.REGISTERS)
    mirror = SimData(plc_map.MIRROR, count=plc_map.WORDS, datatype=DataType.REGISTERS)  # `on_request` refuses writes
    status = [SimData(0, count=plc_map.WORDS, datatype=DataType.REGISTERS, readonly=True)]
    blocks = (no_bits, list(no_bits), [control, mirror], status)
    return SimDevice(ANY_UNIT_ID, simdata=blocks, action=on_request)
