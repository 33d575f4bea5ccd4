"""Verbs that look at a station or a picture: watch, check, inspect, status, trace, fsck."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from station.errors import ConfigurationError, StationError
from station.verbs.shared import CONFIG, FAILED, AsJson, Config, app, quiet, settings_of, show

if TYPE_CHECKING:
    from station.records import Verdict


@app.command(epilog="Example: station watch --json --count 10 --since 3:120")
def watch(
    config: Config = CONFIG,
    as_json: AsJson = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many verdicts.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="End after so many seconds.")] = None,
    since: Annotated[str | None, typer.Option(metavar="EPOCH:SEQ", help="First fetch all after this; 0:0 all.")] = None,
) -> None:
    """Print verdicts as they come.

    Exit code 1 if --timeout comes before --count verdicts.
    """
    from station.records import Verdict
    from station.settings import is_of_this_machine
    from station.tables import console, heading
    from station.watch import Gap, Silence
    from station.wiring import watch as subscribe

    quiet()
    position = _position(since)
    settings = settings_of(config)
    seen = 0
    if not as_json:
        console().print(heading(), style="bold")
    with subscribe(settings, position, timeout) as stream:
        for event in stream:
            if isinstance(event, Gap):
                typer.echo(f"Gap: nothing seen after {event.after} until {event.until}; fetching it.", err=True)
            if isinstance(event, Silence):
                address = settings.outputs.publisher.endpoint
                of_keys = "" if is_of_this_machine(address) else " A key that it does not know hears nothing either."
                told = f"Nothing heard from {address} for {event.ms / 1000:g} s. station status tells more.{of_keys}"
                typer.echo(told, err=True)
            if not isinstance(event, Verdict):
                continue
            _print_verdict(event, as_json)
            seen += 1
            if seen == count:
                return
    if count is not None:
        raise StationError(f"{seen} of {count} verdicts within {timeout:g} s.", "Does the station run? station status")


@app.command(epilog="Example: station check --config config.yaml")
def check(
    config: Config = CONFIG,
    as_json: AsJson = False,
    files: Annotated[bool, typer.Option("--files", help="Only what would keep the services from starting.")] = False,
) -> None:
    """Look at everything a station needs; say what to do.

    Exit code 1 if something fails, 2 if configuration or recipe is wrong. Changes nothing.
    """
    from station.check import check as look
    from station.finding import Level
    from station.tables import print_findings

    quiet()
    findings = look(config, files)
    show(findings, print_findings, as_json=as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(FAILED)


@app.command(epilog="Example: station inspect part-4711.jpg --out inspected")
def inspect(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files; they stay where they are.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    out: Annotated[Path, typer.Option(help="Where the annotated pictures go.")] = Path("inspected"),
) -> None:
    """Judge pictures once, without a running station.

    Goes the same way as on the line and writes annotated copies.
    """
    from station.inspect_pictures import inspect as judge
    from station.tables import console, heading

    if missing := [str(image) for image in images if not image.is_file()]:
        raise ConfigurationError([f"{image}: there is no such file." for image in missing])
    quiet()
    settings = settings_of(config)
    if not as_json:
        console().print(heading(), style="bold")
    for verdict in judge(settings, images, out):
        _print_verdict(verdict, as_json)
        if not as_json and verdict.detail:
            typer.echo(f"  {verdict.detail}")
    typer.echo(f"Annotated pictures are below {out}.", err=True)


@app.command(epilog="Example: station status --json")
def status(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Say what runs, what waits and what was judged last."""
    from station.status import status as look
    from station.tables import print_status

    quiet()
    found = look(settings_of(config))
    show(found, print_status, as_json=as_json)


@app.command(epilog="Example: station trace part-4711.jpg")
def trace(
    text: Annotated[str, typer.Argument(metavar="ID", help="A job id, a part id or a picture's file name.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Print all that is known of a job, part or picture.

    Exit code 1 if nothing is.
    """
    from station.json_text import as_text
    from station.tables import print_trace
    from station.trace import trace as find

    found = find(settings_of(config), text)
    if as_json:
        typer.echo(as_text(found))
    else:
        for one in found:
            print_trace(one)
    if not found:
        raise StationError(f"Nothing is known of {text!r}.", "Give a job id, a part id or a picture's whole file name.")


@app.command(epilog="Example: station fsck --json")
def fsck(
    config: Config = CONFIG,
    as_json: AsJson = False,
    hashed: Annotated[bool, typer.Option("--hash", help="Read every picture and compare its hash; slow.")] = False,
) -> None:
    """Check that spool, archive, quarantine and journal agree.

    Exit code 1 if a rule is broken. Changes nothing; the station may run.
    """
    from station.fsck import fsck as look
    from station.tables import print_report

    quiet()
    report = look(settings_of(config), hashed)
    show(report, print_report, as_json=as_json)
    if not report.holds:
        raise typer.Exit(FAILED)


def _position(since: str | None) -> tuple[int, int] | None:
    if since is None:
        return None
    epoch, colon, seq = since.partition(":")
    if not (colon and epoch.isdecimal() and seq.isdecimal()):
        raise typer.BadParameter(f"found {since!r}; expected EPOCH:SEQ, as 3:120", param_hint="--since")
    return int(epoch), int(seq)


def _print_verdict(verdict: "Verdict", as_json: bool) -> None:
    from station import verdict_json
    from station.tables import console, verdict_line

    if as_json:
        typer.echo(verdict_json.encode(verdict).decode())
    else:
        console().print(verdict_line(verdict))
