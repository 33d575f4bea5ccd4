"""Verbs that measure and teach: bench, teach, evaluate, msa, challenge, model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from station.errors import StationError
from station.verbs.shared import CONFIG, FAILED, AsJson, Config, app, numbers_of, pair_of, quiet, settings_of, show

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

    quiet()
    settings = settings_of(config)
    manifests = sorted(weights.glob("manifest*.json")) if weights else model or [settings.model]
    if not manifests:
        raise typer.BadParameter(f"{weights} holds no manifest*.json", param_hint="--weights")
    order = benches.Order(
        manifests=tuple(manifests),
        ask=ask,
        size_px=pair_of(size, "--size") if size else None,
        regions=tuple(sorted(numbers_of(regions, "--regions"))),
    )
    measured = benches.bench(settings, order)
    show(measured, bench_table.show, as_json=as_json)
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

    if [pins > 0, tiles is not None, regions is not None].count(True) != 1:
        raise typer.BadParameter("give one of --pins, how many there are, --tiles and --regions")
    known = Known(pins, grid_of(grid, pins), places_of(pin or []), tile)
    found = propose(images, Drawn(regions, tile) if regions else tiles or known, out, camera)
    show(found, print_taught, as_json=as_json)
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

    quiet()
    report = measure(settings_of(config), folder, model or [], out, in_other_words=wordings)
    show(report, print_evaluation, as_json=as_json)
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

    quiet()
    study = run_study(settings_of(config), folder, out)
    show(study, print_study, as_json=as_json)
    typer.echo(f"The page to print: {out / 'msa.html'}", err=True)
    if not study.is_acceptable:
        raise typer.Exit(FAILED)


@app.command(epilog="Example: station challenge --timeout 60")
def challenge(
    config: Config = CONFIG,
    as_json: AsJson = False,
    timeout: Annotated[float, typer.Option(min=1, metavar="S", help="Give up after so many seconds.")] = 120,
) -> None:
    """Have the running station judge samples with known answers.

    Exit code 1 if one is not as it must be: the station is then offline until a challenge passes.
    """
    from station.tables import print_challenge
    from station.wiring import run_challenge

    quiet()
    run = run_challenge(settings_of(config), timeout)
    if run is None:
        raise StationError("The worker has no model to challenge.", "Is engine.kind llama, and is the model loaded?")
    show(run, print_challenge, as_json=as_json)
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
