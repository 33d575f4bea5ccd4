"""A certificate holds as long as nothing it rests on has changed."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.calibrate import (
    MOST_MOVED,
    REFERENCES,
    _written,
    apply,
    moves,
    of_seen,
    reference_of,
    statement,
    thresholds_line,
)
from calibration.seen import Seen, seen_of
from calibration.splitting import TUNE, group_of
from calibration.thresholds import Limits, Promise
from station.certificate import WHAT_CHANGED, Certificate, Conditions, code_sha256, objections
from station.certificate_file import Certified, conditions, path_of, read_certificate, write_certificate
from station.errors import ConfigurationError
from station.inspection import Inspection
from station.labels import Label
from station.recipe import Recipe, RecipeFile
from station.recipe_file import load_recipe
from station.records import Evaluation, Failure, ModelRef, Reason
from tests.camera_views import KnownCamera, true_calibration
from tests.pictures import write_recipe
from tests.verdicts import make_region, make_verdict

KEYS = {"camera", "camera_sha256"}
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
    return conditions(recipe, Inspection(recipe, {}).question, model)


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


def test_a_calibration_of_the_camera_counts_when_there_is_one_and_not_when_there_is_none(recipe: Recipe) -> None:
    held = certificate(now(recipe))
    camera = true_calibration(KnownCamera())

    def corrected(sha256: str) -> Recipe:
        named = changed(recipe, camera="camera.yaml", camera_sha256=sha256)
        written = recipe.file.model_dump(exclude_unset=True) | named.file.model_dump(include=KEYS)
        file = RecipeFile.model_validate(written)
        return named.model_copy(update={"file": file, "camera": camera})

    said = objections(held, now(corrected("aa" * 32)), corrected("aa" * 32))
    assert [text.split()[0] for text in said] == ["recipe_sha256", "code_sha256"]
    held = certificate(now(corrected("aa" * 32)))
    assert objections(held, now(corrected("aa" * 32)), corrected("aa" * 32)) == []
    (said_of_other,) = objections(held, now(corrected("bb" * 32)), corrected("bb" * 32))
    assert said_of_other.startswith("recipe_sha256")


def test_what_looks_for_the_tips_counts_when_the_recipe_wants_it(recipe: Recipe) -> None:
    looking = changed(recipe, registration=recipe.file.registration.model_copy(update={"tip_reach_px": 2.0}))
    assert now(looking).code_sha256 != now(recipe).code_sha256
    assert objections(certificate(now(looking)), now(looking), looking) == []


def test_another_model_or_a_looser_limit_voids_it(recipe: Recipe) -> None:
    held = certificate(now(recipe))
    assert "model_sha256" in objections(held, now(recipe, "cd"), recipe)[0]
    looser = recipe.file.thresholds.model_copy(update={"ok_max_p_defect": 0.3})
    assert "certified up to 0.2" in objections(held, now(recipe), changed(recipe, thresholds=looser))[0]
    broken = msgspec.structs.replace(held, verified="broken")
    assert "broke" in objections(broken, now(recipe), recipe)[0]


@pytest.mark.parametrize("condition", Conditions.__struct_fields__)
def test_whatever_condition_changes_it_is_void_and_says_which_and_what_that_means(
    recipe: Recipe, condition: str
) -> None:
    held = msgspec.structs.replace(certificate(now(recipe)), ok_max_p_defect=0.9, min_mass=0.0)
    other = msgspec.structs.replace(now(recipe), **{condition: "ff" * 32})
    (said,) = objections(held, other, recipe)
    assert condition in said
    assert WHAT_CHANGED[condition] in said


def test_only_a_valid_certificate_lets_the_station_say_ok(recipe: Recipe) -> None:
    def bar(model: str = "ab", *, is_simulated: bool = False) -> Failure | None:
        certified = Certified(recipe, Inspection(recipe, {}).question)
        return certified.bar(ModelRef(name="m", sha256=model), is_simulated=is_simulated)

    assert (without := bar())
    assert without.reason is Reason.NO_CERTIFICATE
    assert "is not there" in without.detail
    assert bar(is_simulated=True) is None
    held = msgspec.structs.replace(certificate(now(recipe)), ok_max_p_defect=0.9, min_mass=0.0)
    write_certificate(path_of(recipe), held)
    assert bar() is None
    assert (of_other := bar("cd"))
    assert "model_sha256" in of_other.detail
    write_certificate(path_of(recipe), msgspec.structs.replace(held, verified="broken"))
    assert bar()
    path_of(recipe).write_text("{}")
    assert (of_no_certificate := bar())
    assert "not a certificate" in of_no_certificate.detail


@given(comment=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20))
def test_comments_and_docstrings_do_not_void_it_but_code_does(comment: str) -> None:
    plain = "def f(x):\n    return x + 1\n"
    same = f"# {comment}\ndef f(x):\n    {('About it: ' + comment)!r}\n    return (x  +  1)  # {comment}\n"
    assert code_sha256([plain]) == code_sha256([same])
    assert code_sha256([plain]) != code_sha256(["def f(x):\n    return x + 2\n"])
    assert code_sha256([plain]) != code_sha256(["def g(x):\n    return x + 1\n"])
    assert code_sha256([plain]) != code_sha256([plain, plain])


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


def test_the_reference_is_of_tuning_parts_and_not_too_large() -> None:
    seen = line_of(900)
    for k, one in enumerate(seen):
        seen[k] = msgspec.structs.replace(one, image=f"{one.part}.png")
    reference = reference_of(seen)
    assert len(reference) == REFERENCES
    assert {group_of(name.removesuffix(".png")) for name in reference} == {TUNE}


@pytest.mark.parametrize(
    ("was", "score", "moved"),
    [(0.0, 0.2, 0.2), (-3.0, -2.5, 0.5), (-20.0, -12.0, 0.0), (-20.0, -7.5, 0.5), (9.0, -9.0, 16.0), (1.0, None, None)],
)
def test_a_score_moved_by_what_it_says_otherwise(
    recipe: Recipe, was: float, score: float | None, moved: float | None
) -> None:
    held = msgspec.structs.replace(certificate(now(recipe)), reference={"a": was})
    found = moves(held, {"a": score})["a"]
    assert found == (pytest.approx(moved) if moved is not None else float("inf"))
    assert (found <= MOST_MOVED) == (moved is not None and moved <= 0.3)


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


def test_the_certificate_of_the_model_before_is_kept_with_its_recipe(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    recipe, limits = load_recipe(path), path.read_bytes()
    held = path_of(recipe)
    for model in ("aa", "bb", "bb"):
        _written(held, certificate(now(recipe, model)), path)
        limits_kept = path.with_name("recipe.yaml.before").read_bytes()
        path.write_bytes(limits + f"# {model}\n".encode())
    kept = read_certificate(held.with_name("certificate.json.before"))
    assert kept is not None
    assert kept.conditions.model_sha256 == "aa"
    assert limits_kept == limits + b"# aa\n"
