"""`station msa STUDY`: runs a study's pictures the way of the line, and writes what they say of the measurement system.

In: Settings and a labelled set whose labels.csv has `part_id`, `set_up`, `recapture`, and `station` if there are
several. Out: a Study, and below `out` msa.json, msa.html and verdicts.jsonl. Raises StationError.

Three kinds of repetition are kept apart. The same picture: the first one of each part is judged a second time, by an
engine that was started anew. The same part again: the recaptures. Another set-up or station: the columns say which. A
file that is a copy of another is refused: it would count as a recapture and prove nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from calibration import msa_html
from calibration.agreement import Reading
from calibration.msa import Facts, Study, analysed
from calibration.run_set import LabelledSet
from calibration.seen import Seen, margin_of
from calibration.tables import with_progress
from station import verdict_json
from station.errors import ConfigurationError, OutputError
from station.json_text import as_text
from station.labels import FILE_NAME, Label
from station.recipe_file import load_recipe
from station.records import Evaluation
from station.settings import Settings

HINT = "A study has good and bad parts, each taken in every set-up several times; see docs/calibration.md."


def run_study(settings: Settings, folder: Path, out: Path) -> Study:
    """Judge every picture of the study, the first of each part twice; write the files and return the study."""
    recipe = load_recipe(settings.recipe)
    labelled = LabelledSet(settings, recipe, folder)
    station = settings.station.name
    problems = [*_problems(labelled.labels, station), *_copies(folder, labelled.labels)]
    if problems:
        raise ConfigurationError([f"{folder / FILE_NAME}: {text}" for text in problems], HINT)
    seen = list(with_progress(labelled.seen(), len(labelled), "judging"))
    firsts = {one.part: one for one in reversed(seen)}
    second = LabelledSet(settings, recipe, folder, only={one.image for one in firsts.values()})
    again = list(with_progress(second.seen(), len(second), "judging again"))
    readings = {one.image: _reading(one, labelled.labels[one.image][0], station) for one in seen}
    twice = [(readings[one.image], _reading(one, labelled.labels[one.image][0], station)) for one in again]
    model, thresholds = seen[-1].verdict.model, recipe.file.thresholds
    facts = Facts(
        name=folder.resolve().name,
        recipe=recipe.file.recipe,
        recipe_sha256=recipe.sha256,
        model=model.name,
        model_sha256=model.sha256,
        is_simulated=any(one.verdict.is_simulated for one in seen),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        ok_max_margin=margin_of(thresholds.ok_max_p_defect),
        not_ok_min_margin=margin_of(thresholds.not_ok_min_p_defect),
    )
    study = analysed(facts, list(readings.values()), twice)
    _write(out, study, [*seen, *again])
    return study


def _reading(seen: Seen, label: Label, station: str) -> Reading:
    return Reading(
        image=seen.image,
        part=seen.part,
        is_bad=seen.truth is Evaluation.NOT_OK,
        station=label.station or station,
        set_up=label.set_up or "",
        recapture=label.recapture or "",
        said=seen.said,
        margin=seen.margin,
    )


def _problems(labels: Mapping[str, Sequence[Label]], station: str) -> Iterator[str]:
    """Yield what keeps the labels from being a study; `station`: whose pictures they are where no other is named."""
    truths: dict[str, set[bool]] = defaultdict(set)
    taken: dict[tuple[str | None, ...], str] = {}
    for image, rows in labels.items():
        first = rows[0]
        missing = [name for name in ("part_id", "set_up", "recapture") if not getattr(first, name)]
        if missing:
            yield f"{image}: {', '.join(missing)}: nothing given."
            continue
        if any(row.evaluation not in {Evaluation.OK, Evaluation.NOT_OK} for row in rows):
            yield f"{image}: evaluation: expected OK or NOT_OK: a reference says what is right."
        key = (first.part_id, first.station or station, first.set_up, first.recapture)
        if key in taken:
            yield f"{image}: the same part, station, set-up and recapture as {taken[key]}."
        taken[key] = image
        truths[str(first.part_id)].add(any(row.evaluation is Evaluation.NOT_OK for row in rows))
    yield from (
        f"part {part} is good in one picture and bad in another." for part, both in truths.items() if both > {True}
    )


def _copies(folder: Path, images: Mapping[str, object]) -> Iterator[str]:
    """Yield each picture that is a copy of an earlier one."""
    first: dict[str, str] = {}
    for image in images:
        try:
            digest = hashlib.sha256((folder / image).read_bytes()).hexdigest()
        except OSError as error:
            yield f"{image}: cannot be read: {error.strerror}."
            continue
        if digest in first:
            yield f"{image} is a copy of {first[digest]}: put the part in again and take a new picture."
        first.setdefault(digest, image)


def _write(out: Path, study: Study, seen: Sequence[Seen]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "msa.json").write_text(as_text(study) + "\n", encoding="utf-8")
        (out / "msa.html").write_text(msa_html.page(study), encoding="utf-8")
        (out / "verdicts.jsonl").write_bytes(b"".join(verdict_json.encode(one.verdict) + b"\n" for one in seen))
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Choose another folder with --out.") from error
