"""Capture and worker as two child processes that live and end together. Used by `station run` and `station demo`.

In: the path of config.yaml. Out: an exit code. Each child is `station capture` or `station worker`, just as systemd
would start it. When one ends, for whatever reason, the other is ended too: half a station must not look like one. Both
are started again when the worker ended to load another model. The OPC UA server is a third one if wanted; when it ends
it is started again, and the others never notice.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Self

logger = logging.getLogger(__name__)

SERVICES = ("worker", "capture")
OPCUA = "opcua"
RESTART_AFTER_S = 1.0
WRONG_CONFIGURATION = 2
RESTART = 75
"""Exit code of a worker that wants to be started anew, with what config.yaml says now."""
_TOLD = {0: 0, WRONG_CONFIGURATION: WRONG_CONFIGURATION, RESTART: 0}
"""Exit code of a service -> that of the whole; any other is 1."""
END_S = 15
"""How long a service may take to end before it is killed; it finishes what it is writing."""
_LOOK_EVERY_S = 0.2
_PR_SET_PDEATHSIG = 1
_PARENT = "STATION_PARENT_PID"
"""Environment variable that tells a service which process it is a part of."""


class Processes:
    """The services of one station, as a context manager: ends them on the way out, whatever happened."""

    def __init__(self, config: Path, log: IO[bytes] | None = None, *, with_opcua: bool = False) -> None:
        """Without `log` the children write to this process's stderr."""
        self._with_opcua = with_opcua
        self._opcua_due_s = 0.0
        self._config = config
        self._log = log
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for service in (*SERVICES, OPCUA) if self._with_opcua else SERVICES:
            self._begin(service)
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def ended(self) -> str | None:
        """Return the name of a service that has ended, None while both run; the OPC UA server does not count."""
        return next((name for name in SERVICES if self._children[name].poll() is not None), None)

    def wait(self, stop: threading.Event) -> int:
        """Wait until `stop` is set or a service ends by itself, end both, and return the exit code for this process."""
        while not stop.is_set() and (self.ended() is None or self._started_anew()):
            self._see_to_opcua()
            stop.wait(_LOOK_EVERY_S)
        first = self.ended()
        if first and not stop.is_set():
            logger.error("%s; the rest of the station is ended too. Start it again.", self._ending(first))
        self.end()
        codes = {name: self._children[name].returncode for name in SERVICES}
        worst = codes[first] if first else max(codes.values(), key=abs)
        return _TOLD.get(worst, 1)

    def _started_anew(self) -> bool:
        """Start the services again if the worker ended to be; return whether they were."""
        if self._children["worker"].poll() != RESTART:
            return False
        logger.info("The worker wants to start anew; capture too, so that both read the same configuration.")
        self.end()
        for service in self._children:
            self._begin(service)
        return True

    def _begin(self, service: str) -> None:
        command = [sys.executable, "-m", "station", service, "--config", str(self._config)]
        self._children[service] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=self._log, env=os.environ | {_PARENT: str(os.getpid())}
        )

    def _see_to_opcua(self) -> None:
        """Start the OPC UA server again some time after it ended, unless its configuration is wrong."""
        child = self._children.get(OPCUA)
        if child is None or child.poll() in {None, WRONG_CONFIGURATION}:
            return
        if not self._opcua_due_s:
            logger.error("%s; it is started again, the rest of the station goes on.", self._ending(OPCUA))
            self._opcua_due_s = time.monotonic() + RESTART_AFTER_S
        elif time.monotonic() >= self._opcua_due_s:
            self._opcua_due_s = 0.0
            self._begin(OPCUA)

    def _ending(self, name: str) -> str:
        code = self._children[name].returncode
        return f"The {name} ended by signal {-code}" if code < 0 else f"The {name} ended with exit code {code}"

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


def end_with_parent() -> None:
    """In a service: have the kernel ask it to end when the `station run` that started it is killed, if one did."""
    parent = os.environ.pop(_PARENT, None)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("station run ended before its service started.")
