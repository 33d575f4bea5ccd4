"""`station demo`: a whole station judges a labelled set in front of you. No camera, GPU or PLC needed.

In: Settings (recipe, model, engine), a labelled set, and a folder for what is kept. The real capture and worker run as
processes; pictures come through the hot folder, verdicts back over ZeroMQ, and the registers are read with a Modbus
client. Every verdict is held against its label and against what the PLC was told. Out: exit code 0 if all were right.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from station import tables
from station.demo_station import DemoStation
from station.labels import Label, differences, read_labels
from station.outputs.archive import ANNOTATED_NAME
from station.outputs.plc_state import is_pass
from station.recipe_file import load_recipe
from station.records import Record, Verdict
from station.settings import Settings

LOG_NAME = "station.log"
BEYOND_DEADLINE_S = 15
"""A verdict that is not there so long after the recipe's deadline will not come."""


class Judged(Record):
    """One picture of the demonstration."""

    verdict: Verdict
    wrong: tuple[str, ...]
    """Where verdict or PLC differ from what is known, in words; empty: right."""
    after_s: float
    """From the start of the services."""


def demo(settings: Settings, pictures: Path, out: Path, console: Console) -> int:
    """Show the station at work and return the exit code. Raises StationError if it does not work at all."""
    labels = read_labels(pictures)
    recipe = load_recipe(settings.recipe)
    names = list(dict.fromkeys(label.image for label in labels))
    out.mkdir(parents=True, exist_ok=True)
    console.print(
        f"Station with recipe {recipe.file.recipe}, {len(names)} pictures of {pictures}.\n"
        f"hot folder -> capture -> ZeroMQ -> worker, engine {settings.engine.kind} -> PLC registers, stream, archive\n",
        highlight=False,
    )
    with DemoStation(settings, out / LOG_NAME) as station:
        timeout_s = recipe.file.deadline_ms / 1000 + BEYOND_DEADLINE_S
        judged = _shown(_judged(station, pictures, labels, names, timeout_s), len(names), console)
        station.stop_services()
        kept = _keep(station.settings.outputs.archive.folder, judged, out)
    _print_summary(judged, kept, out, console)
    return 0 if all(not one.wrong for one in judged) else 1


def _judged(
    station: DemoStation, pictures: Path, labels: Sequence[Label], names: Sequence[str], timeout_s: float
) -> Iterator[Judged]:
    """Drop one picture after another and yield what becomes of each."""
    start_s = time.monotonic()
    station.wait_until_online()
    for name in names:
        station.drop(pictures / name)
        verdict = station.next_verdict(timeout_s)
        known = [label for label in labels if label.image == name]
        wrong = (*differences(known, verdict), *_plc_differences(verdict, station.plc.status()))
        yield Judged(verdict=verdict, wrong=wrong, after_s=time.monotonic() - start_s)


def _plc_differences(verdict: Verdict, shown: dict[str, int]) -> Iterator[str]:
    """Yield where the registers say something else than the verdict on the stream."""
    expected = {
        "InspectionId": verdict.seq & 0xFFFF,
        "ResultsValid": 1,
        "OK": int(is_pass(verdict)),
        "NG": int(not is_pass(verdict)),
        "ResultEvaluation": verdict.evaluation.code,
        "ReasonCode": int(verdict.reason),
    }
    for name, value in expected.items():
        if shown[name] != value:
            yield f"PLC {name} is {shown[name]}, not {value}"


def _shown(results: Iterator[Judged], total: int, console: Console) -> list[Judged]:
    """Print each result as it comes, above a progress bar on a terminal; return them all."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    judged = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model", total=total)
        console.print(f"{tables.heading()}  result", style="bold", highlight=False, soft_wrap=True)
        for one in results:
            judged.append(one)
            progress.update(task, advance=1, description="judging")
            console.print(tables.verdict_line(one.verdict), _result(one), soft_wrap=True)
    return judged


def _result(judged: Judged) -> Text:
    return Text(f" wrong: {', '.join(judged.wrong)}", style="bold red") if judged.wrong else Text(" right")


def _keep(archive: Path, judged: Sequence[Judged], out: Path) -> int:
    """Copy the annotated pictures out of the temporary archive, under the pictures' names; return how many."""
    names = {one.verdict.job_id: one.verdict.image.name for one in judged}
    annotated = list(archive.glob(f"*/*/{ANNOTATED_NAME}"))
    for source in annotated:
        shutil.copyfile(source, out / f"{Path(names[source.parent.name]).stem}.{ANNOTATED_NAME}")
    return len(annotated)


def _print_summary(judged: Sequence[Judged], kept: int, out: Path, console: Console) -> None:
    wrong = sum(bool(one.wrong) for one in judged)
    console.print(
        f"\n{len(judged) - wrong} right, {wrong} wrong of {len(judged)} against the known answers;"
        f" first verdict after {judged[0].after_s:.1f} s, all after {judged[-1].after_s:.1f} s.\n"
        "Each verdict came over ZeroMQ and was compared with the PLC's registers, read over Modbus TCP.\n"
        f"{kept} annotated pictures are in {out}, the services' log is {out / LOG_NAME}.",
        highlight=False,
        soft_wrap=True,
    )
