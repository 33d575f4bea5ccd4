"""What `station plc-sim` shows: who sends what right now, and what was done with each part. Pure: rich renderables."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from station.outputs.plc_control import Control
from station.outputs.plc_rules import Acted, Step
from station.outputs.plc_state import FaultCode, OfflineReason
from station.plc_simulator import Misbehaviour, PlcSimulator
from station.records import Reason

SHOWN_ACTS = 10
STATION_BITS = (
    ("Online", "TriggerReady", "TriggerAck", "ImageReceived"),
    ("ResultsValid", "OK", "NG", "NotDecidable"),
    ("InspectionCompleted", "UserDataAck", "CommandExecuting", "CommandCompleted"),
    ("Fault", "MissedTrigger", "ResultsBufferOverrun", "CommandFailed"),
    ("Warning", "Simulated", "PlcHeartbeatLost", "SystemBusy"),
)
STATION_NUMBERS = (
    ("Heartbeat", "AcquisitionId", "InspectionId", "TriggerId"),
    ("PinsInspected", "PinsNG", "FirstNGPin", "ProcessingTime"),
    ("FreeResultBuffers", "ResultAge", "RecipeLoaded", "RecipeUsed"),
)
CODES = {"OfflineReason": OfflineReason, "FaultCode": FaultCode, "ReasonCode": Reason}
PLC_BITS = (
    ("trigger_enable", "trigger", "results_ack", "buffer_results_enable"),
    ("set_user_data", "execute_command", "clear_fault", "buffer_clear"),
)
PLC_NUMBERS = (("plc_heartbeat", "trigger_id", "inspect_window", "command_code"),)
DOING = {
    Step.RESET: "making the station forget what was before",
    Step.IDLE: "waiting for a part",
    Step.SERIAL: "giving the serial, waiting for TriggerReady",
    Step.TRIGGER: "holding Trigger until TriggerAck",
    Step.RESULT: "waiting for the result of this part",
    Step.ACK: "holding ResultsAck until ResultsValid is 0",
    Step.RECIPE: "having the station change the recipe",
}


def picture(plc: PlcSimulator, parts: int) -> Group:
    """Return the whole screen."""
    shown = plc.shown()
    return Group(
        _head(plc, parts),
        Text("\nstation -> PLC", style="bold"),
        _grid([_bits(row, shown) for row in STATION_BITS] + [_numbers(row, shown) for row in STATION_NUMBERS]),
        _codes(shown),
        Text("\nPLC -> station", style="bold"),
        _control(plc.written),
        Text(),
        _acts(plc.acts),
    )


def _head(plc: PlcSimulator, parts: int) -> Text:
    link = Text("connected", "green") if plc.shown() else Text(f"NO CONNECTION to {plc.where}", "bold red")
    step = plc.program.step
    done = Text(
        f"part {min(len(plc.acts) + 1, parts)} of {parts}   step {step.value} {step.name}: {DOING[step]}   ", "bold"
    )
    wrong = Text()
    if plc.misbehaviour is not Misbehaviour.NONE:
        wrong = Text(f"\nmisbehaves: {plc.misbehaviour}, {plc.wrongs} times so far", style="yellow")
    return Text.assemble(done, link, wrong)


def _bits(names: tuple[str, ...], values: dict[str, int]) -> list[Text]:
    return [
        Text(f"{'●' if values.get(name) else '·'} {name}", "bold green" if values.get(name) else "dim")
        for name in names
    ]


def _numbers(names: tuple[str, ...], values: dict[str, int]) -> list[Text]:
    return [Text(f"  {name} {values.get(name, '-')}") for name in names]


def _codes(shown: dict[str, int]) -> Text:
    """Name every code that is not 0."""
    names = [f"{name} {shown[name]} ({_word(name, shown[name])})" for name in CODES if shown.get(name)]
    return Text("  " + "   ".join(names), style="yellow")


def _word(name: str, code: int) -> str:
    known = {int(member): member.name for member in CODES[name]}
    return known.get(code, "?").lower().replace("_", " ")


def _control(control: Control) -> Table:
    values = {name: int(getattr(control, name)) for row in (*PLC_BITS, *PLC_NUMBERS) for name in row}
    named = {_camel(name): value for name, value in values.items()}
    bits = [_bits(tuple(map(_camel, row)), named) for row in PLC_BITS]
    return _grid(bits + [_numbers(tuple(map(_camel, row)), named) for row in PLC_NUMBERS])


def _camel(name: str) -> str:
    """Return the name that the register map has."""
    return "".join(word.capitalize() for word in name.split("_"))


def _grid(rows: list[list[Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def _acts(acts: list[Acted]) -> Table:
    accepted = sum(act.accepted for act in acts)
    table = Table(title=f"{accepted} accepted, {len(acts) - accepted} rejected", title_justify="left")
    for heading in ("TriggerId", "act", "why", "ms"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for act in acts[-SHOWN_ACTS:]:
        word = Text("ACCEPT", style="bold green") if act.accepted else Text("REJECT", style="bold red")
        reason = f" ({_word('ReasonCode', act.reason_code)})" if act.reason_code else ""
        table.add_row(str(act.trigger_id), word, act.why + reason, str(act.took_ms))
    return table
