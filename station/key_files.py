"""Key files of the ZeroMQ sockets that other machines reach: makes and reads them.

`<folder>/station.key_secret` and `station.key` are the station's own; `subscribers/NAME.key`, `captures/NAME.key` say
who may connect, one public key a file. A program elsewhere has a folder with `client.key_secret` and `station.key`. The
form is that of CZMQ and pyzmq. Secret files have mode 0600 from the first byte. Raises ConfigurationError.
"""

import logging
import os
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.auth import load_certificate

from station.complaints import Complaints
from station.errors import ConfigurationError
from station.settings import SettingsFile, is_of_this_machine

STATION = "station"
CLIENT = "client"
READ_AGAIN_S = 1.0
"""A key that is put on a list, or taken off it, counts for new connections after so long."""
MAX_PROGRAMS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_Z85_LENGTH = 40
_HOW = "Make keys with `station keys`, as the user that runs the station."

_log = logging.getLogger(__name__)


class Group(StrEnum):
    """Who may connect to what; the name of the folder with their public keys."""

    SUBSCRIBERS = "subscribers"
    """Verdict stream and snapshot: read verdicts."""
    CAPTURES = "captures"
    """Queue: send jobs, so decide what is judged."""


class KeyPair(NamedTuple):
    """A CURVE key pair, each as 40 characters of Z85."""

    public: bytes
    secret: bytes


class StationKeys:
    """The keys of a station: its own pair, and who is on its lists now. Used from one thread."""

    def __init__(self, folder: Path) -> None:
        """Read the station's own pair. Raises ConfigurationError."""
        self._folder = folder
        self.own = read_pair(folder, STATION)
        self._read: dict[Group, tuple[float, frozenset[bytes]]] = {}
        self._complaints = Complaints(_log)

    def may_enter(self, group: Group, public: bytes) -> bool:
        """Return whether the holder of a public key is on the list; the station itself always is."""
        read_s, keys = self._read.get(group, (-READ_AGAIN_S, frozenset()))
        if time.monotonic() - read_s >= READ_AGAIN_S:
            found, problems = programs(self._folder, group)
            for problem in problems:
                self._complaints.say("key file", problem)
            keys = frozenset(found.values())
            self._read[group] = (time.monotonic(), keys)
        return public == self.own.public or public in keys


def guarded(settings: SettingsFile) -> dict[Group, str]:
    """Return which endpoints of the worker other machines can reach, and who may connect there."""
    queue, publisher = settings.queue.endpoint, settings.outputs.publisher
    streams = [publisher.endpoint, publisher.snapshot_endpoint] if publisher.enabled else []
    found = {} if is_of_this_machine(queue) else {Group.CAPTURES: queue}
    reached = [endpoint for endpoint in streams if not is_of_this_machine(endpoint)]
    return found | ({Group.SUBSCRIBERS: reached[0]} if reached else {})


def station_keys(settings: SettingsFile) -> StationKeys | None:
    """Return the keys of the worker, None if only this machine can reach it.

    Raises ConfigurationError if an endpoint that others reach has no keys or nobody on its list.
    """
    reached = guarded(settings)
    if not reached:
        return None
    try:
        keys = StationKeys(settings.keys_folder)
    except ConfigurationError as error:
        where = f"{' and '.join(reached.values())} can be reached from other machines, so who connects must have a key."
        raise ConfigurationError([*error.problems, where], error.hint) from error
    if problems := [
        problem for group in reached for problem in _list_problems(settings.keys_folder, group, reached[group])
    ]:
        raise ConfigurationError(problems)
    return keys


def _list_problems(folder: Path, group: Group, endpoint: str) -> list[str]:
    found, problems = programs(folder, group)
    if found or problems:
        return problems
    to_do = f"station keys NAME --group {group}; or use an address of this machine."
    return [f"{folder / group}: nobody may connect to {endpoint} yet: no key is there. Let a program in: {to_do}"]


