"""Starts services of the station by fork: imports are done once, so that thousands of restarts are cheap.

`python -m tests.reliability.forkserver`; commands and answers are JSON, one a line. A service runs the very code of
`station capture` and `station worker`; only the interpreter's start and the imports are left out. It ends with the
server. A start may name a change of `tests.reliability.changes`, made in that process alone.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

import station.wiring  # noqa: F401  imported here, once
from station import cli, failpoints
from tests.reliability import changes

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        command = json.loads(line)
        answer = _start(command) if "service" in command else _wait(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _wait(pid: int, timeout_s: float) -> int | None:
    """Return the exit code (negative: the signal) of a service, None if it still runs after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end_s:
            return None
        time.sleep(0.002)


def _start(command: dict[str, Any]) -> int:
    """Return the process id of a new service."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                code = _serve(**command)
        finally:
            os._exit(code)
    return pid


def _serve(service: str, config: str, log: str, environment: dict[str, str], change: list[str]) -> int:
    """Be the service. Returns its exit code."""
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, target in ((nothing, 0), (nothing, 1), (said, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(said)
    os.environ.update(environment)
    failpoints.arm(environment.get(failpoints.VARIABLE, ""))
    if change:
        getattr(changes, change[0])(*change[1:])
    sys.argv = ["station", service, "--config", config]
    try:
        return cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    main()
