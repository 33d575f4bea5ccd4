"""Keeps the log readable while something fails for hours: of one cause at most `MESSAGES_A_MINUTE` go through.

A filter of the process's log handler, so that it holds for libraries too. A cause is a logger and its message without
numbers, or what `Complaints` names. The next message after a minute says how many were held back; what others count is
not touched. Used from any thread. Pure apart from the clock.
"""

import logging
import re
import threading
import time
from dataclasses import dataclass

MESSAGES_A_MINUTE = 10
MINUTE_S = 60.0
MAX_CAUSES = 1000
"""Causes remembered; a library that makes up ever new messages must not fill the memory."""

_NUMBER = re.compile(r"\d+")


@dataclass
class _Minute:
    """What one cause has said since `began_s`."""

    began_s: float
    passed: int = 0
    held: int = 0


class LogLimit(logging.Filter):
    """Let the first messages of each cause and minute through."""

    def __init__(self) -> None:
        super().__init__()
        self._minutes: dict[tuple[str, str], _Minute] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message may go through; adds how many of its kind were held back before."""
        cause = (record.name, getattr(record, "cause", "") or _NUMBER.sub("#", str(record.msg)))
        with self._lock:
            minute, held = self._minute_of(cause, time.monotonic())
            if minute.passed >= MESSAGES_A_MINUTE:
                minute.held += 1
                return False
            minute.passed += 1
        if held:
            record.msg, record.args = f"{record.getMessage()} (before it {held} more like it were held back)", ()
        return True

    def _minute_of(self, cause: tuple[str, str], now_s: float) -> tuple[_Minute, int]:
        """Return the running minute of a cause, and how many messages the one before held back if that just ended."""
        minute = self._minutes.get(cause)
        if minute and now_s - minute.began_s < MINUTE_S:
            return minute, 0
        if len(self._minutes) >= MAX_CAUSES:
            self._minutes = {one: it for one, it in self._minutes.items() if now_s - it.began_s < MINUTE_S}
        if len(self._minutes) >= MAX_CAUSES:
            self._minutes.clear()
        self._minutes[cause] = _Minute(now_s)
        return self._minutes[cause], minute.held if minute else 0
