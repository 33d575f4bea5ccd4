"""Verbs that measure and teach: bench, teach, evaluate, msa, calibrate, challenge, model."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from station.errors import StationError
from station.verbs.shared import CONFIG, FAILED, AsJson, Config, app, quiet, settings_of

if TYPE_CHECKING:
    from calibration.board import Board

CALIBRATE_EXAMPLE = "Example: station calibrate thresholds SET --max-escape 0.01"
calibrate = typer.Typer(no_args_is_help=True, help="Set limits by measurement.", epilog=CALIBRATE_EXAMPLE)
app.add_typer(calibrate, name="calibrate")
MODEL_EXAMPLE = "Example: station model promote models/NAME/manifest.json"
releases = typer.Typer(no_args_is_help=True, help="Change the model that judges, or go back.", epilog=MODEL_EXAMPLE)
app.add_typer(releases, name="model")


class Ask(StrEnum):
    """How a recipe asks; the values of `RecipeFile.ask`."""

    PINS = "pins"
    REPORT = "report"


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

    quiet()
    settings = settings_of(config)
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
    *,
    regions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Drawn regions and pins: COCO, labelme, CVAT or YOLO.")
    ] = None,
    camera: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The camera's calibration, camera.yaml; pictures are corrected.")
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
    from calibration.teach import Drawn
    from calibration.teach import teach as propose
    from station.json_text import as_text

    if [pins > 0, tiles is not None, regions is not None].count(True) != 1:
        raise typer.BadParameter("give one of --pins, how many there are, --tiles and --regions")
    known = Known(pins, grid_of(grid, pins), places_of(pin or []), tile)
    found = propose(images, Drawn(regions, tile) if regions else tiles or known, out, camera)
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
    wordings: Annotated[
        bool, typer.Option("--wordings", help="Ask about some pictures again, in four other wordings.")
    ] = False,
) -> None:
    """Measure how right the station is on a labelled set.

    Judges the way of the line: errors with exact limits, curves, the worst pictures; the OpenCV baseline beside it.
    """
    from calibration.evaluate import evaluate as measure
    from calibration.tables import print_evaluation
    from station.json_text import as_text

    quiet()
    report = measure(settings_of(config), folder, model or [], out, in_other_words=wordings)
    if as_json:
        typer.echo(as_text(report))
    else:
        print_evaluation(report)
    typer.echo(f"Plots and the worst pictures: {out / 'evaluation.html'}", err=True)


@app.command(epilog="Example: station msa STUDY --out msa")
def msa(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="A labelled set with part_id, set_up, recapture.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    out: Annotated[Path, typer.Option(help="Where msa.html, msa.json and the verdicts go.")] = Path("msa"),
) -> None:
    """Analyse the station as a measurement system.

    Attribute agreement and gauge R&R by the AIAG's manual. Exit code 1 if a figure is not acceptable.
    """
    from calibration.run_study import run_study
    from calibration.tables import print_study
    from station.json_text import as_text

    quiet()
    study = run_study(settings_of(config), folder, out)
    if as_json:
        typer.echo(as_text(study))
    else:
        print_study(study)
    typer.echo(f"The page to print: {out / 'msa.html'}", err=True)
    if not study.is_acceptable:
        raise typer.Exit(FAILED)


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

    quiet()
    settings = settings_of(config)
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

    quiet()
    typer.echo(f"The certificate holds for this release: {carry(settings_of(config), folder)}", err=True)


@calibrate.command(epilog="Example: station calibrate camera flat.png tilted-*.png --squares 11x8 --square-mm 10")
def camera(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="The target; in the first flat where the parts lie.")
    ],
    squares: Annotated[str, typer.Option(metavar="COLUMNSxROWS", help="Squares of the board.")] = "11x8",
    square_mm: Annotated[float | None, typer.Option(min=0.1, max=1000, help="Side of a square, measured.")] = None,
    marker_mm: Annotated[
        float | None, typer.Option(min=0.1, max=1000, help="No board: side of an ArUco marker; gives the scale alone.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The calibration.")] = Path("camera.yaml"),
    as_json: AsJson = False,
) -> None:
    """Measure the lens and the pixels a millimetre.

    From pictures of a ChArUco board. Writes the calibration, and an overlay that must be looked at. Exit code 1 if it
    is not good enough; it says what to do, and no calibration is written.
    """
    from calibration.camera import calibrate_camera, overlay_path
    from calibration.tables import print_camera
    from station.json_text import as_text

    report = calibrate_camera(images, _target(squares, square_mm, marker_mm), out)
    if as_json:
        typer.echo(as_text(report))
    else:
        print_camera(report)
    typer.echo(f"Look at {overlay_path(out)}: each line must lie on the edges of the squares.", err=True)
    if not report.is_good:
        raise typer.Exit(FAILED)
    typer.echo(f"Calibration: {out}. Next: station teach IMAGE... --camera {out}", err=True)


@calibrate.command(epilog="Example: station calibrate board --squares 11x8 --square-mm 10 --out board.png")
def board(
    squares: Annotated[str, typer.Option(metavar="COLUMNSxROWS", help="How many squares.")] = "11x8",
    square_mm: Annotated[float | None, typer.Option(min=1, max=200, help="Side of a square.")] = None,
    marker_mm: Annotated[float | None, typer.Option(min=1, max=500, help="One marker of this side instead.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A PNG that says how large it is.")] = Path("board.png"),
) -> None:
    """Draw the board to print for `station calibrate camera`, true to size.

    Print it at 100 %, measure a square, and glue it on something flat.
    """
    from calibration.board import Board, drawn_board, drawn_marker, write_print

    target = _target(squares, square_mm, marker_mm)
    write_print(out, drawn_board(target) if isinstance(target, Board) else drawn_marker(target))
    typer.echo(f"{out}: print at 100 %, then measure: only what is measured counts.", err=True)


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

    quiet()
    run = run_challenge(settings_of(config), timeout)
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

    for release in found_beside(settings_of(config)):
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

    quiet()
    gate = compare(settings_of(config), manifest, folder, out)
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

    change = promote(settings_of(config), manifest)
    typer.echo(f"Active from the worker's next start: {change.manifest}; before: {change.before}")


@releases.command("rollback", epilog="Example: station model rollback")
def roll_back(config: Config = CONFIG) -> None:
    """Go back to the release that was active before the last change; then restart the worker."""
    from station.model_releases import rollback

    change = rollback(settings_of(config))
    typer.echo(f"Active from the worker's next start: {change.manifest}; before: {change.before}")


def _target(squares: str, square_mm: float | None, marker_mm: float | None) -> "Board | float":
    """Return the board, or the side of a marker in mm."""
    from calibration.board import Board

    if (square_mm is None) == (marker_mm is None):
        raise typer.BadParameter("give --square-mm of a board, or --marker-mm of a marker")
    if square_mm is None:
        return marker_mm or 0.0
    columns, rows = _pair(squares, "--squares")
    if not (3 <= columns <= 40 and 3 <= rows <= 40):
        raise typer.BadParameter(f"found {squares}; expected 3x3 to 40x40", param_hint="--squares")
    return Board(columns, rows, square_mm)


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
