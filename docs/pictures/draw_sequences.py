"""Draws the pictures of docs/plc.md: python docs/pictures/draw_sequences.py writes the SVG files beside it."""

import math
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

RECIPE = (
    "Another recipe",
    [
        (">", "command 1, argument n, ExecuteCommand 1", "while no part is under way"),
        ("<", "CommandExecuting 1, Online 0, OfflineReason 7", "at once; RecipeLoaded 0"),
        ("<", "RecipeLoaded n, Online 1, CommandCompleted 1", "worker, engine and capture have it"),
        (">", "ExecuteCommand 0", ""),
        ("<", "CommandCompleted 0, TriggerReady 1", "each result names it: RecipeUsed n"),
    ],
)

BOXES = {
    "part sensor": (40, 70),
    "code reader": (40, 150),
    "reject gate": (40, 310),
    "PLC": (330, 190),
    "camera": (620, 70),
    "station": (620, 310),
}
"""Name -> left upper corner."""
WIRES = (
    ("part sensor", "PLC", "part in place", False),
    ("code reader", "PLC", "serial", False),
    ("PLC", "reject gate", "energise to pass", False),
    ("PLC", "camera", "trigger, after TriggerAck", False),
    ("camera", "station", "picture into the hot folder", False),
    ("PLC", "station", "Modbus TCP, a network of their own", True),
)
BOX_WIDTH, BOX_HEIGHT = 170, 54


def wiring() -> str:
    """Return who is connected to whom."""
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 400" width="960" height="400">',
        '<g font-family="DejaVu Sans, Arial, sans-serif" font-size="14">',
        '<rect width="960" height="400" fill="#ffffff"/>',
        f'<text x="24" y="30" font-size="18" font-weight="bold" fill="{INK}">Wiring</text>',
    ]
    for begin, end, text, both in WIRES:
        (x1, y1), (x2, y2) = _ends(begin, end)
        colour = BLUE if both else INK
        out.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.8"/>')
        out.append(_tip(x1, y1, x2, y2, colour))
        if both:
            out.append(_tip(x2, y2, x1, y1, colour))
        beside = x1 == x2
        x, y = ((x1 + x2) / 2 + (12 if beside else 0), (y1 + y2) / 2 - (0 if beside else 8))
        anchor = "start" if beside else "middle"
        halo = 'stroke="#ffffff" stroke-width="5" paint-order="stroke"'
        out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" {halo}>{text}</text>')
    for name, (x, y) in BOXES.items():
        size = f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4"'
        out.append(f'<rect x="{x}" y="{y}" {size} fill="#eef2f7" stroke="{GREY}"/>')
        middle = x + BOX_WIDTH / 2
        out.append(
            f'<text x="{middle}" y="{y + 32}" text-anchor="middle" font-weight="bold" fill="{INK}">{name}</text>'
        )
    return "\n".join([*out, "</g></svg>", ""])


def _ends(begin: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where a wire leaves and arrives: at the sides, or above and below."""
    (xa, ya), (xb, yb) = BOXES[begin], BOXES[end]
    if xa == xb:
        middle = xa + BOX_WIDTH / 2
        return (middle, ya + BOX_HEIGHT), (middle, yb)
    goes_right = xa < xb
    left, right = (xa + BOX_WIDTH, xb) if goes_right else (xa, xb + BOX_WIDTH)
    return (left, ya + BOX_HEIGHT / 2), (right, yb + BOX_HEIGHT / 2)


def _tip(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """Return the arrow's head at the second end."""
    length = math.hypot(x2 - x1, y2 - y1)
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    bx, by = x2 - 10 * ux, y2 - 10 * uy
    points = f"M{x2} {y2} L{bx - 5 * uy:.1f} {by + 5 * ux:.1f} L{bx + 5 * uy:.1f} {by - 5 * ux:.1f} Z"
    return f'<path d="{points}" fill="{colour}"/>'


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
    """Write all pictures."""
    folder = Path(__file__).parent
    (folder / "plc-wiring.svg").write_text(wiring(), encoding="utf-8")
    sequences = {"triggered": TRIGGERED, "no-picture": TROUBLE, "reset": RESET, "recipe": RECIPE}
    for name, (title, steps) in sequences.items():
        (folder / f"plc-{name}.svg").write_text(svg(title, steps), encoding="utf-8")


if __name__ == "__main__":
    main()
