"""A certificate holds as long as nothing it rests on has changed."""

import re
from pathlib import Path

import msgspec
import pytest

from calibration.calibrate import apply, of_seen, statement, thresholds_line
from calibration.seen import Seen, seen_of
from calibration.thresholds import Limits, Promise
from station.certificate import Certificate, Conditions, objections
from station.certificate_file import conditions, path_of, read_certificate, write_certificate
from station.errors import ConfigurationError
from station.inspection import Inspection
from station.labels import Label
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Evaluation
from tests.pictures import write_recipe
from tests.verdicts import make_region, make_verdict

PROMISE = Promise(max_escape=0.05, max_reject=0.05, confidence=0.95)


def certificate(now: Conditions) -> Certificate:
    return Certificate(
        schema=1, recipe="r", model="m", created_utc="", signer="s", conditions=now, ok_max_p_defect=0.2,
        not_ok_min_p_defect=0.8, min_mass=0.5, max_escape=0.01, max_reject=0.01, confidence=0.95,
        populations=("drawn",), modes=(), verified="proven", statement="", evidence={},
    )  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(write_recipe(tmp_path))


def now(recipe: Recipe, model: str = "ab") -> Conditions:
    return conditions(recipe, Inspection(recipe, {}), model)


def changed(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"file": recipe.file.model_copy(update=changes)})


def test_it_is_read_as_it_was_written(recipe: Recipe) -> None:
    assert read_certificate(path_of(recipe)) is None
    written = certificate(now(recipe))
    write_certificate(path_of(recipe), written)
    assert read_certificate(path_of(recipe)) == written
    path_of(recipe).write_text("{}")
    with pytest.raises(ConfigurationError, match="not a certificate"):
        read_certificate(path_of(recipe))


def test_it_holds_while_nothing_changes(recipe: Recipe) -> None:
    assert objections(certificate(now(recipe)), now(recipe), recipe) == []
    stricter = recipe.file.thresholds.model_copy(update={"ok_max_p_defect": 0.1})
    assert objections(certificate(now(recipe)), now(recipe), changed(recipe, thresholds=stricter)) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("defect_modes", ("missing",), "prompt_sha256"),
        ("golden_sha256", "00" * 32, "golden_sha256"),
        ("product", "another", "recipe_sha256"),
    ],
)
def test_a_changed_recipe_voids_it(recipe: Recipe, key: str, value: object, said: str) -> None:
    other = changed(recipe, **{key: value})
    assert any(said in text for text in objections(certificate(now(recipe)), now(other), other))


def test_another_model_or_a_looser_limit_voids_it(recipe: Recipe) -> None:
    held = certificate(now(recipe))
    assert "model_sha256" in objections(held, now(recipe, "cd"), recipe)[0]
    looser = recipe.file.thresholds.model_copy(update={"ok_max_p_defect": 0.3})
    assert "certified up to 0.2" in objections(held, now(recipe), changed(recipe, thresholds=looser))[0]
    broken = msgspec.structs.replace(held, verified="broken")
    assert "broke" in objections(broken, now(recipe), recipe)[0]


def line_of(parts: int) -> list[Seen]:
    """Return a simulated line: every second part has a bent pin, all are judged right."""
    good = make_verdict()
    bad = make_verdict(evaluation=Evaluation.NOT_OK, regions=(make_region(ng=("A2",)),))
    labels = [
        Label("a", Evaluation.OK, f"P{k}", population="real")
        if k % 2
        else Label("a", Evaluation.NOT_OK, f"P{k}", None, None, ("bent",), ("A2",), "drawn")
        for k in range(parts)
    ]
    return [seen_of([label], good if label.evaluation is Evaluation.OK else bad, None) for label in labels]


def test_limits_come_from_judged_pictures_and_populations_are_kept_apart() -> None:
    found = of_seen(line_of(600), PROMISE)
    assert found.limits is not None
    assert found.limits.ok_max_p_defect < found.limits.not_ok_min_p_defect
    assert found.calibrate is not None
    assert found.calibrate.escapes_by_population["drawn"].n == found.groups["calibrate"].bad
    assert found.calibrate.rejects_by_population["real"].n == found.groups["calibrate"].good
    assert found.verified == "proven"
    assert "at most 5.00% of defective parts" in statement(found, "line", ["drawn", "real"])


def test_limits_are_put_into_the_recipe(tmp_path: Path) -> None:
    limits = Limits(temperature=1.0, t_lo=-1.0, t_hi=1.0, ok_max_p_defect=0.25, not_ok_min_p_defect=0.75)
    path = write_recipe(tmp_path)
    with pytest.raises(ConfigurationError, match="not on one line"):
        apply(path, limits)
    one_line = "thresholds: {ok_max_p_defect: 0.1, not_ok_min_p_defect: 0.9, min_mass: 0.5}"
    path.write_text(re.sub(r"thresholds:(\n  .*)+", one_line, path.read_text()))
    apply(path, limits)
    assert thresholds_line(limits, 0.5) in path.read_text()
    assert load_recipe(path).file.thresholds.ok_max_p_defect == 0.25
