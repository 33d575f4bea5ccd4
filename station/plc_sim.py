"""`station plc-sim`: the PLC simulator on the running station, shown live in the terminal.

In: Settings, how many parts, and a folder of pictures that stands for the camera: after each trigger that the station
took, the next one goes into the hot folder. Out: a table of signals and acts, and each act as one JSON line.
"""

import itertools
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live

from station.errors import StationError
from station.outputs.plc_rules import Acted, Part, Program
from station.plc_sim_view import picture
from station.plc_simulator import SCAN_S, Misbehaviour, PlcSimulator
from station.settings import Settings

BETWEEN_PARTS_S = 0.3
"""The line moves; the result is taken meanwhile."""
_PNG_IHDR_END = 33
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def taken_now(picture: bytes) -> bytes:
    """Return the picture with the time in it, as a comment of JPEG or PNG: the station refuses the same bytes twice."""
    note = f"{time.time_ns()}".encode()
    if picture.startswith(b"\xff\xd8"):
        return picture[:2] + struct.pack(">HH", 0xFFFE, len(note) + 2) + note + picture[2:]
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        chunk = b"tEXtComment\0" + note
        whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return picture[:_PNG_IHDR_END] + whole + picture[_PNG_IHDR_END:]
    return picture


class Camera:
    """Puts one picture after the other into the hot folder, complete at once, each with a name of its own."""

    def __init__(self, folder: Path | None, hot_folder: Path) -> None:
        self._hot_folder = hot_folder
        found = [] if folder is None else sorted(folder.rglob("*"))
        self._pictures = iter([path for path in found if path.suffix.lower() in PICTURES])

    def fire(self, part: int) -> None:
        """Deliver the next picture; without any, somebody else's camera does."""
        for source in itertools.islice(self._pictures, 1):
            hidden = self._hot_folder / f".plc-sim-{part}{source.suffix}"
            hidden.write_bytes(taken_now(source.read_bytes()))
            hidden.rename(hidden.with_name(f"part-{part:05d}-{source.name}"))


def run(
    settings: Settings,
    *,
    parts: int,
    window_ms: int,
    pictures: Path | None,
    misbehaviour: Misbehaviour,
    recipe: int,
    accepts_simulated: bool,
    log: Path | None,
) -> list[Acted]:
    """Run `parts` parts through the station and return what was done with each. Raises StationError."""
    modbus = settings.outputs.modbus_server
    if not modbus.enabled or modbus.mode != "triggered":
        raise StationError("The station is free running.", "Set outputs.modbus_server.mode to triggered.")
    camera = Camera(pictures, settings.capture.hot_folder)
    console = Console(highlight=False)
    program = Program(window_ms=window_ms, recipe=recipe, accepts_simulated=accepts_simulated)
    with (
        PlcSimulator(modbus.host, modbus.port, program, camera.fire, misbehaviour) as plc,
        Live(console=console, refresh_per_second=10) as live,
    ):
        for number in range(1, parts + 1):
            for _ in _scans(plc, Part(serial=f"SIM-{number:05d}")):
                live.update(picture(plc, parts))
            if log:
                with log.open("ab") as lines:
                    lines.write(msgspec.json.encode(plc.acts[-1]) + b"\n")
            if plc.program.line_stopped:
                console.print("Three parts in a row without an answer of their own: the line stops.", style="bold red")
                break
        return plc.acts


def _scans(plc: PlcSimulator, part: Part) -> Iterator[None]:
    """Scan until the part is decided, and on until it is gone; yield after each scan."""
    acted: Acted | None = None
    while not acted:
        acted = plc.scan(part)
        yield
        time.sleep(SCAN_S)
    gone_s = time.monotonic() + BETWEEN_PARTS_S
    while time.monotonic() < gone_s:
        plc.scan(None)
        yield
        time.sleep(SCAN_S)
