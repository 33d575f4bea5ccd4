"""Verbs by which the station learns from people and from a second model: override, collect, model shadow."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from station.verbs.measuring import releases
from station.verbs.shared import CONFIG, FAILED, AsJson, Config, app, quiet, settings_of


class Word(StrEnum):
    """What a person says of a part."""

    PASSED = "passed"
    DEFECTIVE = "defective"


@app.command(epilog="Example: station override part-4711.jpg defective --pin A3=bent")
def override(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="Name of the picture, part id or job id.")],
    word: Annotated[Word, typer.Argument(metavar="passed|defective", help="What the part really is.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    pin: Annotated[
        list[str] | None, typer.Option(metavar="PIN=MODE", help="A bad pin and how; without a mode, as was said.")
    ] = None,
    why: Annotated[str, typer.Option(help="A note for people.")] = "",
) -> None:
    """Write down what a person says of a judged part; its verdict stays as it is.

    The newest word on a job counts. Nothing at the PLC or on the stream changes.
    """
    from station.json_text import as_text
    from station.overrides import override as write_down
    from station.records import Evaluation

    if pin and word is Word.PASSED:
        raise typer.BadParameter("a part that passed has no bad pin", param_hint="--pin")
    evaluation = Evaluation.OK if word is Word.PASSED else Evaluation.NOT_OK
    pins = [(name, mode) for name, _, mode in (text.partition("=") for text in pin or [])]
    line = write_down(settings_of(config), picture, evaluation, pins, why)
    bad = ", ".join(f"{one.region_id}/{one.pin_id} {one.mode}" for one in line.pins)
    typer.echo(
        as_text(line) if as_json else f"{picture}: {word} by {line.by}{f' ({bad})' if bad else ''}; was {line.said}"
    )


@app.command(epilog="Example: station collect training/overridden")
def collect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The labelled set; made, or brought up to date.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
    to_measure: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A third of the parts goes there instead: not to be learned from."),
    ] = None,
) -> None:
    """Collect the pictures of overridden parts as a labelled set, to train with or to measure on.

    Exit code 1 if there is none that can be used.
    """
    from station.collect import collect as gather
    from station.json_text import as_text

    quiet()
    found = gather(settings_of(config), folder, to_measure)
    if as_json:
        typer.echo(as_text(found))
    else:
        typer.echo(f"{found.false_rejects} good parts not said OK, {found.escapes} defective ones not said NOT_OK,"
                   f" {found.agreed} as the verdict says: {folder}")  # fmt: skip
        if to_measure:
            typer.echo(f"{found.to_measure} of them instead in {to_measure}, to measure with")
        for line in found.left_out:
            typer.echo(f"left out: {line}", err=True)
    if not found.false_rejects + found.escapes + found.agreed:
        typer.echo("No overridden part can be used, so nothing was written. See station override.", err=True)
        raise typer.Exit(FAILED)


@releases.command("shadow", epilog="Example: station model shadow models/NAME/manifest.json")
def shadow(
    manifest: Annotated[
        Path | None, typer.Argument(help="manifest.json of the release to judge beside the active one.")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
    off: Annotated[bool, typer.Option("--off", help="No release is judged beside it any more.")] = False,
) -> None:
    """Have a second model judge beside the active one without outputs; without a manifest: what it said so far.

    config.yaml names it; restart the services then.
    """
    from station.json_text import as_text
    from station.model_releases import set_shadow
    from station.status import shadow_report
    from station.tables import print_shadow

    quiet()
    settings = settings_of(config)
    if off or manifest:
        set_shadow(settings, manifest)
        typer.echo(f"From the services' next start: {f'shadow {manifest}' if manifest else 'no shadow'}.")
        return
    found = shadow_report(settings)
    if as_json:
        typer.echo(as_text(found))
    else:
        print_shadow(found, settings.shadow)
