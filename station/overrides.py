"""`station override PICTURE passed | defective`: what a person says of a part, kept beside its verdict, which stays.

In: Settings and what the person says. Out: a line of overrides.jsonl beside the journal, on disk on return; the newest
line of a job counts. The journal is the worker's alone and its rows never change, so the file is another one. Raises
JournalError for what has no verdict or several, ConfigurationError for pins or modes that the part does not have.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from station.capture.picture_file import shown_name
from station.durable_file import append_line, read_lines
from station.errors import ConfigurationError, JournalError
from station.journal_reader import JournalReader
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Evaluation, Record, RegionReport, Verdict
from station.settings import Settings
from station.who import who

FILE_NAME = "overrides.jsonl"
SHOWN = 3
"""Jobs that are named where several have one name."""


class BadPin(Record):
    """A pin that a person says is bad, and how."""

    region_id: str
    pin_id: str
    mode: str


class Override(Record):
    """One line: what a person says of a part."""

    job_id: str
    evaluation: Evaluation
    """OK or NOT_OK."""
    pins: tuple[BadPin, ...]
    """Empty for a defective part: which pins it is was not said."""
    why: str
    said: Evaluation
    """What the verdict says."""
    recipe_sha256: str
    by: str
    at_utc: str


_DECODER = msgspec.json.Decoder(Override)


def override(
    settings: Settings, name: str, evaluation: Evaluation, pins: Sequence[tuple[str, str]] = (), why: str = ""
) -> Override:
    """Write down what a person says of a judged part.

    `name`: picture, part id or job id, as `trace` takes it. `pins`: (pin id, or region/pin; mode, or "": as was said).
    """
    verdict = _verdict(settings, name)
    line = Override(
        job_id=verdict.job_id,
        evaluation=evaluation,
        pins=tuple(_bad_pin(settings, verdict, name, mode) for name, mode in pins),
        why=why,
        said=verdict.evaluation,
        recipe_sha256=verdict.recipe_sha256,
        by=who(),
        at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = overrides_path(settings.journal.path)
    try:
        append_line(path, line)
    except OSError as error:
        raise JournalError(
            f"{path} cannot be written: {error.strerror}.", "Look at its rights and the disk."
        ) from error
    return line


def overrides_path(journal: Path) -> Path:
    """Return the file that belongs to a journal."""
    return journal.with_name(FILE_NAME)


def overrides(journal: Path) -> dict[str, Override]:
    """Return the newest override of each job. Raises JournalError."""
    path = overrides_path(journal)
    try:
        return {one.job_id: one for one in read_lines(path, _DECODER)}
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}.", "Look at its rights and the disk.") from error


def _verdict(settings: Settings, name: str) -> Verdict:
    journal = settings.journal.path
    found = JournalReader(journal).find(shown_name(name)) if journal.exists() else []
    if not found:
        raise JournalError(
            f"There is no verdict of {name!r}.", "Name a picture, a part id or a job id; see station status."
        )
    if len(found) > 1:
        jobs = ", ".join(f"{one.job_id} {one.evaluation}" for one in found[-SHOWN:])
        raise JournalError(
            f"There are {len(found)} verdicts of {name!r}.", f"Say the job id of one; the newest: {jobs}."
        )
    return found[0]


def recipe_named(settings: Settings, name: str) -> Recipe:
    """Return the recipe of this name that config.yaml names. Raises ConfigurationError if there is none."""
    recipes = [load_recipe(path) for path in dict.fromkeys((settings.recipe, *settings.recipes.values()))]
    found = next((recipe for recipe in recipes if recipe.file.recipe == name), None)
    if found is None:
        raise ConfigurationError([f"{settings.config_path}: names no recipe {name}."], "Name it there again.")
    return found


def _bad_pin(settings: Settings, verdict: Verdict, name: str, mode: str) -> BadPin:
    recipe = recipe_named(settings, verdict.recipe)
    region_id, _, pin_id = name.rpartition("/")
    places = [
        region.region_id
        for region in recipe.file.regions
        if region_id in {"", region.region_id} and any(pin.pin_id == pin_id for pin in region.pins)
    ]
    if len(places) != 1:
        hint = f"It is in {', '.join(places)}: write REGION/{pin_id}." if places else "See the annotated picture."
        raise ConfigurationError(
            [f"{name}: {'several' if places else 'no'} such pins in recipe {verdict.recipe}."], hint
        )
    mode = mode or _said_mode(verdict.regions, places[0], pin_id)
    if mode not in recipe.file.defect_modes:
        modes = ", ".join(recipe.file.defect_modes)
        raise ConfigurationError([f"{name}: how is it bad? found {mode!r}; expected one of {modes}."],
                                 f"Write --pin {name}={recipe.file.defect_modes[0]}.")  # fmt: skip
    return BadPin(places[0], pin_id, mode)


def _said_mode(regions: Sequence[RegionReport], region_id: str, pin_id: str) -> str:
    """Return the mode that the verdict gives this pin, "" if it passed it."""
    pins = (pin for region in regions if region.region_id == region_id for pin in region.pins)
    return next((pin.defect_mode for pin in pins if pin.pin_id == pin_id and pin.defect_mode != "none"), "")
