"""Says how far a stage is: a line that renews itself on a terminal, a plain line now and then elsewhere. To stderr."""

import sys
import time
from threading import Lock

_GIB = 2**30


class Progress:
    """Progress of one stage over `total` bytes. Used from several threads."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total, self.done = stage, max(1, total), 0
        self.is_terminal = sys.stderr.isatty()
        self.started = self.last = time.monotonic()
        self.lock = Lock()

    def add(self, count: int) -> None:
        """Count bytes as done."""
        with self.lock:
            self.at(self.done + count)

    def at(self, done: int) -> None:
        """Say that so many bytes are done."""
        self.done, now = done, time.monotonic()
        if now - self.last >= (0.2 if self.is_terminal else 10):
            self.last = now
            self._say(self._left(now))

    def end(self) -> None:
        """Say that the stage is done."""
        self._say(f"{time.monotonic() - self.started:.0f} s")
        if self.is_terminal:
            print(file=sys.stderr)

    def _left(self, now: float) -> str:
        left = (now - self.started) * (self.total - self.done) / max(1, self.done)
        return f"{left // 60:.0f} min {left % 60:02.0f} s left"

    def _say(self, tail: str) -> None:
        share = min(1.0, self.done / self.total)
        bar = "#" * round(20 * share)
        line = f"{self.stage:9} [{bar:20}] {self.done / _GIB:.2f} of {self.total / _GIB:.2f} GiB, {tail}"
        print(f"\r{line:78}" if self.is_terminal else line, end="" if self.is_terminal else "\n", file=sys.stderr)
        sys.stderr.flush()


def say(stage: str, text: str) -> None:
    """Say what a stage found."""
    print(f"{stage:9} {text}", file=sys.stderr, flush=True)
