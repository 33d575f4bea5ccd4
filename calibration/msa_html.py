"""A measurement system analysis as one HTML page to print: tables, and plots as SVG. Pure; no script, no request."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape

from calibration.agreement import PROVES, Decisions, Kappa, Rate, Reading
from calibration.evaluation import Share
from calibration.evaluation_html import document, table
from calibration.gauge import STATION, Gauge
from calibration.msa import CATEGORIES, LIMITS, RR_SHARE, Criterion, Distance, Grade, Study
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
_PERCENT = frozenset({name for name in LIMITS if "rate" in name} | {"effectiveness", RR_SHARE})
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
            table("", ["set-up", *DECISION_HEAD], map(decision_row, study.decisions)),
            "<h2>The same again: three kinds of repetition</h2>",
            table("", ["pairs that differ only in", *REPETITION_HEAD, "agreement proves"], _repetitions(study)),
            _listed("Parts not decided right every time", list(wrong_parts(study.readings))),
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
        + "".join(f"<td>{escape(text)}</td>" for text in criterion_row(one)[1:4])
        + "".join(_grade(grade) for grade in (one.grade, one.grade_at_limit))
        + "</tr>"
        for one in criteria
    )
    head = "".join(f"<th>{name}</th>" for name in CRITERION_HEAD)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _grade(grade: Grade | None) -> str:
    kind = "bad" if grade is Grade.NOT_ACCEPTABLE else str(grade)
    return f'<td class="{kind}">{grade or "-"}</td>'


CRITERION_HEAD = ("figure", "measured", "95 % limit", "acceptable (marginal)", "measured is", "limit is")
DECISION_HEAD = ("effectiveness, parts", "missed", "false alarms", "undecided", "kappa")
REPETITION_HEAD = ("decisions that differ", "kappa", "largest step of the margin")


def criterion_row(one: Criterion) -> list[str]:
    """Return the cells of CRITERION_HEAD."""
    acceptable, marginal = LIMITS[one.figure]
    sign = "≥" if acceptable > marginal else "≤"
    limit = "-" if one.limit95 is None else f"{sign} {_number(one.figure, one.limit95)}"
    wanted = f"{sign} {_number(one.figure, acceptable)} ({_number(one.figure, marginal)})"
    return [
        one.figure, _number(one.figure, one.value), limit, wanted, str(one.grade), str(one.grade_at_limit or "-")
    ]  # fmt: skip


def _number(figure: str, value: float) -> str:
    if figure in _PERCENT:
        return f"{value:.1%}"
    return f"{value:.0f}" if figure == CATEGORIES else f"{value:.2f}"


def decision_row(one: Decisions) -> list[str]:
    """Return the cells of a set-up and DECISION_HEAD."""
    return [
        one.name, share_text(one.effectiveness), rate_text(one.missed), rate_text(one.false_alarms), str(one.undecided),
        kappa_text(one.kappa),
    ]  # fmt: skip


def _repetitions(study: Study) -> Iterable[list[str]]:
    return ([*repetition, PROVES[repetition[0]]] for repetition in repetition_rows(study))


def repetition_rows(study: Study) -> list[list[str]]:
    """Return for each kind of repetition its cells and those of REPETITION_HEAD."""
    return [
        [
            one.kind, rate_text(one.differing), kappa_text(one.kappa),
            "-" if one.largest_step is None else f"{one.largest_step:.3f}",
        ]
        for one in study.repetitions
    ]  # fmt: skip


def share_text(share: Share) -> str:
    """Return "k/n = share [limits]", in percent."""
    return f"{share.k}/{share.n} = {_percent(share.share, share.lower95, share.upper95)}"


def rate_text(rate: Rate) -> str:
    """Return "k/n = share [limits], parts ever/parts", in percent, or a dash without any."""
    if not rate.parts:
        return "-"
    shares = _percent(rate.share, rate.lower95, rate.upper95)
    return f"{rate.wrong}/{rate.of} = {shares}, {rate.parts_ever}/{rate.parts} parts"


def _percent(share: float, low: float, high: float) -> str:
    return f"{share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def kappa_text(kappa: Kappa) -> str:
    """Return "kappa [limits]"; a dash where chance could not disagree."""
    if kappa.kappa is None:
        return "-"
    return f"{kappa.kappa:.2f} [{kappa.lower95:.2f}, {kappa.upper95:.2f}]"


def _listed(caption: str, lines: Sequence[str]) -> str:
    shown_lines = [
        *lines[:MOST_LISTED],
        *([f"and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []),
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in shown_lines)
    return f'<p class="note"><b>{escape(caption)}</b></p><ul class="note">{items}</ul>' if lines else ""


def wrong_parts(readings: Iterable[Reading]) -> Iterable[str]:
    """Yield each part that was not decided right every time, with what was said of it in each set-up."""
    groups: dict[str, list[Reading]] = defaultdict(list)
    for one in readings:
        groups[one.part].append(one)
    for part, group in groups.items():
        if any(one.is_accepted is one.is_bad for one in group):
            said: dict[str, list[str]] = defaultdict(list)
            for one in group:
                said[one.set_up].append(str(one.said))
            words = "; ".join(f"{set_up}: {' '.join(words)}" for set_up, words in said.items())
            yield f"{part}, {'bad' if group[0].is_bad else 'good'}: {words}"


def _gauge(study: Study) -> str:
    head = "<h2>Gauge R&amp;R of the margin</h2>"
    if study.gauge is None:
        return f'{head}<p class="note">No gauge study: it takes two parts with two recaptures in every set-up.</p>'
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
            table("Components, log odds", ["", *SPREAD_HEAD], spread_rows(study.gauge)),
            table("Analysis of variance", ["source", "sum of squares", "df", "mean square"], sources),
            "</div>",
            table("Good and bad parts by themselves", ["", *DISTANCE_HEAD], distance_rows(study.distances)),
        ]
    )


def _pooling(gauge: Gauge) -> str:
    if gauge.interaction_p is None:
        return ""
    done = "pooled with repeatability" if gauge.is_pooled else "kept"
    return f"The interaction of parts and set-ups has p {gauge.interaction_p:.3g} and is {done}."


SPREAD_HEAD = ("sigma", "95 % limits", "share of total sigma")
DISTANCE_HEAD = ("parts", "mean margin", "limit", "sigma of gauge", "mean to limit, sigmas", "nearest part, sigmas")


def spread_rows(gauge: Gauge) -> list[list[str]]:
    """Return name and cells of SPREAD_HEAD of each component."""
    return [
        [one.name, f"{one.sigma:.3f}", f"[{one.lower95:.3f}, {one.upper95:.3f}]", f"{one.share_of_total:.1%}"]
        for one in gauge.spreads
        if one.name != STATION or gauge.stations > 1
    ]


def distance_rows(distances: dict[str, Distance]) -> list[list[str]]:
    """Return name and cells of DISTANCE_HEAD of good and bad parts."""
    return [
        [
            name, str(one.parts), f"{one.mean:.2f}", f"{one.limit:.2f}", f"{one.sigma:.3f}", _sigmas(one.sigmas),
            f"{_sigmas(one.nearest_sigmas)} ({one.nearest})",
        ]
        for name, one in distances.items()
    ]  # fmt: skip


def _sigmas(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _margins(study: Study) -> str:
    """Return each part's margins as dots, a line for each part, a colour for each set-up."""
    asked = [one for one in study.readings if one.margin is not None]
    if not asked:
        return ""
    order = _ordered(asked)
    margins = [one.margin or 0.0 for one in asked]
    low, high = min(margins), max(margins)
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
