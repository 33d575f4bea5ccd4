"""The report on the shadow: who agrees, and who would have been right where a person said so."""

from station.records import Evaluation, ModelRef
from station.shadow import ShadowDropped, ShadowJudged, ShadowLine, ShadowState, report_of

OK, NOT_OK, OPEN = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE


def line(job_id: str, active: Evaluation, shadow: Evaluation, release: str = "new") -> ShadowJudged:
    return ShadowJudged(
        job_id=job_id, recipe_sha256="r", active=ModelRef("old", "old"), shadow=ModelRef(release, release),
        active_said=active, shadow_said=shadow, active_bad=(), shadow_bad=(), ms=1.0, judged_utc="",
    )  # fmt: skip


def test_nothing_was_said() -> None:
    report = report_of([ShadowState("m", "does not fit", "")], {})
    assert (report.judged, report.agreed, report.active, report.problem) == (0, 0, None, "does not fit")


def test_differences_and_the_errors_of_both_where_the_truth_is_known() -> None:
    lines: list[ShadowLine] = [
        line("a", OK, OK),
        ShadowDropped(2),
        line("b", OK, NOT_OK),
        line("c", NOT_OK, OK),
        line("d", OK, OPEN),
    ]
    report = report_of(lines, {"b": NOT_OK, "c": OK, "d": OK, "other": OK})
    assert (report.judged, report.agreed, report.dropped) == (4, 1, 2)
    assert [(one.job_id, one.truth) for one in report.differences] == [("d", OK), ("c", OK), ("b", NOT_OK)]
    assert (report.defective, report.good) == (1, 2)
    assert (report.active_errors.escapes, report.active_errors.false_rejects) == (1, 1)
    assert (report.shadow_errors.escapes, report.shadow_errors.false_rejects) == (0, 0)


def test_only_the_newest_pair_of_releases_is_compared() -> None:
    report = report_of([line("a", OK, NOT_OK, "older"), ShadowState("m", "", ""), line("b", OK, OK)], {})
    assert (report.judged, report.differences, report.shadow) == (1, (), ModelRef("new", "new"))
