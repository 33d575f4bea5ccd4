"""One engine child process and the socket to it. Never blocks: a child that is stopped or stuck holds nobody up.

Out: frames queued by `send`; in: frames from `transfer`. Used from the worker's one thread. A child that is gone, or
that says what cannot be read, shows as EngineError from `transfer`; what to do about it is `engine_host`'s affair.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import station
from station.engine import frames
from station.errors import EngineError

_RECEIVE_BYTES = 1 << 20
_PACKAGE_FOLDER = Path(station.__file__).resolve().parent.parent


class EngineProcess:
    """A child that was started now and lives until `kill` or its own end."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(0)
        self._unsent = bytearray()
        self._reader = frames.FrameReader()
        with theirs:
            self._process = _start_child(theirs.fileno())
        self.pid = self._process.pid

    @property
    def descriptor(self) -> int:
        """File descriptor to wait on."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """True while something is queued: wait for the descriptor to be writable too."""
        return bool(self._unsent)

    def send(self, frame: frames.Frame) -> None:
        """Queue a frame and write what the socket takes now; `transfer` writes the rest."""
        self._unsent += frames.encode(frame)
        with contextlib.suppress(OSError):  # the child is gone: the next `transfer` finds it
            self._write()

    def transfer(self) -> list[frames.Frame]:
        """Write what is queued and return the frames that arrived. Raises EngineError when the child is gone."""
        received: list[frames.Frame] = []
        try:
            self._write()
            while data := self._socket.recv(_RECEIVE_BYTES):
                received += self._reader.feed(data)
        except BlockingIOError:
            return received
        except OSError as error:
            raise EngineError(f"The engine's process {self.pid} hung up: {error}.") from error
        if received:
            return received  # its last words; the next call finds the end again
        raise EngineError(f"The engine's process {self.pid} ended.")

    def stop(self) -> None:
        """Have the child stand still where it is; `go_on` and `kill` end that."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have a stopped child go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the child and hang up; `exit_code` tells when it is gone."""
        self._socket.close()
        self._process.kill()

    def hang_up(self) -> None:
        """Close the socket: the child ends by itself as soon as it is not busy."""
        self._socket.close()

    def exit_code(self) -> int | None:
        """Return the exit code (negative: the signal), None while the child lives. Never waits."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> bool:
        """Return True when the child has ended within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self) -> None:
        """Write as much as the socket takes. Raises OSError when the child is gone."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:sent]


def _start_child(socket_fd: int) -> subprocess.Popen[bytes]:
    # -P and PYTHONPATH: the child runs this very package, not one that the working folder happens to hold.
    # GGML_NO_BACKTRACE: on an assert llama.cpp else starts a debugger on itself, which can hang.
    # OMP_WAIT_POLICY: llama.cpp's threads else spin while they wait, and on a busy machine take each other's core:
    # 12 s for a part that takes 0.4 s otherwise.
    python_path = os.pathsep.join(filter(None, (str(_PACKAGE_FOLDER), os.environ.get("PYTHONPATH"))))
    settings = {"GGML_NO_BACKTRACE": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": python_path}
    environment = os.environ | settings
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "station.engine.child", str(socket_fd), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=2,  # llama.cpp prints; stdout belongs to the verb that was started
        pass_fds=(socket_fd,),
        env=environment,
    )
