"""`station evaluate SET`: how right the station is on a labelled set, for one model or several side by side.

In: Settings, the set's folder, manifests of models (none: the one in the settings). Out: a SetReport, and below `out`
evaluation.json, verdicts.jsonl (one line a picture and model) and evaluation.html. Raises StationError.
"""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from calibration import evaluation, evaluation_html, wordings
from calibration.evaluation import SetReport, Share
from calibration.run_set import LabelledSet
from calibration.seen import Seen, parts_of
from calibration.tables import with_progress
from station import verdict_json
from station.errors import OutputError
from station.json_text import as_text
from station.recipe_file import load_recipe
from station.settings import Settings


def evaluate(
    settings: Settings, folder: Path, models: Sequence[Path], out: Path, *, in_other_words: bool = False
) -> SetReport:
    """Judge every picture of the set with every model, write the files and return the report.

    `in_other_words`: ask about some of the pictures again, in other words.
    """
    labelled = LabelledSet(settings, load_recipe(settings.recipe), folder)
    asked: Sequence[Path | None] = models or [None]
    runs = [_run(labelled, model) for model in asked]
    report = _report(labelled, runs)
    if in_other_words:
        some = LabelledSet(settings, labelled.recipe, folder, only=wordings.spread(list(labelled.labels)))
        reworded = (wordings.changed_by_wording(some, seen, model) for seen, model in zip(runs, asked, strict=True))
        report = _with_rates(report, list(reworded))
    pictures = {
        f"{model.model.sha256}/{one.image}": labelled.annotated_jpeg(one)
        for model, seen in zip(report.models, runs, strict=True)
        for one in evaluation.worst_first(seen)[: evaluation.WORST]
    }
    _write(out, report, runs, pictures)
    return report


def _with_rates(report: SetReport, more: Sequence[dict[str, Share]]) -> SetReport:
    models = (
        msgspec.structs.replace(model, rates=model.rates | rates)
        for model, rates in zip(report.models, more, strict=True)
    )
    return msgspec.structs.replace(report, models=tuple(models))


def _run(labelled: LabelledSet, model: Path | None) -> list[Seen]:
    name = model.parent.name if model else "judging"
    return list(with_progress(labelled.seen(model), len(labelled), name))


def _report(labelled: LabelledSet, runs: Sequence[Sequence[Seen]]) -> SetReport:
    recipe, first = labelled.recipe, runs[0]
    models = [evaluation.model_report(seen) for seen in runs]
    names = [f"{model.model.name} {model.model.sha256[:8]}" for model in models]
    return SetReport(
        labelled_set=labelled.folder.name,
        recipe=recipe.file.recipe,
        recipe_sha256=recipe.sha256,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        pictures=len(first),
        parts=len(parts_of(first)),
        ok_max_p_defect=recipe.file.thresholds.ok_max_p_defect,
        not_ok_min_p_defect=recipe.file.thresholds.not_ok_min_p_defect,
        models=tuple(models),
        baseline=evaluation.baseline_report(first),
        comparisons=tuple(
            evaluation.compared(runs[a], runs[b], (names[a], names[b]))
            for a, b in itertools.combinations(range(len(runs)), 2)
        ),
    )


def _write(out: Path, report: SetReport, runs: Sequence[Sequence[Seen]], pictures: dict[str, bytes]) -> None:
    verdicts = b"".join(verdict_json.encode(one.verdict) + b"\n" for seen in runs for one in seen)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(as_text(report) + "\n", encoding="utf-8")
        (out / "evaluation.html").write_text(evaluation_html.page(report, pictures), encoding="utf-8")
        (out / "verdicts.jsonl").write_bytes(verdicts)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Choose another folder with --out.") from error
