"""Follows the verdict stream in a thread of its own, as every subscriber does: each verdict once, in order.

In: how to subscribe. Out: verdicts, given to `deliver` in this thread. What was judged before the start is left out;
what the stream skips comes from the snapshot socket. When that does not answer it is tried again.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from station.complaints import Complaints
from station.errors import OutputError
from station.records import Verdict
from station.watch import Position, Watch

TURN_S = 0.5
"""How long one look at the stream takes; then it is seen whether to end."""

logger = logging.getLogger(__name__)

Subscribe = Callable[[Position | None, float], AbstractContextManager[Watch]]
"""Since when, and how long one iteration lasts -> a subscription."""


class VerdictStream:
    """Runs between `start` and `close`."""

    def __init__(self, subscribe: Subscribe, deliver: Callable[[Verdict], None]) -> None:
        self._subscribe = subscribe
        self._deliver = deliver
        self._last: Position | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verdict-stream", daemon=True)
        self.complaints = Complaints(logger)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except OutputError as error:
                self.complaints.say("stream", f"The verdict stream cannot be followed, tried again: {error}")
                self._stop.wait(TURN_S)

    def _follow(self) -> None:
        with self._subscribe(self._last, TURN_S) as stream:
            while not self._stop.is_set():
                for event in stream:
                    if isinstance(event, Verdict):
                        self._last = (event.epoch, event.seq)
                        self._deliver(event)
