"""The files of who is who: the server's own certificate, users, and the certificates of clients that may connect.

One folder: `server.der`, `server.key.pem`, `users` (a line for each: name, right, hash of the password), `trusted/` and
`rejected/` (certificates, DER or PEM). A refused certificate is kept in `rejected/`, so that it can be moved. Read anew
at each connection and login, so nothing needs a restart. Passwords are hashed with scrypt. Raises ConfigurationError.
"""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from station.errors import ConfigurationError
from station.records import Record

CERTIFICATE = "server.der"
PRIVATE_KEY = "server.key.pem"
USERS = "users"
TRUSTED = "trusted"
REJECTED = "rejected"
VALID_DAYS = 3650
MAX_REJECTED = 20
MAX_FILE_BYTES = 65_536
SHORTEST_PASSWORD = 10
SCRYPT = {"n": 2**14, "r": 8, "p": 1}
MAX_FAILURES = 5
"""Wrong passwords for one user within `FORGOTTEN_AFTER_S`; then every one is refused until they are forgotten."""
FORGOTTEN_AFTER_S = 60.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


class Right(StrEnum):
    """What a user may do."""

    WATCH = "watch"
    """Read, subscribe, fetch results."""
    CONTROL = "control"
    """Also call the methods that change the state."""


class User(Record, frozen=True):
    """One line of the file of users."""

    name: str
    right: Right
    salt: str
    hash: str


class Credentials:
    """The folder of keys, as the running server uses it. One thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failures: dict[str, list[float]] = {}

    def is_trusted(self, certificate: bytes) -> bool:
        """Return True if this certificate (DER) is in `trusted/` and valid now; else keep it in `rejected/`."""
        if not certificate:
            return False
        if any(_der_of(path) == certificate for path in _files(self._folder / TRUSTED)):
            return _is_valid_now(certificate)
        self._reject(certificate)
        return False

    def user(self, name: str, password: str) -> User | None:
        """Return who this is; None: no such user, or the wrong password, or too many wrong ones before."""
        now_s = time.monotonic()
        failures = [at for at in self._failures.get(name, []) if now_s - at < FORGOTTEN_AFTER_S]
        found = next((user for user in read_users(self._folder) if user.name == name), None)
        if found is None or len(failures) >= MAX_FAILURES:
            return None
        if hmac.compare_digest(_hashed(password, found.salt), found.hash):
            self._failures.pop(name, None)
            return found
        self._failures[name] = [*failures, now_s]
        return None

    def name_of(self, certificate: bytes) -> str | None:
        """Return the user that a certificate (DER) stands for: in `trusted/` and valid, its common name is a user's."""
        if not self.is_trusted(certificate):
            return None
        names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        known = {user.name for user in read_users(self._folder)}
        return next((str(name.value) for name in names if name.value in known), None)

    def right_of(self, name: str) -> Right:
        """Return what a user may do now; one that was deleted since may only watch until the session ends."""
        return next((user.right for user in read_users(self._folder) if user.name == name), Right.WATCH)

    def _reject(self, certificate: bytes) -> None:
        """Keep a refused certificate for the administrator, the newest few."""
        folder = self._folder / REJECTED
        path = folder / f"{hashlib.sha256(certificate).hexdigest()[:16]}.der"
        if path.exists() or len(certificate) > MAX_FILE_BYTES or not _is_certificate(certificate):
            return
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in sorted(_files(folder), key=lambda file: file.stat().st_mtime)[: -MAX_REJECTED + 1]:
                old.unlink()
            path.write_bytes(certificate)
        except OSError:
            return  # it is for convenience: the log says who was refused


def application_uri(station: str) -> str:
    """Return the server's ApplicationUri, which its certificate must name."""
    return f"urn:{socket.gethostname()}:edge-inspection-station:{station}"


def make_certificate(folder: Path, station: str, host: str) -> bool:
    """Make key and certificate if they are missing; return True if they were made. Raises OSError."""
    certificate, key_file = folder / CERTIFICATE, folder / PRIVATE_KEY
    if certificate.exists() and key_file.exists():
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (TRUSTED, REJECTED):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    key = generate_private_key()
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(application_uri(station)),
        x509.DNSName(socket.gethostname()),
        *_address_names(host),
    ]
    made = generate_self_signed_app_certificate(
        key, f"Edge inspection station {station}", {}, names, [ExtendedKeyUsageOID.SERVER_AUTH], days=VALID_DAYS
    )
    write_private(key_file, dump_private_key_as_pem(key))
    certificate.write_bytes(made.public_bytes(Encoding.DER))
    return True


def trust(folder: Path, certificate: Path) -> Path:
    """Put a client's certificate (DER or PEM) on the list; return its place. Raises ConfigurationError."""
    der = _der_of(certificate)
    if der is None:
        raise ConfigurationError([f"{certificate}: no certificate, DER or PEM, can be read there."])
    place = folder / TRUSTED / f"{hashlib.sha256(der).hexdigest()[:16]}.der"
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.write_bytes(der)
    return place


def describe(path: Path) -> str:
    """Return in one line whose certificate this is and how long it holds."""
    der = _der_of(path)
    if der is None:
        return f"{path.name}: no certificate"
    certificate = x509.load_der_x509_certificate(der)
    return f"{path.name}: {certificate.subject.rfc4514_string()}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def certificates(folder: Path, name: str) -> list[Path]:
    """Return the files of `trusted/` or `rejected/`."""
    return _files(folder / name)


def read_users(folder: Path) -> list[User]:
    """Return all users. Raises ConfigurationError with every line that is none."""
    path = folder / USERS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    fields = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    wrong = [
        number for number, words in fields if len(words) != len(User.__struct_fields__) or words[1] not in set(Right)
    ]
    if wrong:
        raise ConfigurationError(
            [f"{path}:{number}: expected name, right, salt and hash." for number in wrong],
            "Delete the line and make the user again: station opcua-user NAME.",
        )
    return [User(name=words[0], right=Right(words[1]), salt=words[2], hash=words[3]) for _, words in fields]


def write_user(folder: Path, name: str, right: Right, password: str) -> None:
    """Add this user, or change right and password. Raises ConfigurationError, OSError."""
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(f"{name!r}: a user's name has 1 to 32 letters, digits, '_', '.' or '-'.")
    if len(password) < SHORTEST_PASSWORD:
        problems.append(f"The password has {len(password)} characters, at least {SHORTEST_PASSWORD} are needed.")
    if problems:
        raise ConfigurationError(problems)
    salt = secrets.token_hex(16)
    user = User(name=name, right=right, salt=salt, hash=_hashed(password, salt))
    others = [one for one in read_users(folder) if one.name != name]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"{one.name} {one.right} {one.salt} {one.hash}\n" for one in (*others, user)]
    write_private(folder / USERS, "".join(lines).encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **SCRYPT).hex()


def _address_names(host: str) -> list[x509.GeneralName]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [x509.DNSName(host)]
    return [] if address.is_unspecified else [x509.IPAddress(address)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []


def _der_of(path: Path) -> bytes | None:
    try:
        raw = path.read_bytes()[:MAX_FILE_BYTES]
    except OSError:
        return None
    try:
        parsed = x509.load_pem_x509_certificate(raw) if b"-----BEGIN" in raw else x509.load_der_x509_certificate(raw)
    except ValueError:
        return None
    return parsed.public_bytes(Encoding.DER)


def _is_certificate(der: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(der)
    except ValueError:
        return False
    return True


def _is_valid_now(der: bytes) -> bool:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc
