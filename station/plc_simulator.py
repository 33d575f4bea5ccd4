"""A PLC for people without one: runs the rules of `plc_rules` against the station's Modbus server, and logs every act.

In: the station's address, how many parts, and what fires the camera. It can misbehave as PLCs do. Each scan reads the
64 words with one request, runs the program once and writes the 32 words with one request. A connection that fails is
made again at the next scan. Single-threaded; the caller paces the scans.
"""

import enum
import random
import time
from collections.abc import Callable
from typing import Self

import msgspec
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from station.outputs import plc_map, plc_rules, plc_words
from station.outputs.plc_control import Control
from station.outputs.plc_rules import Acted, Part, Program, Step

TIMEOUT_S = 0.25
SCAN_S = 0.02
LATE_ACK_MS = 400
SILENT_MS = 3_500
"""Longer than the station waits for the PLC's heartbeat."""


class Misbehaviour(enum.StrEnum):
    """What a PLC program can do wrong."""

    NONE = "none"
    DOUBLE_TRIGGER = "double-trigger"
    NO_ACK = "no-ack"
    LATE_ACK = "late-ack"
    HEARTBEAT_LOST = "heartbeat-lost"
    RESTART = "restart"


class PlcSimulator:
    """One PLC; a context manager. `fire` is called with the part's number for each trigger that the station took."""

    def __init__(
        self,
        host: str,
        port: int,
        program: Program,
        fire: Callable[[int], None] = lambda _part: None,
        misbehaviour: Misbehaviour = Misbehaviour.NONE,
        seed: int = 0,
    ) -> None:
        self._client = ModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=0)
        self._fire = fire
        self.where = f"{host}:{port}"
        self.misbehaviour = misbehaviour
        self.wrongs = 0
        """How often it did something wrong: times, not scans."""
        self._is_wrong = False
        self._restarted_at = -1
        self.written = program.control
        """The control block of the last scan, as it was written."""
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
        self._first = program
        self._ack_ms: int | None = None
        self._silent_until_ms = 0
        self.program = program
        self.words: list[int] | None = None
        """What the last scan read; None: it could not."""
        self.acts: list[Acted] = []
        self.scans = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def scan(self, part: Part | None) -> Acted | None:
        """Scan once; return what was done with the part in place, if it was decided."""
        now_ms = time.monotonic_ns() // 1_000_000
        self.scans += 1
        self.words = self._read()
        if self._restarts_now():
            self.wrongs += 1
            self.program = msgspec.structs.replace(self._first, last_trigger_id=self.program.last_trigger_id)
        before = self.program.step
        self.program, acted = plc_rules.scan(self.program, self.words, part, now_ms)
        self.written = self._as_written(self.program.control, now_ms)
        is_wrong = self.written != self.program.control
        self.wrongs += is_wrong and not self._is_wrong
        self._is_wrong = is_wrong
        self._write(self.written)
        if before is Step.TRIGGER and self.program.step is Step.RESULT:
            self._fire(self.program.control.trigger_id)
        if acted:
            self.acts.append(acted)
        return acted

    def inspect(self, part: Part, limit_s: float = 60) -> Acted | None:
        """Scan until the part is decided; None if it is not within the limit."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            acted = self.scan(part)
            if acted:
                return acted
            time.sleep(SCAN_S)
        return None

    def shown(self) -> dict[str, int]:
        """Return the status block of the last scan; empty if it could not be read."""
        return plc_words.decode(self.words) if self.words else {}

    def _restarts_now(self) -> bool:
        """Return True once for each part, at any moment of it."""
        if self.misbehaviour is not Misbehaviour.RESTART or self._restarted_at == len(self.acts):
            return False
        restarts = self._random.random() < 0.05
        if restarts:
            self._restarted_at = len(self.acts)
        return restarts

    def _as_written(self, control: Control, now_ms: int) -> Control:
        """Return what this PLC writes, with what it does wrong."""
        match self.misbehaviour:
            case Misbehaviour.DOUBLE_TRIGGER if self.program.step is Step.RESULT and self.scans % 3 == 0:
                return msgspec.structs.replace(control, trigger=True, trigger_id=control.trigger_id % 0xFFFF + 1)
            case Misbehaviour.NO_ACK:
                return msgspec.structs.replace(control, results_ack=False)
            case Misbehaviour.LATE_ACK:
                return self._late_ack(control, now_ms)
            case Misbehaviour.HEARTBEAT_LOST:
                return self._silent(control, now_ms)
        return control

    def _late_ack(self, control: Control, now_ms: int) -> Control:
        if not control.results_ack:
            self._ack_ms = None
            return control
        self._ack_ms = self._ack_ms or now_ms
        return control if now_ms - self._ack_ms > LATE_ACK_MS else msgspec.structs.replace(control, results_ack=False)

    def _silent(self, control: Control, now_ms: int) -> Control:
        if now_ms > self._silent_until_ms and self._random.random() < 0.002:
            self._silent_until_ms = now_ms + SILENT_MS
        return control if now_ms > self._silent_until_ms else msgspec.structs.replace(control, plc_heartbeat=0xFFFF)

    def _read(self) -> list[int] | None:
        try:
            if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                return None
            reply = self._client.read_input_registers(0, count=plc_map.WORDS)
        except (ModbusException, OSError):  # a reset comes through pymodbus as it is
            self._client.close()  # type: ignore[no-untyped-call]
            return None
        return None if reply.isError() else list(reply.registers)

    def _write(self, control: Control) -> None:
        if not self._client.connected:
            return
        try:
            self._client.write_registers(0, plc_words.encode_control(control))
        except (ModbusException, OSError):  # a reset comes through pymodbus as it is
            self._client.close()  # type: ignore[no-untyped-call]
