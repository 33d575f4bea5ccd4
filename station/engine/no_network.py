"""Takes the network from this process for good: a seccomp filter, kept by every thread and child, that nothing removes.

The engine's process reads model files with a large C++ library; it has one socket, inherited from the worker, and needs
no other way out. `socket()` is refused with EACCES for every family but AF_UNIX, which a GPU's driver may use, and so
is what could bring in a network socket in another way. Linux on x86-64 and ARM64. Raises EngineError: without the
filter no model is loaded.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from station.errors import EngineError

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_ALL_THREADS = 1
_AF_UNIX = 1
_X32_BIT = 0x4000_0000
"""Marks system calls of x86-64's second numbering."""
_IO_URING_SETUP, _PIDFD_GETFD = 425, 438
"""The same number on every machine. The first can make sockets, the second take them from another process."""

# Classic BPF (linux/filter.h): load a word of seccomp_data, jump if equal or not below, return.
_LOAD, _IF_EQUAL, _IF_NOT_BELOW, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW = 0x7FFF_0000
_REFUSE = 0x0005_0000 | errno.EACCES


class _Machine(NamedTuple):
    """What differs between machines: AUDIT_ARCH of linux/audit.h, and numbers of system calls."""

    audit: int
    socket: int
    ptrace: int
    seccomp: int


_MACHINES = {"x86_64": _Machine(0xC000_003E, 41, 101, 317), "aarch64": _Machine(0xC000_00B7, 198, 117, 277)}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def give_up_network() -> None:
    """Refuse every network socket from now on. Raises EngineError when the system cannot promise it."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise EngineError(
            f"The engine cannot be kept off the network on {platform.machine()}.", f"Use {' or '.join(_MACHINES)}."
        )
    code = _filter(machine)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        machine.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)
    )
    if failed:
        raise EngineError(
            f"The engine cannot be kept off the network: seccomp: {os.strerror(ctypes.get_errno()) or failed}.",
            "Allow the system calls prctl and seccomp to the service, or container, that runs the worker.",
        )


def _filter(machine: _Machine) -> bytes:
    """Return the filter's program; the jumps count the instructions that they skip."""
    refused = (machine.ptrace, _IO_URING_SETUP, _PIDFD_GETFD)
    ahead = len(refused)
    return b"".join(
        [
            _step(_LOAD, _MACHINE_AT),
            _step(_IF_EQUAL, machine.audit, 0, ahead + 5),  # 32-bit calls have other numbers
            _step(_LOAD, _NUMBER_AT),
            _step(_IF_NOT_BELOW, _X32_BIT, ahead + 3, 0),
            *(_step(_IF_EQUAL, number, ahead + 2 - place, 0) for place, number in enumerate(refused)),
            _step(_IF_EQUAL, machine.socket, 0, 3),
            _step(_LOAD, _FIRST_ARGUMENT_AT),
            _step(_IF_EQUAL, _AF_UNIX, 1, 0),
            _step(_RETURN, _REFUSE),
            _step(_RETURN, _ALLOW),
        ]
    )


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return a struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
