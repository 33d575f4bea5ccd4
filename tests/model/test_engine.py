"""The engine with the shipped model: an answer does not depend on what else is asked, nor on what is expected."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import yaml

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer, prepare_job
from station.engine.base import Answer, Picture, Query, Question
from station.engine.llama import LlamaEngine
from station.engine.llama_text import Seen
from station.errors import EngineError
from station.inspection import Inspection
from station.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "calibration/recipes/pins-27/recipe.yaml"
PARTS = [ROOT / f"calibration/demo/part-{k:02d}.jpg" for k in (1, 2, 5)]

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    """Return the shipped release on the CPU."""
    loaded = LlamaEngine(ROOT / "models/pins-tiny/manifest.json", threads=1, gpu_layers=0)
    yield loaded
    loaded.close()


def asked(folder: Path, ask: str, images: int) -> tuple[Question, list[tuple[Query, ...]]]:
    """Return the shipped recipe's question, asked as named, and the queries of each part."""
    data = yaml.safe_load(RECIPE.read_text())
    data["ask"], data["report"]["images"] = ask, images
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (folder / "golden.png").write_bytes(RECIPE.with_name("golden.png").read_bytes())
    recipe = load_recipe(folder / "recipe.yaml")
    inspection = Inspection(recipe, golden_crops(recipe))
    preparer = Preparer(recipe, CaptureLimits(2**26, 10**8))
    jobs = [prepare_job(part, "20260101T000000000-00000000", preparer) for part in PARTS]
    return inspection.question, [inspection.queries(job) for job in jobs]


def difference(one: Answer, other: Answer) -> float:
    """Return the largest difference of a probability; the texts must be the same."""
    assert (one.query_id, one.text) == (other.query_id, other.text)
    return max(
        abs(p - q)
        for a, b in zip(one.choices, other.choices, strict=True)
        for p, q in zip(a.probabilities, b.probabilities, strict=True)
    )


def test_an_answer_does_not_depend_on_its_neighbours_place_or_batch(engine: LlamaEngine, tmp_path: Path) -> None:
    question, parts = asked(tmp_path, "pins", 1)
    engine.prepare(question)
    queries = parts[1]
    together = {answer.query_id: answer for answer in engine.ask(queries)}
    shuffled = list(queries)
    random.Random(4).shuffle(shuffled)
    groups = [*((query,) for query in queries[:9]), tuple(queries[:4]), tuple(shuffled), (*parts[0], *queries)[20:31]]
    for group in groups:
        for query, answer in zip(group, engine.ask(tuple(group)), strict=True):
            if query in queries:
                assert difference(answer, together[query.query_id]) < 0.005


@pytest.mark.parametrize(("ask", "images"), [("pins", 1), ("report", 2)])
def test_what_is_expected_changes_no_answer(engine: LlamaEngine, tmp_path: Path, ask: str, images: int) -> None:
    question, parts = asked(tmp_path, ask, images)
    engine.prepare(question)
    for queries in parts:
        plain = tuple(msgspec.structs.replace(query, expected=()) for query in queries)
        for one, other in zip(engine.ask(queries), engine.ask(plain), strict=True):
            assert difference(one, other) < 0.005


@pytest.mark.parametrize("images", [1, 2])
def test_crops_kept_apart_as_on_a_gpu_answer_the_same(engine: LlamaEngine, tmp_path: Path, images: int) -> None:
    question, parts = asked(tmp_path, "report", images)
    question = msgspec.structs.replace(question, queries=3)
    queries = tuple(msgspec.structs.replace(part[0], query_id=str(k)) for k, part in enumerate(parts))
    engine.prepare(question)
    together = engine.ask(queries)
    engine.gpu = True  # the weights stay on the CPU
    try:
        engine.prepare(question)
        assert engine.group == 3
        for _ in range(2):
            for one, other in zip(engine.ask(queries), together, strict=True):
                assert difference(one, other) < 0.005
        assert difference(engine.ask(queries[2:])[0], together[2]) < 0.005
    finally:
        engine.gpu = False


def test_a_golden_picture_is_looked_at_once(
    engine: LlamaEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, parts = asked(tmp_path, "report", 2)
    engine.prepare(question)
    seen: list[bytes] = []
    (eyes,) = engine.eyes
    see = eyes.see

    def noted(picture: Picture) -> Seen:
        seen.append(picture.pixels_rgb)
        return see(picture)

    monkeypatch.setattr(eyes, "see", noted)
    first = [engine.ask(queries) for queries in parts]
    golden = parts[0][0].pictures[0].pixels_rgb
    assert seen == [golden, *(queries[0].pictures[1].pixels_rgb for queries in parts)]
    engine.prepare(question)
    for before, queries in zip(first, parts, strict=True):
        assert difference(before[0], engine.ask(queries)[0]) == 0


def test_a_question_that_does_not_fit_is_refused_with_the_number_that_is_needed(
    engine: LlamaEngine, tmp_path: Path
) -> None:
    question, _ = asked(tmp_path, "report", 2)
    large = msgspec.structs.replace(question, width_px=1024, height_px=1024)
    with pytest.raises(EngineError, match=r"needs a context of 8\d\d\d tokens .* made for 4096"):
        engine.prepare(large)
    odd = msgspec.structs.replace(question, width_px=250)
    with pytest.raises(EngineError, match="would resize pictures of 250 x"):
        engine.prepare(odd)


def test_two_towers_at_once_see_what_one_sees_also_after_a_picture_that_fails(
    engine: LlamaEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, parts = asked(tmp_path, "pins", 1)
    engine.prepare(question)
    alone = engine.ask(parts[0])
    second = engine._open_eyes()
    monkeypatch.setattr(engine, "eyes", [*engine.eyes, second])
    monkeypatch.setattr(engine, "pool", ThreadPoolExecutor(2))
    engine.free_eyes.put(second)
    try:
        broken = msgspec.structs.replace(parts[0][0].pictures[0], width_px=96)
        with pytest.raises(EngineError):
            engine.ask((msgspec.structs.replace(parts[0][0], pictures=(broken,)), *parts[0][1:15]))
        for one, other in zip(engine.ask(parts[0]), alone, strict=True):
            assert difference(one, other) < 0.005
    finally:
        engine.pool.shutdown()
        (first,) = {engine.free_eyes.get(), engine.free_eyes.get()} - {second}
        engine.free_eyes.put(first)
        second.close()
