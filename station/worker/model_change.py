"""The PLC's commands 8 and 9: another release is made the active one while the loop goes on turning.

Both files of a release are hashed for it, which takes seconds, so it runs in a thread of its own; `turn` tells how it
ended. What is active changes in config.yaml only, so the worker must start anew to load it: `turn` asks for that by
RestartError, after the PLC has had time to see that its command was carried out.
"""

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from station.errors import RestartError
from station.outputs.plc_orders import CommandCode, Refusal

SEEN_AFTER_NS = 1_000_000_000
"""How long CommandCompleted is shown before the restart: some scans of a slow PLC."""

Way = Callable[[], Refusal | None]
"""Makes another release active; returns why not, None when it is."""


class Ended(NamedTuple):
    """How a change ended."""

    refusal: Refusal | None
    """None: another release is active, the worker starts anew soon."""


class ModelChange:
    """One change at a time. `ways`: what each command does. Used from the worker's one thread."""

    def __init__(self, ways: Mapping[CommandCode, Way]) -> None:
        self._ways = ways
        self._thread: threading.Thread | None = None
        self._ended: list[Refusal | None] = []
        self._restart_ns: int | None = None

    def begin(self, code: CommandCode) -> None:
        """Begin one; the handshake lets no second one come before it has ended."""
        self._thread = threading.Thread(target=self._run, args=(self._ways[code],), name="model-change", daemon=True)
        self._thread.start()

    def turn(self, now_ns: int) -> Ended | None:
        """Return how the change ended, once; None: nothing to tell. Raises RestartError when it is time to."""
        if self._restart_ns is not None and now_ns >= self._restart_ns:
            raise RestartError("Another model is active: the worker starts anew to load it.")
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        refusal = self._ended.pop() if self._ended else Refusal.CHANGE_FAILED
        if refusal is None:
            self._restart_ns = now_ns + SEEN_AFTER_NS
        return Ended(refusal)

    def _run(self, way: Way) -> None:
        self._ended.append(way())
