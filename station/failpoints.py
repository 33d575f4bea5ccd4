"""Places where a test ends the process as kill -9 would. Off, a place costs one comparison.

`STATION_FAILPOINT=<point>:<n>:<file>`, read at import, ends the process when it comes to `point` the n-th time. It
makes `file` first and does nothing if that is there: a point fires once, whatever is started again, and the test sees
that it did. Nothing is flushed or closed. Pure apart from that end.
"""

import os
import signal
from pathlib import Path

VARIABLE = "STATION_FAILPOINT"
POINTS = {
    "capture": (
        "capture-started",
        "claim-synced",
        "claim-folder-made",
        "claim-renamed",
        "claim-durable",
        "prepare-marked",
        "prepare-done",
        "job-sending",
        "job-sent",
        "ack-taken",
        "release-started",
        "release-moved",
        "release-done",
    ),
    "worker": (
        "epoch-begun",
        "job-taken",
        "job-asked",
        "answer-taken",
        "verdict-begun",
        "verdict-inserted",
        "verdict-durable",
        "output-sent",
        "outputs-sent",
        "ack-sent",
        "archive-writing",
        "archive-written",
    ),
    "engine": ("engine-loaded", "engine-asked", "engine-answered"),
}
"""Every point, by the process that comes to it, in the order of one picture."""


class _Armed:
    """Counts the visits to one point."""

    def __init__(self, text: str) -> None:
        self._point, number, proof = text.split(":", 2)
        self._left = int(number)
        self._proof = Path(proof)

    def hit(self, point: str) -> None:
        """End the process if this is the visit to end at."""
        self._left -= point == self._point
        if self._left == 0 and point == self._point:
            try:
                self._proof.touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


_armed: _Armed | None = None


def arm(text: str) -> None:
    """Set the point to end at, in the form of the variable; empty: none."""
    global _armed  # noqa: PLW0603  one for the process, as the environment is
    _armed = _Armed(text) if text else None


def hit(point: str) -> None:
    """Say that the process has come to `point`, one of `POINTS`."""
    if _armed is not None:
        _armed.hit(point)


arm(os.environ.get(VARIABLE, ""))
