"""`station plc-sim`: the PLC simulator on the running station, shown live in the terminal.

In: Settings, how many parts, and a folder of pictures that stands for the camera: after each trigger that the station
took, the next one goes into the hot folder. Out: a table of signals and acts, and each act as one JSON line.
"""

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from station.errors import StationError
from station.outputs.plc_rules import Acted, Part, Program
from station.plc_simulator import SCAN_S, Misbehaviour, PlcSimulator
from station.settings import Settings

SHOWN_ACTS = 12
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SIGNALS = (
    "Online TriggerReady TriggerAck ImageReceived SystemBusy InspectionCompleted ResultsValid OK NG NotDecidable Fault"
    " Warning Simulated MissedTrigger ResultsBufferOverrun PlcHeartbeatLost"
).split()
NUMBERS = (
    "Heartbeat OfflineReason FaultCode AcquisitionId InspectionId TriggerId FreeResultBuffers ReasonCode PinsNG"
    " ProcessingTime"
).split()


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
            shutil.copyfile(source, hidden)
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
    console: Console,
) -> list[Acted]:
    """Run `parts` parts through the station and return what was done with each. Raises StationError."""
    modbus = settings.outputs.modbus_server
    if not modbus.enabled or modbus.mode != "triggered":
        raise StationError("The station is free running.", "Set outputs.modbus_server.mode to triggered.")
    camera = Camera(pictures, settings.capture.hot_folder)
    program = Program(window_ms=window_ms, recipe=recipe, accepts_simulated=accepts_simulated)
    with (
        PlcSimulator(modbus.host, modbus.port, program, camera.fire, misbehaviour) as plc,
        Live(console=console, refresh_per_second=10) as live,
    ):
        for number in range(1, parts + 1):
            for acted in _decided(plc, Part(serial=f"SIM-{number:05d}")):
                live.update(_picture(plc))
                if acted and log:
                    with log.open("ab") as lines:
                        lines.write(msgspec.json.encode(acted) + b"\n")
            if plc.program.line_stopped:
                console.print("Three parts in a row without an answer of their own: the line stops.", style="bold red")
                break
        return plc.acts


def _decided(plc: PlcSimulator, part: Part) -> Iterator[Acted | None]:
    """Scan until the part is decided; yield after each scan."""
    acted = None
    while acted is None:
        acted = plc.scan(part)
        yield acted
        time.sleep(SCAN_S)


def _picture(plc: PlcSimulator) -> Group:
    shown = plc.shown()
    signals = Text("  ").join(Text(name, style="bold green" if shown.get(name) else "dim") for name in SIGNALS)
    numbers = Text("   ").join(Text(f"{name} {shown.get(name, '-')}") for name in NUMBERS)
    step = Text(f"PLC step {plc.program.step.name}   " + ("connected" if shown else "NO CONNECTION"), style="bold")
    return Group(step, signals, numbers, _acts(plc.acts))


def _acts(acts: list[Acted]) -> Table:
    table = Table(
        title=f"{sum(act.accepted for act in acts)} accepted, {sum(not act.accepted for act in acts)} rejected"
    )
    for heading in ("TriggerId", "act", "why"):
        table.add_column(heading)
    for act in acts[-SHOWN_ACTS:]:
        word = Text("ACCEPT", style="bold green") if act.accepted else Text("REJECT", style="bold red")
        table.add_row(str(act.trigger_id), word, act.why)
    return table
