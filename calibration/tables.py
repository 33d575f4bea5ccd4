"""What the calibration verbs print for people, and their progress bar. The only home of rich here.

Data goes to stdout, progress to stderr; without a terminal there is no bar and no colour.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from calibration import msa_rows
from calibration.camera import CameraReport
from calibration.evaluation import ModelReport, PlaceErrors, SetReport
from calibration.evaluation_html import judges, shown
from calibration.msa import Study
from calibration.teach import Taught
from calibration.thresholds import Calibration
from station.records import Evaluation

T = TypeVar("T")
PIPE_COLUMNS = 240


def with_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, and on a terminal show on stderr how far it is."""
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            progress.advance(task)
            yield item


def print_evaluation(report: SetReport) -> None:
    """Print the evaluation's figures; curves and pictures are in the HTML file."""
    out = _console()
    out.print(f"{report.pictures} pictures of {report.parts} parts, recipe {report.recipe}\n", markup=False)
    if any(model.is_simulated for model in report.models):
        out.print("SIMULATED: no model judged this.\n", style="reverse")
    columns = judges(report)
    names = list(dict.fromkeys(name for _, rates in columns for name in rates))
    rows = [[name, *(shown(rates.get(name)) for _, rates in columns)] for name in names]
    _print(out, ["k of n [95 % limits]", *(name for name, _ in columns)], rows)
    for model in report.models:
        _print_model(out, model)
    for one in report.comparisons:
        out.print(
            f"only {one.first} right: {one.only_first_right}, only {one.second} right: {one.only_second_right},"
            f" p {one.p_value:.3g} (McNemar)",
            markup=False,
        )


def print_calibration(found: Calibration) -> None:
    """Print limits, what they rest on, and what is too small."""
    out = _console()
    groups = [[name, str(group.good), str(group.bad)] for name, group in found.groups.items()]
    _print(out, ["parts", "good", "defective"], groups)
    for text in found.too_small:
        out.print(f"too small  {text}", markup=False)
    for text in found.challenged:
        out.print(f"challenge  {text}", markup=False)
    if found.limits is None:
        why = "the challenge fails at any OK limit" if found.challenged else "nothing can be promised with these parts"
        out.print(f"\nNo limits: {why}.", style="bold")
        return
    if found.challenged:
        out.print("\nSo OK ends below these, lower than the parts alone allow.", style="bold")
    out.print(
        f"\ntemperature {found.limits.temperature:.3f}; OK up to p(defect) {found.limits.ok_max_p_defect:.6g}"
        f" (log odds {found.limits.t_lo:.1f}), NOT_OK from {found.limits.not_ok_min_p_defect:.6g}"
        f" (log odds {found.limits.t_hi:.1f})\n",
        markup=False,
    )
    both = [(name, one) for name, one in (("calibrate", found.calibrate), ("verify", found.verify)) if one]
    names = ["escapes", "rejects", "undecided_good", "undecided_bad"]
    rows = [[name.replace("_", ", "), *(shown(getattr(one, name)) for _, one in both)] for name in names]
    for what in ("escapes_by_mode", "escapes_by_population", "rejects_by_population"):
        keys = sorted({key for _, one in both for key in getattr(one, what)})
        rows += [
            [f"{what.partition('_')[0]}, {key}", *(shown(getattr(one, what).get(key)) for _, one in both)]
            for key in keys
        ]
    _print(out, ["k of n [95 % limits]", *(name for name, _ in both)], rows)
    out.print(f"\nVerifying: {found.verified}.", markup=False)


def print_camera(report: CameraReport) -> None:
    """Print what each view says, what must hold, and what to do where it does not."""
    out = _console()
    rows = [[one.image, str(one.corners), f"{one.error_px:.3f}", f"{one.tilt_deg:.0f}"] for one in report.views]
    _print(out, ["view", "corners", "error px", "tilt deg"], rows)
    for image in report.without_board:
        out.print(f"{image}: not used, too little of the target is seen", markup=False)
    out.print()
    checks = [[one.what, one.found, one.wanted, "good" if one.is_good else "NOT GOOD"] for one in report.checks]
    _print(out, ["", "found", "wanted", ""], checks)
    out.print(f"\n{report.px_per_mm:.4f} px per mm, pictures of {report.size_px[0]} x {report.size_px[1]} px")
    for one in report.checks:
        if not one.is_good:
            out.print(f"{one.what}: {one.to_do}", markup=False)
    out.print("Good." if report.is_good else "Not good enough: no camera.yaml was written.", style="bold")


