"""The evaluation as one HTML file: tables, plots as SVG, the worst pictures inside. Pure; no script, no request.

In: a SetReport and the annotated pictures as JPEG. Out: text for one file that opens anywhere, also without network.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from calibration.evaluation import ModelReport, SetReport, Share
from calibration.seen import margin_of
from calibration.svg import COLOURS, GREY, Plot
from station.records import Evaluation

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #1b1e23; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { margin-top: 2.2rem; border-bottom: 2px solid #d7dae0; }
table { border-collapse: collapse; margin: .8rem 0; } th, td { padding: .22rem .7rem; text-align: right; }
th { background: #eef0f3; } td:first-child, th:first-child { text-align: left; }
tr + tr td { border-top: 1px solid #e3e5e9; }
caption { white-space: nowrap; text-align: left; font-weight: 600; padding: .3rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); gap: 1rem; }
svg { width: 100%; background: #fff; border: 1px solid #d7dae0; font: 11px system-ui, sans-serif; }
svg .title { font-weight: 600; font-size: 13px; } svg .small { font-size: 10px; } svg .grid { stroke: #e6e8ec; }
.bad { color: #b3261e; font-weight: 600; } .note { color: #4b5058; max-width: 50rem; }
figure { margin: 0; } figure img { width: 100%; border: 1px solid #d7dae0; } figcaption { font-size: .85rem; }
"""
NOTE = (
    '<p class="note">k of n; in brackets the exact one-sided 95 % limits: the true share is below the upper, and above'
    " the lower one, each with 95 % confidence. No decision is a verdict that is neither OK nor NOT_OK; the line"
    " rejects it. The baseline is the per-pin difference to the golden picture with one limit, set on the other half"
    " of the parts.</p>"
)


def page(report: SetReport, pictures: Mapping[str, bytes]) -> str:
    """Return the HTML text. `pictures`: JPEG bytes by image name, shown where a worst picture is listed."""
    parts = [
        f"<h1>Evaluation of {escape(report.recipe)} on {escape(report.labelled_set)}</h1>",
        f'<p class="note">{escape(_header(report))}</p>',
        _simulated(report),
        "<h2>Errors</h2>",
        _rates(report),
        NOTE,
        _comparisons(report),
        f'<div class="plots">{_joint_plots(report)}</div>',
        *(_model(model, report, pictures) for model in report.models),
    ]
    return document(f"Evaluation of {report.recipe}", parts)


def document(title: str, parts: Iterable[str], more_style: str = "") -> str:
    """Return a whole HTML file of these parts."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}{more_style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _header(report: SetReport) -> str:
    return (
        f"{report.pictures} pictures of {report.parts} parts, judged on {report.created_utc} the way of the line."
        f" Recipe {report.recipe_sha256[:12]}: OK at p(defect) up to {report.ok_max_p_defect:g}, NOT_OK from"
        f" {report.not_ok_min_p_defect:g}."
    )


def _simulated(report: SetReport) -> str:
    if not any(model.is_simulated for model in report.models):
        return ""
    return '<p class="bad">SIMULATED: no model judged this. The figures say nothing about a product.</p>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table; cells are text."""
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption><tr>{top}</tr>{body}</table>" if lines else ""


def shown(share: Share | None) -> str:
    """Return "k of n = share [limits]", or a dash without any."""
    if share is None or not share.n:
        return "-"
    return f"{share.k} of {share.n} = {share.share:.2%} [{share.lower95:.2%}, {share.upper95:.2%}]"


def judges(report: SetReport) -> list[tuple[str, Mapping[str, Share]]]:
    """Return name and rates of every judge: the models, then the baseline."""
    found: list[tuple[str, Mapping[str, Share]]] = [(_name(model), model.rates) for model in report.models]
    return [*found, ("OpenCV baseline", report.baseline.rates)] if report.baseline else found


def _name(model: ModelReport) -> str:
    return f"{model.model.name} {model.model.sha256[:8]}"


def _rates(report: SetReport) -> str:
    columns = judges(report)
    names = list(dict.fromkeys(name for _, rates in columns for name in rates))
    rows = [[name, *(shown(rates.get(name)) for _, rates in columns)] for name in names]
    return table("", ["", *(name for name, _ in columns)], rows)


def _comparisons(report: SetReport) -> str:
    rows = [
        [f"{one.first} | {one.second}", str(one.only_first_right), str(one.only_second_right), f"{one.p_value:.3g}"]
        for one in report.comparisons
    ]
    return table(
        "Same pictures, different verdicts", ["", "only first right", "only second right", "p (McNemar)"], rows
    )


