"""Verbs that run the station: run, capture, worker, opcua, demo; and that take it off the line: offline, online."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from station.verbs.shared import (
    CONFIG,
    Config,
    app,
    quiet,
    settings_of,
    start_log,
    stop_on_signal,
)


@app.command(epilog="Example: station run --config config.yaml")
def run(config: Config = CONFIG) -> None:
    """Start the station in the foreground; Ctrl-C ends it."""
    from station.processes import Processes
    from station.recipe_file import load_recipe

    start_log()
    settings = settings_of(config)
    load_recipe(settings.recipe)  # what is wrong is said once, not by each of them
    stop = stop_on_signal(signal.SIGHUP)  # the terminal was closed
    with Processes(config, with_opcua=settings.outputs.opcua.enabled) as processes:
        raise typer.Exit(processes.wait(stop))


@app.command(epilog="Example: station capture --config config.yaml")
def capture(config: Config = CONFIG) -> None:
    """Run the capture service: hot folder in, jobs out."""
    from station.processes import end_with_parent
    from station.wiring import run_capture

    end_with_parent()
    start_log()
    run_capture(settings_of(config), stop_on_signal())


@app.command(epilog="Example: station worker --config config.yaml")
def worker(config: Config = CONFIG) -> None:
    """Run the worker service: jobs in, verdicts out."""
    from station.processes import end_with_parent
    from station.wiring import run_worker

    end_with_parent()
    start_log()
    run_worker(settings_of(config), stop_on_signal())


@app.command(epilog="Example: station opcua --config config.yaml")
def opcua(config: Config = CONFIG) -> None:
    """Run the OPC UA server: verdicts in, results and events out."""
    from station.processes import end_with_parent
    from station.wiring import run_opcua

    end_with_parent()
    start_log()
    run_opcua(settings_of(config), stop_on_signal())


@app.command(epilog="Example: station demo")
def demo(
    config: Config = CONFIG,
    pictures: Annotated[Path, typer.Option(help="A labelled set: pictures and labels.csv.")] = Path("calibration/demo"),
    out: Annotated[Path, typer.Option(help="Where annotated pictures and the log are kept.")] = Path("demo-output"),
) -> None:
    """Watch a complete station judge the shipped pictures.

    Needs no camera, GPU or PLC. Exit code 1 if a verdict is not the known answer.
    """
    from station.demo import demo as show
    from station.tables import console

    quiet()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its services must not outlive it
    raise typer.Exit(show(settings_of(config), pictures, out, console()))


@app.command(epilog="Example: station offline --because 'the lens is cleaned'")
def offline(
    config: Config = CONFIG,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks at station status.")] = "",
) -> None:
    """Take the station off the line until `station online`; over restarts too.

    The PLC sees offline (OfflineReason 4) and gets no OK. Pictures that come are judged and kept all the same.
    """
    from station.operator_offline import go_offline

    order = go_offline(settings_of(config).journal.path, because)
    typer.echo(f"Offline {order.text}. The worker, if it runs, shows it to the PLC at once.")


@app.command(epilog="Example: station online")
def online(config: Config = CONFIG) -> None:
    """Give the station back to the line, after `station offline`."""
    from station.operator_offline import go_online

    was_off = go_online(settings_of(config).journal.path)
    typer.echo("Given back to the line." if was_off else "No operator had taken it off the line.")
