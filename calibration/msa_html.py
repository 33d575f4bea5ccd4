"""A measurement system analysis as one HTML page to print: tables, and plots as SVG. Pure; no script, no request."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape

from calibration import msa_rows
from calibration.agreement import PROVES, Reading
from calibration.evaluation_html import document, table
from calibration.gauge import Gauge
from calibration.msa import Criterion, Grade, Study
from calibration.svg import COLOURS, GREY, Plot

PRINT = """
@page { size: A4; margin: 12mm; }
@media print {
  * { box-sizing: border-box; }
  body { font-size: 7.5pt; line-height: 1.3; margin: 0; max-width: none; padding: 0; }
  h1 { font-size: 13pt; margin: 0; } h2 { font-size: 10pt; margin: .7rem 0 0; break-after: avoid; }
  table { margin: .3rem 0; break-inside: avoid; } th, td { padding: .05rem .35rem; } p, ul { margin: .2rem 0; }
  .note { max-width: none; } .plots { grid-template-columns: 1fr 1fr; } svg { break-inside: avoid; }
}
td, th { white-space: nowrap; } caption:empty { display: none; }
.pair { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.acceptable { color: #1a6b34; } .marginal { color: #8a5a00; }
"""
NOTE = (
    '<p class="note">Limits are one-sided, 95 %. Those of shares are exact (Clopper-Pearson) and counted in parts,'
    " since the readings of one part come together: the share of wrong decisions is not above that of parts that were"
    " ever decided wrong. Those of kappa follow from them. Those of the gauge are generalized confidence limits. A part"
    " is accepted only when it is said OK; no decision counts as a reject, as on the line.</p>"
)
NO_GAUGE = "No gauge study: it takes two parts with two recaptures in every set-up, and as many set-ups a station."
MOST_LISTED = 25


def page(study: Study) -> str:
    """Return the HTML text."""
    return document(
        f"Measurement system analysis of {study.facts.recipe}",
        [
            f"<h1>Measurement system analysis of {escape(study.facts.recipe)}</h1>",
            f'<p class="note">{escape(_header(study))}</p>',
            '<p class="bad">SIMULATED: no model judged this.</p>' if study.facts.is_simulated else "",
            _criteria(study.criteria),
            _listed("What this study does not prove", study.too_small),
            NOTE,
            "<h2>Decisions against the reference</h2>",
            table("", ["set-up", *msa_rows.DECISION_HEAD], map(msa_rows.decision_row, study.decisions)),
            "<h2>The same again: three kinds of repetition</h2>",
            table(
                "", ["pairs that differ only in", *msa_rows.REPETITION_HEAD, "agreement proves"], _repetitions(study)
            ),
            _listed("Parts not decided right every time", list(msa_rows.wrong_parts(study.readings))),
            _gauge(study),
            f'<div class="plots">{_margins(study)}{_ranges(study)}</div>',
        ],
        PRINT,
    )


def _header(study: Study) -> str:
    facts, stations = study.facts, f"{len(study.stations)} stations, " if len(study.stations) > 1 else ""
    return (
        f"Study {facts.name}: {study.good_parts} good and {study.bad_parts} bad parts, {stations}{len(study.set_ups)}"
        f" set-ups ({', '.join(study.set_ups)}), {study.recaptures} recaptures; {len(study.readings)} pictures judged"
        f" on {facts.created_utc} the way of the line. Recipe {facts.recipe_sha256[:12]}, model {facts.model}"
        f" {facts.model_sha256[:12]}."
    )


def _criteria(criteria: Iterable[Criterion]) -> str:
    """Return the table of what is acceptable, grades in colour."""
    rows = "".join(
        f"<tr><td>{escape(one.figure)}</td>"
        + "".join(f"<td>{escape(text)}</td>" for text in msa_rows.criterion_row(one)[1:4])
        + "".join(_grade(grade) for grade in (one.grade, one.grade_at_limit))
        + "</tr>"
        for one in criteria
    )
    head = "".join(f"<th>{name}</th>" for name in msa_rows.CRITERION_HEAD)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _grade(grade: Grade | None) -> str:
    kind = "bad" if grade is Grade.NOT_ACCEPTABLE else str(grade)
    return f'<td class="{kind}">{grade or "-"}</td>'


def _repetitions(study: Study) -> Iterable[list[str]]:
    return ([*repetition, PROVES[repetition[0]]] for repetition in msa_rows.repetition_rows(study))


def _listed(caption: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
    items = "".join(f"<li>{escape(line)}</li>" for line in [*lines[:MOST_LISTED], *more])
    return f'<p class="note"><b>{escape(caption)}</b></p><ul class="note">{items}</ul>' if lines else ""


def _gauge(study: Study) -> str:
    head = "<h2>Gauge R&amp;R of the margin</h2>"
    if study.gauge is None:
        return f'{head}<p class="note">{NO_GAUGE}</p>'
    left_out = f" Left out, a margin is missing: {', '.join(study.left_out)}." if study.left_out else ""
    stations = f"{study.gauge.stations} stations x " if study.gauge.stations > 1 else ""
    text = (
        f"ANOVA on the part's margin, log odds of a defect: {study.gauge.parts} parts x {stations}"
        f"{study.gauge.set_ups} set-ups x {study.gauge.recaptures} recaptures. {_pooling(study.gauge)}{left_out}"
    )
    sources = [
        [one.name, f"{one.sum_of_squares:.4g}", str(one.df), f"{one.sum_of_squares / one.df:.4g}"]
        for one in study.gauge.sources
    ]
    return "".join(
        [
            head,
            f'<p class="note">{escape(text)}</p>',
            '<div class="pair">',
            table("Components, log odds", ["", *msa_rows.SPREAD_HEAD], msa_rows.spread_rows(study.gauge)),
            table("Analysis of variance", ["source", "sum of squares", "df", "mean square"], sources),
            "</div>",
            table(
                "Good and bad parts by themselves",
                ["", *msa_rows.DISTANCE_HEAD],
                msa_rows.distance_rows(study.distances),
            ),
        ]
    )


def _pooling(gauge: Gauge) -> str:
    if gauge.interaction_p is None:
        return ""
    done = "pooled with repeatability" if gauge.is_pooled else "kept"
    return f"The interaction of parts and set-ups has p {gauge.interaction_p:.3g} and is {done}."


def _margins(study: Study) -> str:
    """Return each part's margins as dots, a line for each part, a colour for each set-up."""
    asked = [one for one in study.readings if one.margin is not None]
    if not asked:
        return ""
    order = _ordered(asked)
    margins = [one.margin or 0.0 for one in asked]
    low, high = min(*margins, study.facts.ok_max_margin), max(*margins, study.facts.ok_max_margin)
    room = max(0.5, 0.05 * (high - low))
    plot = Plot("Margins of each part", "log odds of a defect", "part", (low - room, high + room), len(order) + 1)
    for number, set_up in enumerate(study.set_ups):
        dots = [(one.margin or 0.0, order[one.part]) for one in asked if one.set_up == set_up]
        plot.dots(dots, set_up, COLOURS[number % len(COLOURS)])
    plot.mark(study.facts.ok_max_margin, "OK")
    plot.mark(study.facts.not_ok_min_margin, "NOT_OK", row=1)
    return plot.text()


def _ranges(study: Study) -> str:
    """Return the range of each part's margins within each set-up: large ones are parts that depend on how they lie."""
    order = _ordered([one for one in study.readings if one.margin is not None])
    cells: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in study.readings:
        if one.margin is not None:
            cells[one.set_up, one.station, one.part].append(one.margin)
    ranges = {key: max(values) - min(values) for key, values in cells.items() if len(values) > 1}
    if not ranges:
        return ""
    plot = Plot(
        "Range of a part's margins in one set-up",
        "part",
        "log odds",
        (0, len(order) + 1),
        1.5 * max(ranges.values()) or 1,
    )
    for number, set_up in enumerate(study.set_ups):
        dots = [(order[part], value) for (name, _, part), value in ranges.items() if name == set_up]
        plot.dots(dots, set_up, COLOURS[number % len(COLOURS)])
    mean = sum(ranges.values()) / len(ranges)
    plot.line([(0, mean), (len(order) + 1, mean)], f"mean {mean:.2f}", GREY, dashed=True)
    return plot.text()


def _ordered(readings: Sequence[Reading]) -> dict[str, int]:
    """Return part -> 1, 2, 3... by its mean margin, the highest first."""
    margins: dict[str, list[float]] = defaultdict(list)
    for one in readings:
        margins[one.part].append(one.margin or 0.0)
    ranked = sorted(margins, key=lambda part: -sum(margins[part]) / len(margins[part]))
    return {part: number for number, part in enumerate(ranked, 1)}
