"""What a process can still do after it gave up the network, tried in a process of its own: there is no way back."""

import json
import subprocess
import sys
from typing import Any

import pytest

TRIALS = """
import ctypes, json, os, socket, subprocess, sys, threading
from pathlib import Path

threads_begun, go = threading.Event(), threading.Event()
said = {}

def tried(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return "worked"

def call(number, *arguments):
    if ctypes.CDLL(None, use_errno=True).syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def earlier_thread():
    threads_begun.set()
    go.wait()
    said["earlier thread"] = tried(lambda: socket.socket(socket.AF_INET))

thread = threading.Thread(target=earlier_thread)
thread.start()
threads_begun.wait()

from station.engine.no_network import give_up_network
give_up_network()
go.set()
thread.join()

for family in ("AF_INET", "AF_INET6", "AF_PACKET", "AF_NETLINK", "AF_VSOCK"):
    said[family] = tried(lambda: socket.socket(getattr(socket, family), socket.SOCK_DGRAM))
said["connection"] = tried(lambda: socket.create_connection(("127.0.0.1", 9)))
said["io_uring"] = tried(lambda: call(425, 1, ctypes.create_string_buffer(120)))
said["pidfd_getfd"] = tried(lambda: call(438, os.pidfd_open(os.getppid()), 0, 0))
said["unix"] = tried(lambda: socket.socket(socket.AF_UNIX))
said["socketpair"] = tried(socket.socketpair)
said["file"] = tried(lambda: Path("/proc/self/status").read_text())
child = "import socket\\ntry: socket.socket()\\nexcept OSError as error: print(error.strerror)"
said["child"] = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRIALS], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "way",
    [*"AF_INET AF_INET6 AF_PACKET AF_NETLINK AF_VSOCK connection io_uring pidfd_getfd child".split(), "earlier thread"],
)
def test_every_way_out_is_refused(said: dict[str, str], way: str) -> None:
    assert said[way] == "Permission denied"


@pytest.mark.parametrize("way", ["unix", "socketpair", "file"])
def test_what_the_engine_needs_still_works(said: dict[str, str], way: str) -> None:
    assert said[way] == "worked"
