"""Capture and worker as two child processes that live and end together. Used by `station run` and `station demo`.

In: the path of config.yaml. Out: an exit code. Each child is `station capture` or `station worker`, just as systemd
would start it. When one ends, for whatever reason, the other is ended too: half a station must not look like one.
"""

import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Self

SERVICES = ("worker", "capture")
END_S = 15
"""How long a service may take to end before it is killed; it finishes what it is writing."""
_LOOK_EVERY_S = 0.2


class Processes:
    """Both services of one station, as a context manager: ends them on the way out, whatever happened."""

    def __init__(self, config: Path, log: IO[bytes] | None = None) -> None:
        """Without `log` the children write to this process's stderr."""
        self._config = config
        self._log = log
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for service in SERVICES:
            command = [sys.executable, "-m", "station", service, "--config", str(self._config)]
            self._children[service] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self._log)
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def ended(self) -> str | None:
        """Return the name of a service that has ended, None while both run."""
        return next((name for name, child in self._children.items() if child.poll() is not None), None)

    def wait(self, stop: threading.Event) -> int:
        """Wait until `stop` is set or a service ends by itself, end both, and return the exit code for this process."""
        while not stop.is_set() and self.ended() is None:
            stop.wait(_LOOK_EVERY_S)
        first = self.ended()
        self.end()
        codes = {name: child.returncode for name, child in self._children.items()}
        worst = codes[first] if first else max(codes.values(), key=abs)
        return worst if worst in {0, 2} else 1

    def end(self) -> None:
        """Ask both to end, wait, and kill what does not."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