def read_pair(folder: Path, name: str) -> KeyPair:
    """Return the pair in NAME.key_secret, which only its owner may read. Raises ConfigurationError."""
    path = folder / f"{name}.key_secret"
    try:
        mode = path.stat().st_mode
        public, secret = load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            [f"{path}: no key can be read: {getattr(error, 'strerror', '') or error}."], _HOW
        ) from (error)
    if mode & 0o077:
        raise ConfigurationError(
            [f"{path}: others may read this secret key (mode {mode & 0o777:o})."], f"chmod 600 {path}"
        )
    if secret is None or len(secret) != _Z85_LENGTH or zmq.curve_public(secret) != public:
        raise ConfigurationError([f"{path}: holds no pair of keys that belong together."], _HOW)
    return KeyPair(public, secret)


def read_public(path: Path) -> bytes:
    """Return the public key in a file. Raises ConfigurationError."""
    try:
        public, _ = load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"{path}: no public key can be read: {error}."], _HOW) from error
    if len(public) != _Z85_LENGTH:
        raise ConfigurationError([f"{path}: a public key has {_Z85_LENGTH} characters, this one {len(public)}."], _HOW)
    return public


def programs(folder: Path, group: Group) -> tuple[dict[str, bytes], list[str]]:
    """Return name -> public key of each program on a list, and what is wrong with files that hold none."""
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for file in sorted((folder / group).glob("*.key"))[:MAX_PROGRAMS]:
        try:
            found[file.stem] = read_public(file)
        except ConfigurationError as error:
            problems += error.problems
    return found, problems


def make_station(folder: Path) -> bool:
    """Make the station's own pair and the folders of the lists; return False if they were there. Raises OSError."""
    for group in Group:
        (folder / group).mkdir(mode=0o750, parents=True, exist_ok=True)
    if (folder / f"{STATION}.key_secret").exists():
        read_pair(folder, STATION)
        return False
    _write_pair(folder, STATION)
    return True


def make_program(folder: Path, name: str, group: Group, out: Path) -> Path:
    """Make a pair for the program `name`, put it on a list, and return its public key's file.

    `out` gets what the program needs: its secret key and the station's public key. Raises ConfigurationError, OSError.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            [f"{name!r}: a name has 1 to 32 letters, digits, - or _, and begins with none of these two."]
        )
    listed = folder / group / f"{name}.key"
    if listed.exists():
        raise ConfigurationError(
            [f"{listed}: {name} has a key already."], "Delete that file first: with it the old key is no longer let in."
        )
    station = read_pair(folder, STATION)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (out / f"{CLIENT}.key_secret").exists():
        raise ConfigurationError(
            [f"{out}: another program's secret key is there."], "Choose another folder with --out."
        )
    made = _write_pair(out, CLIENT)
    _write(out / f"{STATION}.key", _text(station.public), 0o644)
    _write(listed, _text(made.public), 0o644)
    return listed


def _write_pair(folder: Path, name: str) -> KeyPair:
    pair = KeyPair(*zmq.curve_keypair())
    _write(folder / f"{name}.key_secret", _text(pair.public, pair.secret), 0o600)
    _write(folder / f"{name}.key", _text(pair.public), 0o644)
    return pair


def _text(public: bytes, secret: bytes | None = None) -> str:
    """Return a certificate in ZPL, as CZMQ and pyzmq read it."""
    first = "# SECRET key: stays on this machine, readable by its user only." if secret else "# Public key."
    lines = [first, "metadata", "curve", f'    public-key = "{public.decode()}"']
    return "\n".join([*lines, *([f'    secret-key = "{secret.decode()}"'] if secret else [])]) + "\n"


def _write(path: Path, text: str, mode: int) -> None:
    """Write a new file that has its mode from the start. Raises OSError, FileExistsError too."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
        file.write(text)
        os.fsync(file.fileno())
