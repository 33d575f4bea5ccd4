"""Draws the sequence diagrams of docs/plc.md: python docs/pictures/draw_sequences.py writes the SVG files beside it."""

from pathlib import Path

ROW, LEFT, RIGHT, TOP = 46, 170, 590, 84
INK, BLUE, GREY, RED = "#1d2430", "#1f5fbf", "#6b7480", "#b3261e"

TRIGGERED = (
    "One part, triggered",
    [
        (">", "Serial, SetUserData 1", "part in place: the window of the PLC begins"),
        ("<", "UserDataAck 1", ""),
        (">", "SetUserData 0", "wait for TriggerReady 1"),
        (">", "TriggerId, Trigger 1", "serial and id are latched"),
        ("<", "AcquisitionId, then TriggerAck 1, TriggerReady 0", "picture window begins"),
        (">", "Trigger 0", "fire the camera now, not before"),
        ("<", "TriggerAck 0", ""),
        ("<", "ImageReceived 1", "picture complete: the part may leave"),
        ("<", "TriggerReady 1", "picture window over: next part may be triggered"),
        ("<", "TriggerId, OK or NG, toggle, ResultsValid 1", "all in one write"),
        (">", "ResultsAck 1", "accept or reject, once"),
        ("<", "ResultsValid 0", ""),
        (">", "ResultsAck 0", "a result that waits comes now"),
    ],
)
TROUBLE = (
    "No picture, or two",
    [
        (">", "TriggerId, Trigger 1", ""),
        ("<", "TriggerAck 1", "picture window begins"),
        (">", "Trigger 0", "camera: nothing, or two pictures"),
        ("<", "TriggerId, NG, Fault, FaultCode 23, ResultsValid 1", "picture window over"),
        (">", "ResultsAck 1, ClearFault 1", "reject"),
        ("<", "ResultsValid 0, Fault 0", "TriggerReady stays 0 for two windows more"),
        (">", "ResultsAck 0, ClearFault 0", "a late picture meets nobody"),
        ("<", "TriggerReady 1", ""),
    ],
)
RESET = (
    "Reset: after a restart, after a part without answer",
    [
        (">", "TriggerEnable 0, Trigger 0, ResultsAck 0", "every open trigger is given up"),
        (">", "BufferClear 1, ClearFault 1, PlcHeartbeat n", "every result is dropped"),
        ("<", "PlcHeartbeatEcho n", "the station has seen it"),
        ("<", "TriggerAck 0, ResultsValid 0, FreeResultBuffers 8", "nothing of before is left"),
        (">", "TriggerEnable 1, BufferResultsEnable 1", ""),
        ("<", "TriggerReady 1", "when the picture window of before is over"),
    ],
)


def svg(title: str, steps: list[tuple[str, str, str]]) -> str:
    """Return one diagram: PLC left, station right, time runs down, notes beside."""
    height = TOP + ROW * len(steps) + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="960" height="{height}">',
        '<g font-family="DejaVu Sans, Arial, sans-serif" font-size="14">',
        f'<rect width="960" height="{height}" fill="#ffffff"/>',
        f'<text x="24" y="30" font-size="18" font-weight="bold" fill="{INK}">{title}</text>',
    ]
    for x, name in ((LEFT, "PLC"), (RIGHT, "station")):
        out.append(f'<rect x="{x - 50}" y="44" width="100" height="28" rx="4" fill="#eef2f7" stroke="{GREY}"/>')
        out.append(f'<text x="{x}" y="63" text-anchor="middle" font-weight="bold" fill="{INK}">{name}</text>')
        out.append(f'<line x1="{x}" y1="72" x2="{x}" y2="{height - 14}" stroke="{GREY}" stroke-dasharray="4 4"/>')
    for number, (direction, signal, note) in enumerate(steps):
        y = TOP + ROW * number + 24
        begin, end = (LEFT, RIGHT) if direction == ">" else (RIGHT, LEFT)
        tip = 9 if direction == ">" else -9
        colour = RED if "FaultCode" in signal else BLUE if direction == ">" else INK
        out.append(f'<line x1="{begin}" y1="{y}" x2="{end - tip}" y2="{y}" stroke="{colour}" stroke-width="1.8"/>')
        out.append(f'<path d="M{end} {y} L{end - tip} {y - 5} L{end - tip} {y + 5} Z" fill="{colour}"/>')
        out.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{y - 7}" text-anchor="middle" fill="{colour}">{signal}</text>')
        out.append(f'<text x="24" y="{y + 5}" fill="{GREY}" font-size="13">{number + 1}</text>')
        out.append(f'<text x="{RIGHT + 20}" y="{y + 5}" fill="{GREY}" font-size="13">{note}</text>')
    return "\n".join([*out, "</g></svg>", ""])


def main() -> None:
    """Write the three diagrams."""
    folder = Path(__file__).parent
    for name, (title, steps) in (("triggered", TRIGGERED), ("no-picture", TROUBLE), ("reset", RESET)):
        (folder / f"plc-{name}.svg").write_text(svg(title, steps), encoding="utf-8")


if __name__ == "__main__":
    main()
