"""What the worker and the PLC have in common: the handshake and the 64 words it shows, behind one lock.

The worker's thread and the server's both step the pure `handshake`, microseconds long each, and neither waits for a
PLC. What changes with time alone is put in when the words are read: the heartbeat, which goes on only while the
worker's loop turns, and the age of the result. A loop that stands still for `STUCK_AFTER_S` shows as the safe state.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from station.outputs import handshake, plc_map, plc_words
from station.outputs.handshake_state import Handshake
from station.outputs.plc_orders import Order
from station.outputs.plc_state import FaultCode, heartbeat_at
from station.records import Verdict

STUCK_AFTER_S = 3.0
"""Without a turn of the worker's loop for so long the registers show the safe state."""
KEPT_TIMES = 64
"""Verdicts whose time is kept: more than a PLC can have under way, shown and waiting."""


class Exchange:
    """The state of one PLC link. Every method may be called from either thread."""

    def __init__(self, start: Handshake) -> None:
        self.event_fd = -1
        """Readable when there are orders; -1 while closed."""
        self._lock = threading.Lock()
        self._handshake = start
        self._control = [0] * plc_map.CONTROL_WORDS
        self._orders: list[Order] = []
        self._started_ns = self._turned_ns = time.monotonic_ns()
        self._judged: deque[tuple[int, int]] = deque(maxlen=KEPT_TIMES)  # (seq, time.monotonic_ns())
        self._shown = (start, plc_words.encode(handshake.view(start)))

    def open(self) -> None:
        """Make the descriptor that tells of orders."""
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        with self._lock:
            if self.event_fd >= 0:
                os.close(self.event_fd)
            self.event_fd = -1

    def step(self, change: Callable[[Handshake], Handshake]) -> None:
        """Make one step for the worker; the words hold it when this returns."""
        with self._lock:
            self._show(change(self._handshake))

    def judged(self, verdict: Verdict) -> None:
        """Take in a verdict; the words hold it, or what follows from it, when this returns."""
        self._judged.append((verdict.seq, time.monotonic_ns()))
        self.step(lambda now: handshake.judged(now, verdict))

    def turn(self, *, ready: bool) -> None:
        """Take in a turn of the worker's loop; what was withdrawn because it came late does not come back."""
        with self._lock:
            now_ns = time.monotonic_ns()
            before = self._not_stuck(now_ns)
            self._turned_ns = now_ns
            self._show(handshake.beaten(before, ready=ready, now_ns=now_ns))

    def take_orders(self) -> list[Order]:
        """Return what the PLC ordered since the last call."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.event_fd)
            orders, self._orders = self._orders, []
        return orders

    def words(self) -> list[int]:
        """Return the 64 words that hold now. Never waits for the lock."""
        now_ns = time.monotonic_ns()
        shown, words = self._shown
        if self._is_stuck(now_ns):
            words = plc_words.encode(handshake.view(handshake.safe(shown, FaultCode.WORKER_STUCK)))
        beat = heartbeat_at(self._started_ns, self._turned_ns, now_ns)
        return plc_words.with_time(words, beat, self._age_ms(shown, now_ns))

    def _age_ms(self, shown: Handshake, now_ns: int) -> int:
        """Return how old the result shown is; 0 without one."""
        seq = shown.state.result.seq if shown.state.result else None
        return next(((now_ns - judged_ns) // 1_000_000 for of, judged_ns in self._judged.copy() if of == seq), 0)

    def write(self, address: int, values: Sequence[int]) -> None:
        """Take in what the PLC wrote into the control block."""
        with self._lock:
            now_ns = time.monotonic_ns()
            before = self._not_stuck(now_ns)
            self._control[address : address + len(values)] = values
            after, orders = handshake.written(before, plc_words.decode_control(self._control), now_ns)
            self._show(after)
            self._orders += orders
            if orders and self.event_fd >= 0:
                os.eventfd_write(self.event_fd, 1)

    def _is_stuck(self, now_ns: int) -> bool:
        return now_ns - self._turned_ns > STUCK_AFTER_S * 1e9

    def _not_stuck(self, now_ns: int) -> Handshake:
        return handshake.safe(self._handshake) if self._is_stuck(now_ns) else self._handshake

    def _show(self, after: Handshake) -> None:
        """Make `after` what holds. A PLC writes the same again in each scan: then there is nothing new to encode."""
        if after != self._handshake:
            self._handshake = after
            self._shown = (after, plc_words.encode(handshake.view(after)))
