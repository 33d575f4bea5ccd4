"""A labelled set: a folder of pictures with labels.csv, the known answers. Used by demo, evaluate and calibrate.

Columns: `image` (path relative to the folder), `evaluation`, and optional `part_id`, `region_id` (empty: the whole
image), `pin_count`, `defect_mode`, `defect_position` (several with `;`), `population` (drawn, edited or real), and for
`msa` `station`, `set_up` and `recapture`. One row per image, or one per image and region. Out: `Label`s in the order of
the file, or ConfigurationError with every problem at once.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from station.errors import ConfigurationError
from station.records import Evaluation, Record, RegionReport

FILE_NAME = "labels.csv"
REQUIRED = ("image", "evaluation")
STUDY = ("station", "set_up", "recapture")
OPTIONAL = ("part_id", "region_id", "pin_count", "defect_mode", "defect_position", "population", *STUDY)
POPULATIONS = ("drawn", "edited", "real")


class Label(Record):
    """The known answer for one image, or for one region of it."""

    image: str
    """Path relative to the set's folder."""
    evaluation: Evaluation
    part_id: str | None = None
    region_id: str | None = None
    """None: the whole image."""
    pin_count: int | None = None
    defect_modes: tuple[str, ...] = ()
    defect_positions: tuple[str, ...] = ()
    """Pin ids."""
    population: str | None = None
    """One of POPULATIONS; None: not said."""
    station: str | None = None
    """Whose camera took it."""
    set_up: str | None = None
    """Lamp, fixture, day: what stayed as it was between recaptures."""
    recapture: str | None = None
    """Which taking of the part in its set-up."""


def read_labels(folder: Path) -> tuple[Label, ...]:
    """Return the labels of the set in `folder`. Raises ConfigurationError with every problem of labels.csv."""
    path = folder / FILE_NAME
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            rows = list(reader)
    except OSError as error:
        hint = "A labelled set is a folder with pictures and labels.csv."
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."], hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError([f"{path}: not a CSV file in UTF-8: {error}."]) from error
    problems = [f"{path}:{line}: {text}" for line, row in enumerate(rows, 2) for text in _problems(folder, row)]
    if problems or not rows:
        raise ConfigurationError(problems or [f"{path}: has no rows."])
    return tuple(_label(row) for row in rows)


class Said(Protocol):
    """What was said of a picture: a verdict, or less."""

    @property
    def evaluation(self) -> Evaluation:
        """Of the whole picture."""

    @property
    def regions(self) -> Sequence[RegionReport]:
        """Of each region."""


def differences(labels: list[Label], verdict: Said) -> list[str]:
    """Return in words where the verdict is not what the labels of its image say; only labelled things count."""
    return [text for label in labels for text in _differences(label, verdict)]


def _differences(label: Label, verdict: Said) -> Iterator[str]:
    regions = [region for region in verdict.regions if label.region_id in {None, region.region_id}]
    found = verdict.evaluation if label.region_id is None else regions[0].evaluation if regions else None
    if found is not label.evaluation:
        yield f"{label.evaluation} expected"
    counted = sum(region.pins_counted or 0 for region in regions)
    if label.pin_count is not None and counted != label.pin_count:
        yield f"{label.pin_count} pins expected"
    expected_modes = dict.fromkeys(label.defect_modes)
    modes = {region.defect_mode for region in regions} - {"none"}
    if expected_modes and not modes & set(expected_modes):
        yield f"{';'.join(expected_modes)} expected"
    positions = {pin for region in regions for pin in region.defect_position.split(";")} - {"none"}
    if label.defect_positions and positions != set(label.defect_positions):
        yield f"at {';'.join(label.defect_positions)} expected"


def _check_columns(path: Path, columns: object) -> None:
    found = set(columns) if isinstance(columns, list | tuple) else set()
    problems = [f"{path}:1: column {name} is missing." for name in REQUIRED if name not in found]
    unknown = sorted(str(name) for name in found - {*REQUIRED, *OPTIONAL})
    problems += [f"{path}:1: unknown column {name}; known are {', '.join(REQUIRED + OPTIONAL)}." for name in unknown]
    if problems:
        raise ConfigurationError(problems)


def _problems(folder: Path, row: Mapping[str, str | None]) -> Iterator[str]:
    image = row["image"] or ""
    if not image or Path(image).is_absolute() or ".." in Path(image).parts or not (folder / image).is_file():
        yield f'image: found "{image}"; expected the path of a file in {folder}.'
    if row["evaluation"] not in list(Evaluation):
        yield f'evaluation: found "{row["evaluation"]}"; expected one of {", ".join(Evaluation)}.'
    if (count := row.get("pin_count")) and not count.isdecimal():
        yield f'pin_count: found "{count}"; expected a whole number, or nothing.'
    if (population := row.get("population")) and population not in POPULATIONS:
        yield f'population: found "{population}"; expected one of {", ".join(POPULATIONS)}, or nothing.'


def _label(row: Mapping[str, str | None]) -> Label:
    count = row.get("pin_count")
    return Label(
        image=row["image"] or "",
        evaluation=Evaluation(row["evaluation"] or ""),
        part_id=row.get("part_id") or None,
        region_id=row.get("region_id") or None,
        pin_count=int(count) if count else None,
        defect_modes=_several(row.get("defect_mode")),
        defect_positions=_several(row.get("defect_position")),
        population=row.get("population") or None,
        **{name: row.get(name) or None for name in STUDY},
    )


def _several(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(";") if word.strip() not in {"", "none"})
