"""`station opcua-keys` and `opcua-user`: who may use the OPC UA server, and what is to do next.

In: the settings. Out: lines of text. Raises ConfigurationError, and StationError when a folder cannot be written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from station.errors import ConfigurationError, StationError
from station.settings import Settings

try:
    from station.opcua import credentials
    from station.opcua.credentials import Right
except ModuleNotFoundError as error:
    raise ConfigurationError(
        [f"OPC UA needs a package: {error}."], "pip install 'edge-inspection-station[opcua]'"
    ) from error


def make_keys(settings: Settings, client: Path | None) -> list[str]:
    """Make the server's certificate if it has none, or trust a client's; return what was done and what is to do."""
    folder = settings.outputs.opcua.keys_folder
    with _errors_mapped():
        if client is not None:
            place = credentials.trust(folder, client)
            return [f"Trusted from now on: {credentials.describe(place)}", f"To lock it out, delete {place}."]
        made = credentials.make_certificate(folder, settings.station.name, settings.outputs.opcua.host)
        return [
            f"{folder}: the server's certificate {'was made' if made else 'is there'}.",
            f"{credentials.PRIVATE_KEY} must stay on this machine, and must not be in a backup that others read.",
            *_listed(folder, credentials.TRUSTED, "Trusted"),
            *_listed(folder, credentials.REJECTED, "Refused"),
            f"Users: {', '.join(f'{user.name} ({user.right})' for user in credentials.read_users(folder)) or 'none'}.",
            "Let a client in: station opcua-keys FILE with its certificate, one of the refused for example.",
            "Let a user in: station opcua-user NAME",
        ]


def make_user(settings: Settings, name: str, password: str, *, may_control: bool) -> list[str]:
    """Add a user or change one; return what was done."""
    folder = settings.outputs.opcua.keys_folder
    right = Right.CONTROL if may_control else Right.WATCH
    with _errors_mapped():
        credentials.write_user(folder, name, right, password)
    return [f"{name} may {right} from now on. To lock it out, delete its line in {folder / credentials.USERS}."]


def _listed(folder: Path, name: str, title: str) -> Iterator[str]:
    found = credentials.certificates(folder, name)
    yield f"{title}: {len(found) or 'none'}"
    for path in found:
        yield f"  {folder / name}/{credentials.describe(path)}"


@contextmanager
def _errors_mapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StationError(
            f"Files of OPC UA cannot be written: {error.filename}: {error.strerror}.", "Run it as the station's user."
        ) from error
