"""What `station bench` prints for people: one table a release, then which release to take."""

from rich.console import Console
from rich.table import Table

from station.bench import Bench, Row
from station.bench_side import Measured, Part


def bars(bench: Bench) -> list[tuple[str, str, float]]:
    """Return the plot's bars: label, kind, ms of a part with the most regions."""
    found = []
    for row in bench.rows:
        for name, kind, side in (("stock handler", "stock", row.stock), ("station", "station", row.station)):
            if side is not None:
                part = side.parts[-1]
                found.append((f"{row.release}: {name}, whole answer", kind, part.full_ms))
                if part.expected_ms is not None:
                    found.append((f"{row.release}: {name}, as expected", kind, part.expected_ms))
                found.append((f"{row.release}: {name}, verdict only", kind, part.verdict_ms))
        if row.station is not None:
            last = row.station.parts[-1]
            limit_ms = last.verdict_ms * bench.share_of_limit(row, last.regions)
            found.append((f"{row.release}: limit of this machine", "limit", limit_ms))
    return found


def title(bench: Bench) -> str:
    """Return what was measured, in one line."""
    where = "GPU" if bench.gpu else f"CPU, {bench.threads} thread(s)"
    return f"asked by {bench.ask}, pictures of {bench.width_px} x {bench.height_px} px, {where}"


def show(bench: Bench) -> None:
    """Print everything."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(title(bench))
    limits = bench.limits
    out.print(
        f"This machine: {limits.flop_per_s / 1e12:.2f} TFLOP/s in a matrix product,"
        f" {limits.bytes_per_s / 1e9:.0f} GB/s in a copy"
    )
    for row in bench.rows:
        out.print()
        out.print(f"{row.release}, text {row.size_gib:.2f} GiB" + (f": {row.problem}" if row.problem else ""))
        if row.station is not None:
            out.print(_table(bench, row, row.station, row.stock))
            out.print(_rest(row))
    if len(bench.rows) > 1:
        out.print("\n" + "\n".join(fastest(bench)))


def fastest(bench: Bench) -> list[str]:
    """Return for each side which release answers whole parts of the most regions fastest, and how they compare."""
    ours = [(row.station.parts[-1].full_ms, row.release) for row in bench.rows if row.station]
    theirs = [(row.stock.parts[-1].full_ms, row.release) for row in bench.rows if row.stock]
    lines = []
    for side, found in (("station", ours), ("stock handler", theirs)):
        if found:
            ms, release = min(found)
            lines.append(f"Fastest for the {side}: {release}, {ms:.0f} ms a part.")
    if ours and theirs:
        lines.append(f"Each side with its own: {min(theirs)[0] / min(ours)[0]:.1f} times faster.")
    return lines


def _table(bench: Bench, row: Row, ours: Measured, stock: Measured | None) -> Table:
    table = Table("regions", "side", "whole answer ms", "a crop ms", "as expected ms", "verdict ms", "first verdict ms")
    for column in table.columns[2:]:
        column.justify = "right"
    for number, part in enumerate(ours.parts):
        if stock is not None:
            theirs = stock.parts[number]
            first_ms = theirs.full_ms / theirs.regions
            table.add_row(str(part.regions), "stock handler", *_cells(theirs), f"{first_ms:.1f}")
        table.add_row(str(part.regions), "station", *_cells(part), f"{part.verdict_ms:.1f}")
        if stock is not None:
            table.add_row("", "times faster", *_ratios(stock.parts[number], part))
        share = bench.share_of_limit(row, part.regions)
        table.add_row("", "of the limit", "", "", "", f"{share:.0%}", "", end_section=True)
    return table


def _cells(part: Part) -> list[str]:
    expected = "" if part.expected_ms is None else f"{part.expected_ms:.1f}"
    return [f"{part.full_ms:.1f}", f"{part.full_ms / part.regions:.1f}", expected, f"{part.verdict_ms:.1f}"]


def _ratios(theirs: Part, ours: Part) -> list[str]:
    whole, verdict = theirs.full_ms / ours.full_ms, theirs.verdict_ms / ours.verdict_ms
    expected = "" if ours.expected_ms is None else f"{theirs.full_ms / ours.expected_ms:.1f}"
    first = theirs.full_ms / theirs.regions / ours.verdict_ms
    return [f"{whole:.1f}", "", expected, f"{verdict:.1f}", f"{first:.1f}"]


def _rest(row: Row) -> str:
    lines = []
    for name, side in (("station", row.station), ("stock handler", row.stock)):
        if side is not None:
            gpu = f", GPU {side.gpu_mib:.0f} MiB" if side.gpu_mib else ""
            lines.append(f"{name}: loaded in {side.load_s:.1f} s, process {side.process_mib:.0f} MiB{gpu}")
            lines += [
                f"  {stage.name}: {stage.tokens} tokens in {stage.ms:.1f} ms = {1e3 * stage.tokens / stage.ms:.0f}/s"
                for stage in side.stages
            ]
    return "\n".join(lines)
