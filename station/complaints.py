"""Log what goes wrong again and again without flooding the journal: every fault is counted, few are printed."""

import collections
import logging
import time

SAY_EVERY_S = 10.0
"""A kind of fault is printed at once, then at most this often with the number of times it happened."""


class Complaints:
    """Counts faults by kind and prints each kind at most every `SAY_EVERY_S`. Used from one thread."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said_at_s: dict[str, float] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        """How often each kind has happened since the start."""

    def say(self, kind: str, message: str, *, traceback: bool = False) -> None:
        """Count a fault of `kind`, a fixed word, and print `message` unless this kind was printed just now."""
        self.counts[kind] += 1
        now_s = time.monotonic()
        if now_s - self._said_at_s.get(kind, -SAY_EVERY_S) >= SAY_EVERY_S:
            self._said_at_s[kind] = now_s
            text = "%s (%s: %d so far)"
            self._logger.warning(text, message, kind, self.counts[kind], exc_info=traceback, extra={"cause": kind})
