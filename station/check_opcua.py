"""The part of `station check` that looks at the OPC UA server: package, certificate, users, port. Changes nothing."""

import importlib.util
from collections.abc import Iterator

from station import locks
from station.check_places import check_port
from station.errors import ConfigurationError
from station.finding import Finding, Level
from station.settings import Settings

WHAT = "OPC UA"


def check_opcua(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say of it; nothing if it is not wanted."""
    section = settings.outputs.opcua
    if not section.enabled:
        return
    if importlib.util.find_spec("asyncua") is None:
        to_do = "pip install 'edge-inspection-station[opcua]', or set outputs.opcua.enabled to false."
        yield Finding(level=Level.FAIL, what=WHAT, found="the package asyncua is missing", to_do=to_do)
        return
    yield _people(settings)
    if locks.holder(settings.journal.path.with_name(settings.journal.path.name + ".lock")):
        found = f"opc.tcp://{section.host}:{section.port}/station, if the server runs"
        yield Finding(level=Level.OK, what=f"{WHAT} port", found=found)
    else:
        yield check_port(f"{WHAT} port", section.host, section.port)


def _people(settings: Settings) -> Finding:
    """Say who may use it."""
    from station.opcua import credentials  # noqa: PLC0415 - an optional package

    folder = settings.outputs.opcua.keys_folder
    if not (folder / credentials.CERTIFICATE).is_file():
        to_do = "Make it as the station's user: station opcua-keys"
        return Finding(level=Level.FAIL, what=WHAT, found=f"no certificate in {folder}", to_do=to_do)
    try:
        users = credentials.read_users(folder)
    except ConfigurationError as error:
        return Finding(level=Level.FAIL, what=WHAT, found=error.message, to_do=error.hint)
    trusted = len(credentials.certificates(folder, credentials.TRUSTED))
    found = f"{credentials.describe(folder / credentials.CERTIFICATE)}; {len(users)} users, {trusted} trusted clients"
    if users and trusted:
        return Finding(level=Level.OK, what=WHAT, found=found)
    to_do = "Nobody can connect yet: station opcua-user NAME, station opcua-keys FILE (docs/opcua.md)."
    return Finding(level=Level.WARN, what=WHAT, found=found, to_do=to_do)
