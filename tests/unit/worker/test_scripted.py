"""The scripted engine does what its script says, and says that it is simulated."""

from pathlib import Path

import pytest

from station.engine.base import Engine, Query
from station.engine.scripted import SCRIPT_VARIABLE, Script, ScriptedEngine, script_from_environment
from station.errors import EngineError
from tests.worker_parts import QUESTION

QUERIES = (Query(query_id="a", pictures=()), Query(query_id="b", pictures=()))


def _prepared(script: Script) -> Engine:
    engine = ScriptedEngine(script)
    engine.prepare(QUESTION)
    return engine


def test_without_script_every_slot_gets_its_first_choice() -> None:
    engine = _prepared(Script())
    first, second = engine.ask(QUERIES)
    assert [choice.chosen for choice in first.choices] == ["passed", "none"]
    assert [choice.mass for choice in first.choices] == [1.0, 1.0]
    assert (first.query_id, second.query_id) == ("a", "b")
    assert first.text == "judgement->passed\nmode->none"
    assert engine.is_simulated


def test_a_scripted_answer_is_given_to_its_query_only() -> None:
    first, second = _prepared(Script(answers={"b": ("defective", "bent")})).ask(QUERIES)
    assert [choice.chosen for choice in second.choices] == ["defective", "bent"]
    assert second.choices[0].probabilities == (0.0, 1.0)
    assert first.choices[0].chosen == "passed"


@pytest.mark.parametrize("answer", [("defective",), ("perhaps", "none")])
def test_an_answer_outside_the_form_is_an_error(answer: tuple[str, ...]) -> None:
    with pytest.raises(EngineError):
        _prepared(Script(answers={"a": answer})).ask(QUERIES)


def test_the_named_ask_is_refused_and_the_next_one_answered() -> None:
    engine = _prepared(Script(refuse_on_ask=(1,)))
    with pytest.raises(EngineError):
        engine.ask(QUERIES)
    assert len(engine.ask(QUERIES)) == 2


def test_a_load_error_is_raised() -> None:
    with pytest.raises(EngineError, match="mmproj missing"):
        ScriptedEngine(Script(load_error="mmproj missing"))


def test_the_script_is_the_file_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SCRIPT_VARIABLE, raising=False)
    assert script_from_environment() == Script()
    path = tmp_path / "script.json"
    monkeypatch.setenv(SCRIPT_VARIABLE, str(path))
    path.write_text('{"delay_ms": 5, "answers": {"a": ["defective", "bent"]}}')
    assert script_from_environment() == Script(delay_ms=5, answers={"a": ("defective", "bent")})


@pytest.mark.parametrize("text", [None, "", "{", '{"dealy_ms": 5}'])
def test_a_script_that_cannot_be_read_is_an_error(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "script.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(SCRIPT_VARIABLE, str(path))
    with pytest.raises(EngineError, match=r"script\.json"):
        script_from_environment()
