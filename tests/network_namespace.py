"""A second machine on a cable: a network namespace joined to this one by a veth pair, whose ends can be pulled.

Needs root and iproute2; `why_not` says what is missing. The addresses are of the block for documentation, the names and
numbers this process's own, and all of it is gone at the end.
"""

import os
import shutil
import subprocess
from typing import Self


def why_not() -> str:
    """Return why no namespace can be made here; empty: it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed: apt install iproute2"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


class Namespace:
    """A context manager. Programs started with the prefix `inside` are on the other machine, at `host`."""

    def __init__(self) -> None:
        number = os.getpid() % 60
        self._name = f"line{os.getpid()}"
        self._near, self._far = f"n{os.getpid()}", f"f{os.getpid()}"
        self._here, self.host = f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"
        self.inside = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
            _ip("addr", "add", f"{self._here}/30", "dev", self._near)
            _ip("-n", self._name, "addr", "add", f"{self.host}/30", "dev", self._far)
            _ip("-n", self._name, "link", "set", "lo", "up")
            self.plug()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        _ip("netns", "del", self._name)  # the pair goes with it

    def unplug_here(self) -> None:
        """Pull the cable at this machine: it knows at once."""
        _ip("link", "set", self._near, "down")

    def unplug_there(self) -> None:
        """Pull it at the other machine: what is sent from here disappears."""
        _ip("-n", self._name, "link", "set", self._far, "down")

    def plug(self) -> None:
        """Put both ends in; nothing happens to one that is."""
        _ip("link", "set", self._near, "up")
        _ip("-n", self._name, "link", "set", self._far, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
