"""Output to a PLC, or to a remote I/O coupler, that is a Modbus TCP server: the station writes, as a client.

A thread of its own does all of it, so that a PLC that does not answer delays nothing else: `send` and `heartbeat` only
leave what is to be said. Every `CYCLE_S`, and at once on a verdict, it writes the whole state again; no retries, short
time-outs, writes that may come twice. What got too old while the line was down is LATE, never a pass. A worker whose
loop stops is seen by a heartbeat that stands still. A coupler gets one coil, on only while a pass holds; its own
watchdog is armed and read back first, and without that the station is not ready.
"""

import contextlib
import logging
import threading
import time
from dataclasses import dataclass

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from station.complaints import Complaints
from station.errors import OutputError, OutputLostError
from station.outputs import plc_client_block
from station.outputs.plc_client_block import Report, StatusBit
from station.outputs.plc_state import is_pass
from station.records import Job, Verdict

CYCLE_S = 0.2
TIMEOUT_S = 0.25
RECONNECT_S = 0.5
STUCK_AFTER_NS = 600_000_000
"""Without a heartbeat of the worker for so long nothing is a pass: three cycles."""
LOOK_AGAIN_S = 5.0
"""The coupler's watchdog is read again so often: it may have been set back."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where to write. Registers and coils are addresses from 0."""

    host: str
    port: int
    unit_id: int
    is_coupler: bool
    register: int
    """First of the 16; for a coupler the coil that is on for a pass."""
    valid_for_ms: int
    watchdog_register: int = 0
    watchdog_value: int = 0


class ModbusClientOutput:
    """Tell a PLC or coupler. Implements `station.outputs.base.Output`; its calls come from the worker's one thread."""

    name = "modbus_client"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._verdict: Verdict | None = None
        self._verdict_ns = 0
        self._beat = 0
        self._beat_ns = 0
        self._is_ready = False
        self._armed_s: float | None = None
        self.complaints = Complaints(_log)
        """`away`: cycles in which the target did not take what was written; counted in the thread."""

    @property
    def is_armed(self) -> bool:
        """True when nothing stays on should the station die: a PLC has rules of its own, a coupler its watchdog."""
        return not self._target.is_coupler or self._armed_s is not None

    def start(self) -> None:
        """Start the thread; the target need not be there."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="modbus-client", daemon=True)
        self._thread.start()

    def send(self, verdict: Verdict, job: Job) -> None:  # noqa: ARG002 - an output gets the job too
        """Leave the verdict for the thread. Raises OutputError if there is none."""
        if self._thread is None or not self._thread.is_alive():
            raise OutputError("The Modbus client does not run.", "Restart the worker; see its log above.")
        with self._lock:
            self._verdict, self._verdict_ns = verdict, time.monotonic_ns()
        self._wake.set()

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002
        """Count one turn of the worker's loop. Raises OutputLostError when the client's thread has ended by itself."""
        if self._thread is not None and not self._thread.is_alive():
            raise OutputLostError("The Modbus client has ended.", "See the log above.")
        with self._lock:
            self._beat = self._beat % 0xFFFF + 1
            self._beat_ns = time.monotonic_ns()
            self._is_ready = ready

    def go_safe(self) -> None:
        """Not ready, no verdict."""
        with self._lock:
            self._verdict, self._is_ready = None, False
        self._wake.set()

    def close(self) -> None:
        """Write the safe state once more if that can be done soon, and end the thread."""
        self.go_safe()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            self._wake.set()
            thread.join(4 * TIMEOUT_S + RECONNECT_S)

    def _run(self) -> None:
        target = self._target
        client = ModbusTcpClient(target.host, port=target.port, timeout=TIMEOUT_S, retries=0)
        while True:
            stopping = self._stop.is_set()
            self._wake.clear()
            rest_s = CYCLE_S if self._cycle(client) else RECONNECT_S
            if stopping:
                break
            self._wake.wait(rest_s)
        client.close()  # type: ignore[no-untyped-call]

    def _cycle(self, client: ModbusTcpClient) -> bool:
        """Write everything once. Return True if the target took it."""
        try:
            _connect(client)
            if self._target.is_coupler:
                self._arm(client)
                _checked(client.write_coil(self._target.register, self._passes(), device_id=self._target.unit_id))
            else:
                words = plc_client_block.encode(self._report())
                _checked(client.write_registers(self._target.register, words, device_id=self._target.unit_id))
        except (ModbusException, OSError) as error:
            self._armed_s = None
            with contextlib.suppress(OSError):
                client.close()  # type: ignore[no-untyped-call]
            where = f"{self._target.host}:{self._target.port}"
            self.complaints.say("away", f"The PLC at {where} took nothing: {error}. It will be tried again.")
            return False
        return True

    def _arm(self, client: ModbusTcpClient) -> None:
        """Set the coupler's watchdog and read it back. Raises ModbusException: then no coil is written."""
        now_s = time.monotonic()
        if self._armed_s is not None and now_s - self._armed_s < LOOK_AGAIN_S:
            return
        register, value, unit_id = self._target.watchdog_register, self._target.watchdog_value, self._target.unit_id
        with contextlib.suppress(ModbusException):  # some refuse to set it while it runs: what counts is what it is
            client.write_register(register, value, device_id=unit_id)
        found = _checked(client.read_holding_registers(register, count=1, device_id=unit_id)).registers[0]
        if found != value:
            raise ModbusException(f"its watchdog (register {register}) is {found}, not {value}: it is not armed")
        self._armed_s = now_s

    def _report(self) -> Report:
        with self._lock:
            now_ns = time.monotonic_ns()
            is_ready = self._is_ready and not self._is_stuck(now_ns)
            verdict = self._verdict
            status = StatusBit.READY if is_ready else StatusBit.FAULT
            if verdict and verdict.is_simulated:
                status |= StatusBit.SIMULATED
            age_ms = (now_ns - self._verdict_ns) // 1_000_000
            valid_for_ms = self._target.valid_for_ms
            return Report(
                heartbeat=self._beat, status=status, verdict=verdict, age_ms=age_ms, valid_for_ms=valid_for_ms
            )

    def _passes(self) -> bool:
        """Return True while the coil may be on."""
        report = self._report()
        verdict = report.verdict
        fresh = report.age_ms <= report.valid_for_ms
        is_real = StatusBit.SIMULATED not in report.status
        return verdict is not None and is_pass(verdict) and fresh and is_real and StatusBit.READY in report.status

    def _is_stuck(self, now_ns: int) -> bool:
        return now_ns - self._beat_ns > STUCK_AFTER_NS


def _connect(client: ModbusTcpClient) -> None:
    if not client.connected and not client.connect():  # type: ignore[no-untyped-call]
        raise ModbusException("it cannot be reached")


def _checked(reply: ModbusPDU) -> ModbusPDU:
    """Return the reply; an exception response is a return value in pymodbus. Raises ModbusException."""
    if reply.isError():
        raise ModbusException(f"it answered {reply}")
    return reply
