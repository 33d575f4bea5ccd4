"""The command line: verbs only, no logic. Each verb imports what it needs when it is used, so that --help is quick.

Exit codes: 0 done, 1 failed while running, 2 bad configuration or arguments. Data goes to stdout, messages to stderr.
An error the station raises on purpose is printed as text, never as a traceback.
"""

import errno
import logging
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from station.errors import ConfigurationError, StationError

if TYPE_CHECKING:
    from station.records import Verdict
    from station.settings import Settings

FAILED = 1
WRONG_CONFIGURATION = 2

CALIBRATE_EXAMPLE = "Example: station calibrate thresholds SET --max-escape 0.01"

app = typer.Typer(
    help="Edge inspection station: pictures of parts in, verdicts at the PLC and on ZeroMQ out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

calibrate = typer.Typer(no_args_is_help=True, help="Set limits by measurement.", epilog=CALIBRATE_EXAMPLE)
app.add_typer(calibrate, name="calibrate")
MODEL_EXAMPLE = "Example: station model promote models/NAME/manifest.json"
releases = typer.Typer(no_args_is_help=True, help="Change the model that judges, or go back.", epilog=MODEL_EXAMPLE)
app.add_typer(releases, name="model")

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The station's configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
CONFIG = Path("config.yaml")


class MapFormat(StrEnum):
    """Forms of the register map."""

    MD = "md"
    CSV = "csv"
    ST = "st"


class Ask(StrEnum):
    """How a recipe asks; the values of `RecipeFile.ask`."""

    PINS = "pins"
    REPORT = "report"


class KeyGroup(StrEnum):
    """Who may connect to what; the values of `key_files.Group`."""

    SUBSCRIBERS = "subscribers"
    CAPTURES = "captures"


class PlcFault(StrEnum):
    """What `plc-sim` can do wrong; the values of `plc_simulator.Misbehaviour`."""

    NONE = "none"
    DOUBLE_TRIGGER = "double-trigger"
    NO_ACK = "no-ack"
    LATE_ACK = "late-ack"
    HEARTBEAT_LOST = "heartbeat-lost"
    RESTART = "restart"


def main() -> int:
    """Run the command line and return the exit code."""
    try:
        app()
    except ConfigurationError as error:
        _say(error)
        is_disk_fault = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO
        return FAILED if is_disk_fault else WRONG_CONFIGURATION  # systemd tries again what may pass by itself
    except StationError as error:
        _say(error)
        return FAILED
    except BrokenPipeError:
        # The reader of stdout, as `head`, has what it wanted. Nothing may be written at exit either.
        sys.stdout = None
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


@app.command(epilog="Example: station run --config config.yaml")
def run(config: Config = CONFIG) -> None:
    """Start the station in the foreground; Ctrl-C ends it."""
    from station.processes import Processes
    from station.recipe_file import load_recipe

    _log()
    settings = _settings(config)
    load_recipe(settings.recipe)  # what is wrong is said once, not by each of them
    stop = _stop_on_signal(signal.SIGHUP)  # the terminal was closed
    with Processes(config, with_opcua=settings.outputs.opcua.enabled) as processes:
        raise typer.Exit(processes.wait(stop))


@app.command(epilog="Example: station capture --config config.yaml")
def capture(config: Config = CONFIG) -> None:
    """Run the capture service: hot folder in, jobs out."""
    from station.processes import end_with_parent
    from station.wiring import run_capture

    end_with_parent()
    _log()
    run_capture(_settings(config), _stop_on_signal())


@app.command(epilog="Example: station worker --config config.yaml")
def worker(config: Config = CONFIG) -> None:
    """Run the worker service: jobs in, verdicts out."""
    from station.processes import end_with_parent
    from station.wiring import run_worker

    end_with_parent()
    _log()
    run_worker(_settings(config), _stop_on_signal())


@app.command(epilog="Example: station opcua --config config.yaml")
def opcua(config: Config = CONFIG) -> None:
    """Run the OPC UA server: verdicts in, results and events out."""
    from station.processes import end_with_parent
    from station.wiring import run_opcua

    end_with_parent()
    _log()
    run_opcua(_settings(config), _stop_on_signal())


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

    _quiet()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its services must not outlive it
    raise typer.Exit(show(_settings(config), pictures, out, console()))


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

    _quiet()
    position = _position(since)
    settings = _settings(config)
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
    from station.json_text import as_text
    from station.tables import print_findings

    _quiet()
    findings = look(config, files)
    if as_json:
        typer.echo(as_text(findings))
    else:
        print_findings(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(FAILED)


@app.command(epilog="Example: station bench --regions 1,27 --plot bench.png")
def bench(
    config: Config = CONFIG,
    model: Annotated[
        list[Path] | None, typer.Option(metavar="MANIFEST", help="Releases to measure; else the configuration's.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Measure every release in a folder."),
    ] = None,
    regions: Annotated[str, typer.Option(metavar="N,N", help="Regions a part.")] = "1,4,9,27",
    ask: Annotated[Ask | None, typer.Option(help="How to ask; else as the recipe does.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the pictures, px; else the recipe's.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the bars as PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine judges, against llama-cpp-python's own handler."""
    from station import bench as benches
    from station import bench_picture, bench_table
    from station.json_text import as_text

    _quiet()
    settings = _settings(config)
    manifests = sorted(weights.glob("manifest*.json")) if weights else model or [settings.model]
    order = benches.Order(
        manifests=tuple(manifests),
        ask=ask,
        size_px=_pair(size, "--size") if size else None,
        regions=tuple(sorted(_numbers(regions, "--regions"))),
    )
    measured = benches.bench(settings, order)
    if as_json:
        typer.echo(as_text(measured))
    else:
        bench_table.show(measured)
    if plot:
        bench_picture.plot(bench_table.bars(measured), bench_table.title(measured), plot)


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
    _quiet()
    settings = _settings(config)
    if not as_json:
        console().print(heading(), style="bold")
    for verdict in judge(settings, images, out):
        _print_verdict(verdict, as_json)
        if not as_json and verdict.detail:
            typer.echo(f"  {verdict.detail}")
    typer.echo(f"Annotated pictures are below {out}.", err=True)


@app.command(epilog="Example: station teach golden.png --pins 27 --grid 3x9 --out calibration/recipes/NAME")
def teach(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Good parts; the first becomes golden.")],
    pins: Annotated[int, typer.Option(min=0, max=999, help="How many pins the part has.")] = 0,
    grid: Annotated[
        str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Their grid; without it all are tried.")
    ] = None,
    pin: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="Not a grid: the place of a pin; what is like it is found.")
    ] = None,
    tile: Annotated[int | None, typer.Option(metavar="PX", min=16, max=512, help="Side of a pin's tile.")] = None,
    tiles: Annotated[
        int | None, typer.Option(metavar="PX", min=16, max=512, help="No pins: tiles of this side over everything.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The recipe's folder; hand edits in it are kept.")] = Path("taught"),
    as_json: AsJson = False,
) -> None:
    """Propose a recipe from golden pictures.

    Writes golden.png, recipe.yaml and overlay.png, which must be looked at. Exit code 1 if the draft cannot
    be used yet.
    """
    from calibration.layout import Known, grid_of, places_of
    from calibration.tables import print_taught
    from calibration.teach import teach as propose
    from station.json_text import as_text

    if (pins == 0) == (tiles is None):
        raise typer.BadParameter("give --pins, how many there are, or --tiles")
    found = propose(images, tiles or Known(pins, grid_of(grid, pins), places_of(pin or []), tile), out)
    if as_json:
        typer.echo(as_text(found))
    else:
        print_taught(found)
    typer.echo(f"Look at {out / 'overlay.png'}: each cross must sit on its pin.", err=True)
    if found.problems:
        raise typer.Exit(FAILED)


@app.command(epilog="Example: station evaluate calibration/demo --out evaluation")
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set: pictures and labels.csv.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    model: Annotated[list[Path] | None, typer.Option(metavar="MANIFEST", help="A model; several are compared.")] = None,
    out: Annotated[Path, typer.Option(help="Where evaluation.html, .json and the verdicts go.")] = Path("evaluation"),
) -> None:
    """Measure how right the station is on a labelled set.

    Judges the way of the line: errors with exact limits, curves, the worst pictures; the OpenCV baseline beside it.
    """
    from calibration.evaluate import evaluate as measure
    from calibration.tables import print_evaluation
    from station.json_text import as_text

    _quiet()
    report = measure(_settings(config), folder, model or [], out)
    if as_json:
        typer.echo(as_text(report))
    else:
        print_evaluation(report)
    typer.echo(f"Plots and the worst pictures: {out / 'evaluation.html'}", err=True)


@calibrate.command(epilog="Example: station calibrate thresholds SET --max-escape 0.01 --confidence 0.95")
def thresholds(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set, not used in training.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    max_escape: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of defective parts said OK.")] = 0.01,
    max_reject: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of good parts said NOT_OK.")] = 0.01,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="That each of the two holds.")] = 0.95,
    write: Annotated[bool, typer.Option("--write", help="Put the limits into recipe.yaml.")] = False,
) -> None:
    """Find limits that keep a promise, and write the certificate.

    Exit code 1 if the set is too small; it says how many more parts are needed.
    """
    from calibration.calibrate import apply, calibrate_thresholds
    from calibration.tables import print_calibration
    from calibration.thresholds import Promise
    from station.json_text import as_text

    _quiet()
    settings = _settings(config)
    promise = Promise(max_escape=max_escape, max_reject=max_reject, confidence=confidence)
    found, certificate = calibrate_thresholds(settings, folder, promise)
    if as_json:
        typer.echo(as_text(found))
    else:
        print_calibration(found)
    if found.limits is None:
        raise typer.Exit(FAILED)
    if write:
        apply(settings.recipe, found.limits)
    typer.echo(f"Certificate: {certificate}", err=True)


@calibrate.command(epilog="Example: station calibrate carry-over SET")
def carry_over(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="The set that the certificate was made with.")],
    config: Config = CONFIG,
) -> None:
    """Let the certificate hold for another release of the station.

    Judges its reference pictures again. Exit code 2 if a score moved: then calibrate anew.
    """
    from calibration.calibrate import carry_over as carry

    _quiet()
    typer.echo(f"The certificate holds for this release: {carry(_settings(config), folder)}", err=True)


