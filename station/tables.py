"""What the command line prints for people. Data goes to stdout; nothing here decides anything.

A verdict is one line of fixed columns, so that it can be printed as it comes and read in a pipe. Colour only says again
what the words say, and only on a terminal.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from station.challenge import ChallengeRun
from station.finding import Finding, Level
from station.fsck import Report
from station.records import Evaluation, Reason, Registration, Verdict
from station.shadow import ShadowReport
from station.status import Status
from station.trace import Trace

COLUMNS = (
    ("image", 26),
    ("evaluation", 13),
    ("p(defect)", 9),
    ("pins", 7),
    ("mode or reason", 20),
    ("position", 12),
    ("ms", 6),
)
"""Heading and width of the columns of a verdict line."""
_RIGHT = frozenset({"p(defect)", "pins", "ms"})
_STYLES = {
    Evaluation.OK: "green",
    Evaluation.NOT_OK: "red",
    Evaluation.NOT_DECIDABLE: "yellow",
    Evaluation.UNDEFINED: "magenta",
}
_LEVEL_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def console() -> Console:
    """Return where data is printed; no colour, and no wrapping at 80 columns, when it is not a terminal."""
    return Console(highlight=False, soft_wrap=True)


def heading() -> str:
    """Return the heading of verdict lines."""
    return _line([name for name, _ in COLUMNS])


def verdict_line(verdict: Verdict) -> Text:
    """Return the verdict as one line."""
    line = Text(_line(_cells(verdict)))
    start = COLUMNS[0][1] + 2
    if verdict.is_simulated:
        line.append("  simulated", "reverse")
    line.stylize(_STYLES[verdict.evaluation], start, start + COLUMNS[1][1])
    return line


def print_findings(findings: Iterable[Finding]) -> None:
    """Print what `station check` found, and below each finding what to do."""
    out = console()
    for finding in findings:
        out.print(Text.assemble((f"{finding.level:4}  ", _LEVEL_STYLES[finding.level]), f"{finding.what:14}  "), end="")
        out.print(finding.found, markup=False)
        if finding.to_do:
            out.print(f"{'':22}-> {finding.to_do}", markup=False)


def print_report(report: Report) -> None:
    """Print what `station fsck` found: counts, then each rule, and below a broken one what breaks it."""
    out = console()
    counts = ", ".join(f"{word} {count}" for word, count in report.evaluations.items())
    out.print(
        f"{report.accepted} pictures accepted: {report.open} open, {report.judged} judged"
        f"{f' ({counts})' if counts else ''}; {report.archived} in the archive, {report.quarantined} in quarantine,"
        f" {report.taken_away} taken away ({report.by_retention} by retention); {report.epochs} starts of the worker.",
        markup=False,
    )
    for rule in report.rules:
        word, style = ("ok", "green") if not rule.broken else ("FAIL", "red")
        out.print(Text.assemble((f"{word:4}  ", style), f"{rule.name:14}  {rule.says}"))
        for line in rule.found:
            out.print(f"{'':22}-> {line}", markup=False)
        if rule.broken > len(rule.found):
            out.print(f"{'':22}-> and {rule.broken - len(rule.found)} more", markup=False)


def print_challenge(run: ChallengeRun) -> None:
    """Print each step of a challenge, and below one that failed what is wrong."""
    out = console()
    for step in run.steps:
        word, style = ("FAIL", "red") if step.problem else ("ok", "green")
        out.print(Text.assemble((f"{word:4}  ", style), f"{step.guard:5}{step.name:24}  must be {step.wanted}"))
        if step.problem:
            out.print(f"{'':6}-> {step.problem}", markup=False)
    out.print(f"Challenge ({run.cause}) of {run.model.name}: {_end_of(run)}", markup=False)


def _end_of(run: ChallengeRun) -> str:
    if run.is_passed:
        return f"all {len(run.steps)} passed."
    return f"{len(run.problems)} of {len(run.steps)} failed: nothing is OK until a challenge passes."


def print_status(status: Status) -> None:
    """Print what runs, what waits and what was judged last."""
    out = console()
    for name, text in _status_rows(status):
        out.print(f"{name:12}{text}", markup=False)
    if status.last:
        out.print("\n" + heading(), style="bold")
    for verdict in status.last:
        out.print(verdict_line(verdict))


def print_shadow(found: ShadowReport, configured: Path | None) -> None:
    """Print what the shadow said beside the active model, and each job they differ over."""
    out = console()
    out.print(f"shadow      {_shadow(found) if configured or found.judged else 'none'}", markup=False)
    if found.active and found.shadow:
        out.print(f"releases    active {found.active.name} {found.active.sha256[:12]},"
                  f" shadow {found.shadow.name} {found.shadow.sha256[:12]}", markup=False)  # fmt: skip
        for name, errors in (("active", found.active_errors), ("shadow", found.shadow_errors)):
            out.print(f"{name:12}{errors.escapes} escapes of {found.defective}, {errors.false_rejects} false rejects"
                      f" of {found.good} parts that a person judged", markup=False)  # fmt: skip
    for one in found.differences:
        said = (("active", one.active_said, one.active_bad), ("shadow", one.shadow_said, one.shadow_bad))
        words = ", ".join(" ".join(filter(None, (who, what, ";".join(bad)))) for who, what, bad in said)
        out.print(f"{one.job_id}  {words}{f'; really {one.truth}' if one.truth else ''}", markup=False)


def _shadow(found: ShadowReport) -> str:
    judged = f"{found.judged} judged, {found.agreed} of them like the active model, {found.dropped} dropped"
    return f"{judged}; does not judge: {found.problem}" if found.problem else judged


def print_trace(found: Trace) -> None:
    """Print all that is known of one job."""
    out = console()
    if found.verdict is None:
        out.print(f"job {found.job_id}: waits for its verdict", markup=False)
    else:
        _print_verdict(out, found.verdict)
        told = ", ".join(f"{name} {value}" for name, value in found.plc.items() if value)
        out.print(f"PLC            {told}", markup=False)
    if said := found.override:
        bad = "".join(f", {pin.region_id}/{pin.pin_id} {pin.mode}" for pin in said.pins)
        out.print(f"person         {said.evaluation}{bad}: {said.by}, {said.at_utc} {said.why}", markup=False)
    for file in found.files:
        out.print(f"file           {file}", markup=False)
    if found.removed_utc:
        out.print(f"file           deleted from the archive by retention, {found.removed_utc}", markup=False)


def _place(found: Registration | None) -> str:
    if found is None:
        return "no"
    (_, _, x), (_, _, y) = found.matrix
    pose = f"turned {found.rotation_deg:.2f} degrees, scale {found.scale:.4f}, golden (0, 0) at ({x:.1f}, {y:.1f}) px"
    tips = f", tips moved {found.tips_moved_px:.1f} px" if found.tips_moved_px else ""
    return f"{pose}; residual {found.residual_px:.2f} px, score {found.score:.2f}{tips}"


def _print_verdict(out: Console, verdict: Verdict) -> None:
    ms = verdict.ms
    rows = {
        "job": f"{verdict.job_id}  (epoch {verdict.epoch}, seq {verdict.seq})",
        "part": verdict.part_id or "not known",
        "image": f"{verdict.image.name}  {verdict.image.size_bytes} bytes, sha256 {verdict.image.sha256}",
        "verdict": f"{verdict.evaluation}, {verdict.result_state}, {_reason(verdict.reason)}",
        "why": verdict.detail or "-",
        "judged": verdict.created_utc + ("  SIMULATED" if verdict.is_simulated else ""),
        "times (ms)": f"capture {ms.capture:.0f}, queue {ms.queue:.0f}, model {ms.inference:.0f}, total {ms.total:.0f}",
        "part found": _place(verdict.registration),
        "recipe": f"{verdict.recipe}  sha256 {verdict.recipe_sha256}",
        "model": f"{verdict.model.name}  sha256 {verdict.model.sha256}",
        "configuration": f"sha256 {verdict.config_sha256}",
    }
    for name, text in rows.items():
        out.print(f"{name:15}{text}", markup=False)
    for region in verdict.regions:
        out.print(
            f"region         {region.region_id}: {region.evaluation}, p(defect) {_p(region.p_defect)}", markup=False
        )
        for line in region.report.splitlines():
            out.print(f"               {line}", markup=False)
        worst = [pin for pin in region.pins if pin.evaluation is not Evaluation.OK]
        for pin in worst:
            out.print(
                f"               pin {pin.pin_id}: {pin.evaluation}, {pin.defect_mode}, p(defect) {_p(pin.p_defect)}",
                markup=False,
            )


def _status_rows(status: Status) -> list[tuple[str, str]]:
    waiting = status.waiting
    shares = _shares(status.counts)
    return [
        ("station", status.station),
        ("capture", _runs(status.capture_pid)),
        ("worker", _runs(status.worker_pid)),
        ("PLC sees", {None: "nothing", True: "online", False: "offline"}[status.online] + _fault(status.fault_code)),
        ("operator", f"offline {order.text}" if (order := status.offline_by_operator) else "-"),
        ("hot folder", _count(waiting.hot_folder, "waiting")),
        ("spool", _count(waiting.spool, "waiting for a verdict")),
        ("quarantine", _count(waiting.quarantine, "unreadable")),
        ("verdicts", shares),
        ("challenge", _challenge(status.challenge)),
        *([("shadow", _shadow(status.shadow))] if status.shadow else []),
        ("disk", f"{status.disk_free_bytes / 2**30:.1f} of {status.disk_total_bytes / 2**30:.1f} GiB free"),
        ("model", f"{status.last[0].model.name} {status.last[0].model.sha256[:12]}" if status.last else "none yet"),
    ]


def _challenge(run: ChallengeRun | None) -> str:
    return f"{run.ended_utc[:19]} ({run.cause}) {'; '.join((_end_of(run), *run.problems))}" if run else "none yet"


def _runs(pid: int | None) -> str:
    return f"runs, process {pid}" if pid else "does not run"


def _fault(code: int | None) -> str:
    return f", fault {code}" if code else ""


def _count(number: int | None, what: str) -> str:
    return "there is no such folder" if number is None else f"{number} {what}"


def _shares(counts: dict[Evaluation, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "none yet"
    return f"{total}: " + ", ".join(f"{word} {count} ({count / total:.1%})" for word, count in counts.items())


def _cells(verdict: Verdict) -> list[str]:
    regions = verdict.regions
    probabilities = [region.p_defect for region in regions if region.p_defect is not None]
    counted = [region.pins_counted for region in regions if region.pins_counted is not None]
    expected = sum(region.pins_expected for region in regions)
    return [
        verdict.image.name,
        verdict.evaluation,
        _p(max(probabilities, default=None)),
        f"{sum(counted)}/{expected}" if counted else "-",
        _joined(region.defect_mode for region in regions) or _reason(verdict.reason),
        _joined(region.defect_position for region in regions) or "-",
        f"{verdict.ms.total:.0f}",
    ]


def _joined(words: Iterable[str]) -> str:
    return ";".join(word for word in words if word != "none")


def _reason(reason: Reason) -> str:
    return "-" if reason is Reason.NONE else reason.name.lower()


def _p(probability: float | None) -> str:
    return "-" if probability is None else f"{probability:.3f}"


def _line(cells: Sequence[str]) -> str:
    parts = []
    for (name, width), cell in zip(COLUMNS, cells, strict=True):
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        parts.append(text.rjust(width) if name in _RIGHT else text.ljust(width))
    return "  ".join(parts)