def print_study(study: Study) -> None:
    """Print a measurement system analysis; plots are in the HTML file."""
    out = _console()
    out.print(
        f"{study.good_parts} good and {study.bad_parts} bad parts, {len(study.set_ups)} set-ups, {study.recaptures}"
        f" recaptures, recipe {study.facts.recipe}",
        markup=False,
    )
    if study.facts.is_simulated:
        out.print("SIMULATED: no model judged this.", style="reverse")
    _print(out, [*msa_rows.CRITERION_HEAD], [msa_rows.criterion_row(one) for one in study.criteria])
    _print(out, ["set-up", *msa_rows.DECISION_HEAD], [msa_rows.decision_row(one) for one in study.decisions])
    _print(out, ["pairs", *msa_rows.REPETITION_HEAD], msa_rows.repetition_rows(study))
    if study.gauge is not None:
        _print(out, ["log odds", *msa_rows.SPREAD_HEAD], msa_rows.spread_rows(study.gauge))
        _print(out, ["parts", *msa_rows.DISTANCE_HEAD], msa_rows.distance_rows(study.distances))
    for text in msa_rows.wrong_parts(study.readings):
        out.print(f"wrong: {text}", markup=False)
    for text in study.too_small:
        out.print(f"not proven: {text}", markup=False)


def print_taught(found: Taught) -> None:
    """Print what teaching came to."""
    out = _console()
    out.print(f"{found.layout}, score {found.score:.2f}; {found.fiducials} fiducials", markup=False)
    for text in found.renamed:
        out.print(text, markup=False)
    for key in found.kept:
        out.print(f"kept from your recipe.yaml: {key}", markup=False)
    for one in found.found:
        said = one.detail if one.residual_px is None else f"found, residual {one.residual_px:.2f} px"
        out.print(f"{one.image}: {said}", markup=False)
    for problem in found.problems:
        out.print(f"problem: {problem}", markup=False)


def _console() -> Console:
    """Return where data is printed; in a pipe no line is broken at 80 columns."""
    out = Console(highlight=False, soft_wrap=True)
    return out if out.is_terminal else Console(highlight=False, soft_wrap=True, width=PIPE_COLUMNS)


def _print_model(out: Console, model: ModelReport) -> None:
    area = "-" if model.curves.roc_area is None else f"{model.curves.roc_area:.5f}"
    out.print(f"\n{model.model.name} {model.model.sha256[:12]}: area under ROC {area}", markup=False)
    words = [str(word) for word in Evaluation]
    rows = [[f"known {truth}", *(str(said.get(word, 0)) for word in words)] for truth, said in model.confusion.items()]
    _print(out, ["", *(f"said {word}" for word in words)], rows)
    modes = [[mode, shown(found), shown(model.escapes_by_mode[mode])] for mode, found in model.found_by_mode.items()]
    _print(out, ["mode", "found (NOT_OK)", "escaped (OK)"], modes)
    wrong = [[one.place, shown(one.missed), shown(one.false_alarms)] for one in model.places if _is_wrong(one)]
    _print(out, ["pin", "missed", "false alarms"], wrong)
    for worst in model.worst:
        if worst.truth is not worst.said:
            margin = "-" if worst.margin is None else f"{worst.margin:.2f}"
            text = f"wrong: {worst.image}: known {worst.truth} {worst.known}, said {worst.said}, margin {margin}"
            out.print(text, markup=False)


def _is_wrong(one: PlaceErrors) -> bool:
    return bool(one.missed.k or one.false_alarms.k)


def _print(out: Console, head: list[str], rows: list[list[str]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)