@app.command(epilog="Example: station challenge --timeout 60")
def challenge(
    config: Config = CONFIG,
    as_json: AsJson = False,
    timeout: Annotated[float, typer.Option(min=1, metavar="S", help="Give up after so many seconds.")] = 120,
) -> None:
    """Have the running station judge samples with known answers.

    Exit code 1 if one is not as it must be: the station is then offline until a challenge passes.
    """
    from station.json_text import as_text
    from station.tables import print_challenge
    from station.wiring import run_challenge

    _quiet()
    run = run_challenge(_settings(config), timeout)
    if run is None:
        raise StationError("The worker has no model to challenge.", "Is engine.kind llama, and is the model loaded?")
    if as_json:
        typer.echo(as_text(run))
    else:
        print_challenge(run)
    if not run.is_passed:
        raise typer.Exit(FAILED)


@releases.command("list", epilog="Example: station model list --json")
def list_releases(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Show the releases beside the active one and whether each was found better."""
    from station.json_text import as_text
    from station.model_releases import releases as found_beside

    for release in found_beside(_settings(config)):
        words = release.problem or f"{release.name} {release.sha256[:12]}: {release.gate}"
        mark = "active" if release.is_active else "      "
        typer.echo(as_text(release) if as_json else f"{mark}  {release.manifest}  {words}")


@releases.command("compare", epilog="Example: station model compare models/NAME/manifest.json SET")
def compare_releases(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of the new release.")],
    folder: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set, not used in training.")],
    config: Config = CONFIG,
    out: Annotated[Path, typer.Option(help="Where the evaluation of both goes.")] = Path("comparison"),
) -> None:
    """Measure a new release against the active one; exit code 1 if it is not better.

    Only one that is better can be promoted.
    """
    from calibration.gate import compare

    _quiet()
    gate = compare(_settings(config), manifest, folder, out)
    for reason in gate.reasons:
        typer.echo(reason)
    typer.echo("better" if gate.is_better else "not better: it cannot be promoted")
    if not gate.is_better:
        raise typer.Exit(FAILED)


@releases.command("promote", epilog=MODEL_EXAMPLE)
def promote_release(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of a release that was found better.")],
    config: Config = CONFIG,
) -> None:
    """Make a release the active one: config.yaml names it, models.jsonl says so; then restart the worker."""
    from station.model_releases import promote

    change = promote(_settings(config), manifest)
    typer.echo(f"Active from the worker's next start: {change.manifest}; before: {change.before}")


@releases.command("rollback", epilog="Example: station model rollback")
def roll_back(config: Config = CONFIG) -> None:
    """Go back to the release that was active before the last change; then restart the worker."""
    from station.model_releases import rollback

    change = rollback(_settings(config))
    typer.echo(f"Active from the worker's next start: {change.manifest}; before: {change.before}")


@app.command(epilog="Example: station status --json")
def status(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Say what runs, what waits and what was judged last."""
    from station.json_text import as_text
    from station.status import status as look
    from station.tables import print_status

    _quiet()
    found = look(_settings(config))
    if as_json:
        typer.echo(as_text(found))
    else:
        print_status(found)


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

    found = find(_settings(config), text)
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
    from station.json_text import as_text
    from station.tables import print_report

    _quiet()
    report = look(_settings(config), hashed)
    if as_json:
        typer.echo(as_text(report))
    else:
        print_report(report)
    if not report.holds:
        raise typer.Exit(FAILED)


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

    _quiet()
    for line in make_keys(_settings(config).keys_folder, program, group.value, out):
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

    _quiet()
    for line in make_keys(_settings(config), certificate):
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

    _quiet()
    settings = _settings(config)
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

    _quiet()
    acts = simulate(
        _settings(config),
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


def _settings(config: Path) -> "Settings":
    from station.settings_file import load_settings

    return load_settings(config)


def _numbers(text: str, option: str, separator: str = ",") -> list[int]:
    """Return whole numbers above 0 from a list as 1,4,9."""
    parts = text.split(separator)
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 100_000 for part in parts):
        raise typer.BadParameter(f"found {text!r}; expected whole numbers above 0, as 1{separator}4", param_hint=option)
    return [int(part) for part in parts]


def _pair(text: str, option: str) -> tuple[int, int]:
    numbers = _numbers(text, option, "x")
    if len(numbers) != 2:
        raise typer.BadParameter(f"found {text!r}; expected width x height, as 256x256", param_hint=option)
    return numbers[0], numbers[1]


def _stop_on_signal(*more: signal.Signals) -> threading.Event:
    """Return an event that SIGTERM (systemd), SIGINT (Ctrl-C) and `more` set.

    SIGHUP does nothing else: a changed configuration is checked first, see ExecReload in systemd/.
    """
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT, *more):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def _log() -> None:
    """Log to stderr, not without end; under systemd without time, because journald adds its own."""
    from station.log_limit import LogLimit

    time = "%(asctime)s " if sys.stderr.isatty() else ""
    handler = logging.StreamHandler()
    handler.addFilter(LogLimit())
    logging.basicConfig(level=logging.INFO, format=f"{time}%(levelname)s %(name)s: %(message)s", handlers=[handler])


def _quiet() -> None:
    """Keep libraries from talking between the lines: what matters is in the findings and errors."""
    logging.disable(logging.ERROR)


def _say(error: StationError) -> None:
    for line in (error.message, error.hint):
        if line:
            typer.echo(line, err=True)


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


if __name__ == "__main__":
    sys.exit(main())
