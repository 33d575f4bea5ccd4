"""Verbs for the PLC and for programs on other machines: keys, opcua-keys, opcua-user, plc-map, plc-sim."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from station.verbs.shared import (
    CONFIG,
    FAILED,
    Config,
    app,
    quiet,
    settings_of,
)


class KeyGroup(StrEnum):
    """Who may connect to what; the values of `key_files.Group`."""

    SUBSCRIBERS = "subscribers"
    CAPTURES = "captures"


class MapFormat(StrEnum):
    """Forms of the register map."""

    MD = "md"
    CSV = "csv"
    ST = "st"


class PlcFault(StrEnum):
    """What `plc-sim` can do wrong; the values of `plc_simulator.Misbehaviour`."""

    NONE = "none"
    DOUBLE_TRIGGER = "double-trigger"
    NO_ACK = "no-ack"
    LATE_ACK = "late-ack"
    HEARTBEAT_LOST = "heartbeat-lost"
    RESTART = "restart"


@app.command(epilog="Example: station keys dashboard --out dashboard-keys")
def keys(
    program: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A program that may connect.")] = None,
    config: Config = CONFIG,
    group: Annotated[KeyGroup, typer.Option(help="Read verdicts, or send jobs.")] = KeyGroup.SUBSCRIBERS,
    out: Annotated[Path | None, typer.Option(help="Folder for the program's keys; default NAME-keys.")] = None,
) -> None:
    """Make keys for the ZeroMQ addresses that other machines reach.

    Without NAME the station's own, if it has none. With NAME one for a program, and let that program in.
    """
    from station.make_keys import make_keys

    quiet()
    for line in make_keys(settings_of(config).keys_folder, program, group.value, out):
        typer.echo(line)


@app.command("opcua-keys", epilog="Example: station opcua-keys run/station/opcua/rejected/0f3a.der")
def opcua_keys(
    certificate: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Of a client that may connect.")] = None,
    config: Config = CONFIG,
) -> None:
    """Make the certificate of the OPC UA server, or trust a client's.

    Without FILE says too who is trusted and who was refused.
    """
    from station.opcua_access import make_keys

    quiet()
    for line in make_keys(settings_of(config), certificate):
        typer.echo(line)


@app.command("opcua-user", epilog="Example: station opcua-user line-1 --control")
def opcua_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, _, . or -.")],
    config: Config = CONFIG,
    control: Annotated[bool, typer.Option("--control", help="May also start, stop, halt and reset.")] = False,
) -> None:
    """Let a user of OPC UA in, or change its password and right.

    Asks for the password; reads a line of stdin when that is no terminal.
    """
    from station.opcua_access import make_user

    quiet()
    settings = settings_of(config)
    asked = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if sys.stdin.isatty() else None
    password = sys.stdin.readline().rstrip("\n") if asked is None else asked
    for line in make_user(settings, name, password, may_control=control):
        typer.echo(line)


@app.command("plc-map", epilog="Example: station plc-map --format csv > registers.csv")
def print_plc_map(
    form: Annotated[MapFormat, typer.Option("--format", help="Markdown, CSV or Structured Text.")] = MapFormat.MD,
) -> None:
    """Print the PLC's register map."""
    from station.outputs import plc_document, plc_export

    forms = {
        MapFormat.MD: plc_document.markdown,
        MapFormat.CSV: plc_export.as_csv,
        MapFormat.ST: plc_export.as_structured_text,
    }
    typer.echo(forms[form]().rstrip("\n"))


@app.command("plc-sim", epilog="Example: station plc-sim --pictures calibration/demo --parts 5 --misbehave no-ack")
def simulate_plc(
    config: Config = CONFIG,
    parts: Annotated[int, typer.Option(min=1, help="End after so many parts.")] = 10,
    window: Annotated[int, typer.Option(min=50, max=60_000, metavar="MS", help="Inspect window of a part.")] = 5_000,
    pictures: Annotated[Path | None, typer.Option(help="Stands for the camera: one picture for each trigger.")] = None,
    misbehave: Annotated[PlcFault, typer.Option(help="What the PLC does wrong.")] = PlcFault.NONE,
    recipe: Annotated[int, typer.Option(min=0, max=65_535, help="Number that the parts need; 0: any.")] = 0,
    accept_simulated: Annotated[bool, typer.Option(help="Pass parts that were judged without a model.")] = False,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Append each act as a line of JSON.")] = None,
) -> None:
    """Be the PLC of a running, triggered station, and show it live.

    Acts by the rules of the shipped function block. Exit code 1 if the line had to stop.
    """
    from station.plc_sim import run as simulate
    from station.plc_simulator import Misbehaviour

    quiet()
    acts = simulate(
        settings_of(config),
        parts=parts,
        window_ms=window,
        pictures=pictures,
        misbehaviour=Misbehaviour(misbehave.value),
        recipe=recipe,
        accepts_simulated=accept_simulated,
        log=log,
    )
    if len(acts) < parts:
        raise typer.Exit(FAILED)
