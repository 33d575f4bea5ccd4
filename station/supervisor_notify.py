"""Tell systemd how the service is: ready, alive, stopping. The only home of sdnotify.

Called from a service's main loop, so that a loop that hangs is restarted by systemd. Without NOTIFY_SOCKET (not
started by systemd) every call does nothing. Never raises and hardly waits: telling must not stop an inspection. While
systemd does not listen, what it should hear of the loop is dropped; that it is ready or stops is waited for a little.
"""

import os
import time

import sdnotify

ALIVE_EVERY_S = 0.5
"""WATCHDOG=1 is sent at most this often; the unit's WatchdogSec must be several times longer."""
LONGEST_WAIT_S = 1.0


class ServiceNotifier:
    """One service's line to systemd. Used from one thread."""

    def __init__(self) -> None:
        # sdnotify leaks a socket when NOTIFY_SOCKET is missing, so it is built only when there is one.
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        self._status = ""
        self._next_alive_s = 0.0

    def ready(self) -> None:
        """Say that the service has started."""
        self._tell("READY=1", LONGEST_WAIT_S)

    def status(self, text: str) -> None:
        """Show one line of text in `systemctl status`; sent when it changes."""
        if text != self._status:
            self._status = text
            self._tell("STATUS=" + text.replace("\n", " "))

    def alive(self) -> None:
        """Feed the watchdog; may be called in every loop."""
        now_s = time.monotonic()
        if now_s >= self._next_alive_s:
            self._next_alive_s = now_s + ALIVE_EVERY_S
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is going down on purpose; the last word, the line is closed."""
        self._tell("STOPPING=1", LONGEST_WAIT_S)
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _tell(self, line: str, wait_s: float = 0) -> None:
        """Tell it, if it is taken within `wait_s`; sdnotify swallows the error."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.settimeout(wait_s)
            self._notifier.notify(line)