def _joint_plots(report: SetReport) -> str:
    roc = Plot("ROC, pictures", "false reject share", "found share", (0.0, 1.0))
    pr = Plot("Precision and recall, pictures", "recall", "precision", (0.0, 1.0))
    lines = [(_name(model), model.curves) for model in report.models]
    lines += [("OpenCV baseline", report.baseline.curves)] if report.baseline else []
    for k, (name, curve) in enumerate(lines):
        colour = GREY if name == "OpenCV baseline" else COLOURS[k % len(COLOURS)]
        area = f"{curve.roc_area:.4f}" if curve.roc_area is not None else "-"
        roc.line(curve.roc, f"{area} {name}", colour)
        pr.line(curve.precision_recall, name, colour)
    return roc.text() + pr.text()


def _model(model: ModelReport, report: SetReport, pictures: Mapping[str, bytes]) -> str:
    words = [str(word) for word in Evaluation]
    confusion = [
        [f"known {truth}", *(str(model.confusion[truth].get(word, 0)) for word in words)] for truth in model.confusion
    ]
    modes = [[mode, shown(found), shown(model.escapes_by_mode[mode])] for mode, found in model.found_by_mode.items()]
    wrong = [one for one in model.places if one.missed.k or one.false_alarms.k or one.undecided]
    places = [[one.place, shown(one.missed), shown(one.false_alarms), str(one.undecided)] for one in wrong]
    clean = len(model.places) - len(wrong)
    return "".join(
        [
            f"<h2>{escape(_name(model))}</h2>",
            f'<p class="note">{escape(_facts(model))}</p>',
            table("Verdicts", ["", *(f"said {word}" for word in words)], confusion),
            table("Defective pictures by mode", ["", "found (NOT_OK)", "escaped (OK)"], modes),
            table(
                "Pins counted minus pins known", ["difference", "pictures"], [*map(_pair, model.count_errors.items())]
            ),
            table(
                f"Pins with errors ({clean} others have none)", ["pin", "missed", "false alarms", "undecided"], places
            ),
            f'<div class="plots">{_reliability(model)}{_margins(model, report)}</div>',
            "<h3>The worst pictures</h3>",
            f'<div class="plots">{"".join(_worst(model, pictures))}</div>',
        ]
    )


def _pair(item: tuple[str, int]) -> list[str]:
    return [item[0], str(item[1])]


def _facts(model: ModelReport) -> str:
    loss = f"log loss {model.log_loss:.4f}, Brier {model.brier:.4f}; " if model.log_loss is not None else ""
    return f"Model {model.model.sha256}. {loss}{model.ms_median:.0f} ms a picture (median, capture and model)."


def _reliability(model: ModelReport) -> str:
    plot = Plot("Reliability: what p(defect) means", "p(defect) said", "share defective", (0.0, 1.0))
    plot.line(((0, 0), (1, 1)), "", GREY, dashed=True)
    for one in model.curves.reliability:
        plot.limits(one.predicted, one.observed, one.lower95, one.upper95, COLOURS[0])
    return plot.text()


def _margins(model: ModelReport, report: SetReport) -> str:
    found = model.curves.histogram
    if found is None:
        return ""
    highest = float(max([1, *found.good, *found.bad]))
    plot = Plot("Margins of pictures", "log odds of a defect", "pictures", (found.edges[0], found.edges[-1]), highest)
    plot.bars(found.edges, found.good, "good", COLOURS[0])
    plot.bars(found.edges, found.bad, "defective", COLOURS[1])
    plot.mark(margin_of(report.ok_max_p_defect), "OK")
    plot.mark(margin_of(report.not_ok_min_p_defect), "NOT_OK", row=1)
    return plot.text()


def _worst(model: ModelReport, pictures: Mapping[str, bytes]) -> Iterable[str]:
    for one in model.worst:
        data = pictures.get(f"{model.model.sha256}/{one.image}")
        source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else ""
        picture = f'<img src="{source}" alt="{escape(one.image)}">' if data else ""
        margin = "" if one.margin is None else f", margin {one.margin:.2f}"
        wrong = "" if one.truth is one.said else ' class="bad"'
        words = f"known {one.truth}{f' {one.known}' if one.known else ''}; <span{wrong}>said {one.said}</span>{margin}"
        yield f"<figure>{picture}<figcaption>{escape(one.image)}: {words}</figcaption></figure>"
