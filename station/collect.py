"""`station collect DIR`: pictures of overridden parts and what a person said of them, as a labelled set to train with.

In: the overrides, the journal and the archive. Out: DIR with a copy of each picture and labels.csv, as
models/train_lora.py --set and `station evaluate` take it; a second run adds what is new, writes labels.csv anew. Only
parts of the recipe that config.yaml names first. With a second folder a third of the parts goes there instead, to
measure with: by a hash of the part, so that none changes sides. Raises JournalError, OutputError.
"""

import csv
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from station.capture.spool import ORIGINAL
from station.errors import OutputError
from station.journal_reader import JournalReader
from station.labels import FILE_NAME
from station.outputs.archive import day_of
from station.overrides import Override, overrides
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Evaluation, Record, Verdict
from station.settings import Settings

COLUMNS = ("image", "evaluation", "part_id", "region_id", "defect_mode", "defect_position", "population")


class Collected(Record):
    """What became of the overrides."""

    folder: str
    false_rejects: int
    """Good parts that the station did not say OK of: hard negatives."""
    escapes: int
    """Defective parts that it did not say NOT_OK of."""
    agreed: int
    """Parts of which the person says what the verdict says."""
    to_measure: int
    """Of all these, parts that lie in the second folder."""
    left_out: tuple[str, ...]
    """Jobs of another recipe or without picture, in words."""


def collect(settings: Settings, folder: Path, to_measure: Path | None = None) -> Collected:
    """Copy the pictures and write labels.csv; nothing is written if no part can be used.

    `to_measure`: folder for a third of the parts, which the set in `folder` then lacks; None: all are in `folder`.
    """
    recipe, reader = load_recipe(settings.recipe), JournalReader(settings.journal.path)
    used: list[Override] = []
    rows: dict[Path, list[Mapping[str, str]]] = defaultdict(list)
    left_out: list[str] = []
    measured = 0
    try:
        for one in sorted(overrides(settings.journal.path).values(), key=lambda one: one.job_id):
            verdict = reader.of_job(one.job_id)
            picture = _picture(settings, verdict) if verdict else None
            if verdict is None or picture is None or verdict.recipe != recipe.file.recipe:
                left_out.append(f"{one.job_id}: {_why_not(recipe, verdict)}")
                continue
            used.append(one)
            is_apart = to_measure is not None and is_to_measure(verdict.part_id or verdict.job_id)
            measured += is_apart
            to = to_measure if to_measure is not None and is_apart else folder
            rows[to] += _rows(_copied(picture, verdict.job_id, to), verdict, one, recipe)
        for to, lines in rows.items():
            _write(to / FILE_NAME, lines)
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be written: {error.strerror}.", "Look at its rights and the disk."
        ) from error
    good = [one for one in used if one.evaluation is Evaluation.OK]
    return Collected(
        folder=str(folder),
        false_rejects=sum(one.said is not Evaluation.OK for one in good),
        escapes=sum(one.said is not Evaluation.NOT_OK for one in used if one not in good),
        agreed=sum(one.said is one.evaluation for one in used),
        to_measure=measured,
        left_out=tuple(left_out),
    )


def is_to_measure(part: str) -> bool:
    """Return whether a part is kept from training, by its id: the same part always is, or never."""
    return hashlib.sha256(part.encode()).digest()[0] % 3 == 0


def _why_not(recipe: Recipe, verdict: Verdict | None) -> str:
    if verdict is None:
        return "is not in this journal"
    if verdict.recipe != recipe.file.recipe:
        return f"is a part of recipe {verdict.recipe}, not {recipe.file.recipe}"
    return "its picture is not in the archive"


def _picture(settings: Settings, verdict: Verdict) -> Path | None:
    folder = settings.outputs.archive.folder / day_of(verdict.job_id) / verdict.job_id / ORIGINAL
    return next((file for file in sorted(folder.glob("*")) if file.is_file()), None)


def _copied(picture: Path, job_id: str, folder: Path) -> str:
    """Copy the picture into the set, whole or not at all; return its name there."""
    name = f"{job_id}{picture.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}"
    shutil.copyfile(picture, partial)
    partial.replace(folder / name)
    return name


def _rows(image: str, verdict: Verdict, one: Override, recipe: Recipe) -> Iterator[Mapping[str, str]]:
    """Yield the rows of labels.csv of one picture: one, or one a region where it is known which pins are bad."""
    known = {"image": image, "part_id": verdict.part_id or "", "population": "real"}
    if not one.pins:
        yield known | {"evaluation": one.evaluation.value}
        return
    for region in recipe.file.regions:
        bad = [pin for pin in one.pins if pin.region_id == region.region_id]
        yield known | {
            "evaluation": (Evaluation.NOT_OK if bad else Evaluation.OK).value,
            "region_id": region.region_id,
            "defect_mode": ";".join(pin.mode for pin in bad),
            "defect_position": ";".join(pin.pin_id for pin in bad),
        }


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    partial = path.with_name(f".{path.name}")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
