"""Output to the PLC: a Modbus TCP server that shows the status block of `plc_map`. The only home of pymodbus.

The worker's thread makes the 64 words and swaps them in with one assignment; the server's own thread copies them into
the registers as a whole when a request comes. So the worker never waits for a PLC, and no read can see half of a
verdict. Nothing can be written from outside. If the worker's loop stops calling `heartbeat`, the server shows the safe
state by itself after `STUCK_AFTER_S`: a dead worker must not look alive because its socket still answers.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
import time
from concurrent.futures import Future

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from station.errors import OutputError
from station.outputs import plc_map, plc_state
from station.outputs.plc_state import FaultCode, PlcState
from station.records import Job, Verdict

STUCK_AFTER_S = 3.0
"""Without a heartbeat for so long the registers show the safe state: three beats."""
OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5.0
ANY_UNIT_ID = 0
"""pymodbus: the device that answers for every unit id that is not defined."""
_READ_CODES = {3, 4}

_log = logging.getLogger(__name__)


class _Block:
    """The words shown now. Written by the worker's thread, read by the server's; each access is one reference."""

    def __init__(self) -> None:
        self._shown: tuple[list[int], list[int], int] = ([0] * plc_map.WORDS, [0] * plc_map.WORDS, 0)

    def show(self, state: PlcState, beat_ns: int) -> None:
        """Show `state`; `beat_ns` is the monotonic time of the last heartbeat."""
        stuck = plc_state.safe(state, FaultCode.WORKER_STUCK)
        self._shown = (plc_map.encode(state), plc_map.encode(stuck), beat_ns)

    def words(self) -> list[int]:
        """Return the 64 words that hold now."""
        shown, stuck, beat_ns = self._shown
        return stuck if time.monotonic_ns() - beat_ns > STUCK_AFTER_S * 1e9 else shown

    async def on_request(
        self, code: int, _start: int, _address: int, _count: int, registers: list[int], values: object
    ) -> ExcCodes | None:
        """Bring the registers up to date before pymodbus reads them. Refuses all but reading registers."""
        if values is not None or code not in _READ_CODES:
            return ExcCodes.ILLEGAL_FUNCTION
        registers[: plc_map.WORDS] = self.words()
        return None


class ModbusServerOutput:
    """Show verdicts to a PLC. Implements `station.outputs.base.Output`; all calls from the worker's one thread."""

    name = "modbus_server"

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._state = PlcState()
        self._beat_ns = 0
        self._block = _Block()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Listen, showing the safe state. Raises OutputError if the address cannot be used."""
        self._check_address()
        self._beat_ns = time.monotonic_ns()
        self._show(PlcState())
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
        self._show(plc_state.after_verdict(self._state, verdict))

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002
        """Count one turn of the worker's loop and show whether the station judges. Never blocks."""
        self._beat_ns = time.monotonic_ns()
        self._show(plc_state.after_heartbeat(self._state, ready=ready))

    def go_safe(self) -> None:
        """Not online, nothing valid, not OK."""
        self._show(plc_state.safe(self._state))

    def close(self) -> None:
        """Show the safe state, end all connections and the server's thread."""
        self.go_safe()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            _log.error("the Modbus server did not end within %.0f s", CLOSE_TIMEOUT_S)

    def _show(self, state: PlcState) -> None:
        self._state = state
        self._block.show(state, self._beat_ns)

    def _run(self, opened: Future[None]) -> None:
        """Thread of the server: serve until shut down."""
        asyncio.run(self._serve(opened))

    async def _serve(self, opened: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        server = ModbusTcpServer(_device(self._block), address=(self._host, self._port))
        try:
            await server.serve_forever(background=True)
        except (RuntimeError, OSError) as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        await self._stop.wait()
        await server.shutdown()  # type: ignore[no-untyped-call] # pymodbus left out the annotation

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


def _device(block: _Block) -> SimDevice:
    """Return the device: input registers 0.. and their mirror in the holding registers; no coils, no inputs."""
    no_bits = [SimData(0, datatype=DataType.BITS)]
    mirror = [SimData(plc_map.MIRROR, count=plc_map.WORDS, datatype=DataType.REGISTERS, readonly=True)]
    status = [SimData(0, count=plc_map.WORDS, datatype=DataType.REGISTERS, readonly=True)]
    return SimDevice(ANY_UNIT_ID, simdata=(no_bits, list(no_bits), mirror, status), action=block.on_request)
