"""`station keys`: makes the keys of a station and of programs that may connect to it, and says what to do with them.

In: the folder of keys and perhaps a program. Out: lines of text. Never overwrites a key. Raises ConfigurationError, and
StationError when a folder cannot be written.
"""

from collections.abc import Iterator
from pathlib import Path

from station.errors import StationError
from station.key_files import Group, make_program, make_station, programs


def make_keys(folder: Path, program: str | None, group: str, out: Path | None) -> list[str]:
    """Make what is missing and return what was done and what is to do."""
    try:
        made = make_station(folder)
        if program is None:
            return list(_station_lines(folder, made))
        place = out or Path(f"{program}-keys")
        listed = make_program(folder, program, Group(group), place)
    except OSError as error:
        raise StationError(
            f"Keys cannot be made: {error.filename}: {error.strerror}.", "Run it as the station's user."
        ) from error
    return [
        f"{program} may connect from now on: {listed}. To lock it out, delete that file and restart the worker.",
        f"{place} holds its secret key, client.key_secret, and station.key. Bring it to the program's machine in",
        "a safe way (ssh, a stick), let only its user read it, and delete it here: nobody else may see the secret key.",
    ]


def _station_lines(folder: Path, made: bool) -> Iterator[str]:
    yield f"{folder}: the station's keys {'were made' if made else 'are there'}."
    yield "station.key_secret must stay on this machine, and must not be in a backup that others read."
    for group, does in ((Group.SUBSCRIBERS, "read verdicts"), (Group.CAPTURES, "send jobs")):
        found, problems = programs(folder, group)
        yield f"May {does}: {', '.join(found) or 'nobody yet'}."
        yield from problems
    yield "Let a program in: station keys NAME"
