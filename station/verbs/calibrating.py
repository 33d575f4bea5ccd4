"""Verbs below `calibrate`: thresholds and their certificate, the camera and the board it is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from station.verbs.shared import CONFIG, FAILED, AsJson, Config, app, pair_of, quiet, settings_of, show

if TYPE_CHECKING:
    from calibration.board import Board

CALIBRATE_EXAMPLE = "Example: station calibrate thresholds SET --max-escape 0.01"
calibrate = typer.Typer(
    no_args_is_help=True, help="Set limits by measurement; measure the camera.", epilog=CALIBRATE_EXAMPLE
)
app.add_typer(calibrate, name="calibrate")


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

    quiet()
    settings = settings_of(config)
    promise = Promise(max_escape=max_escape, max_reject=max_reject, confidence=confidence)
    found, certificate = calibrate_thresholds(settings, folder, promise)
    show(found, print_calibration, as_json=as_json)
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

    report = calibrate_camera(images, _target(squares, square_mm, marker_mm), out)
    show(report, print_camera, as_json=as_json)
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


def _target(squares: str, square_mm: float | None, marker_mm: float | None) -> "Board | float":
    """Return the board, or the side of a marker in mm."""
    from calibration.board import Board

    if (square_mm is None) == (marker_mm is None):
        raise typer.BadParameter("give --square-mm of a board, or --marker-mm of a marker")
    if square_mm is None:
        return marker_mm or 0.0
    columns, rows = pair_of(squares, "--squares")
    if not (3 <= columns <= 40 and 3 <= rows <= 40):
        raise typer.BadParameter(f"found {squares}; expected 3x3 to 40x40", param_hint="--squares")
    return Board(columns, rows, square_mm)
