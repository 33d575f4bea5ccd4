"""What the documents promise is what the code has: tables, verbs, links, error codes, versions."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

from station.cli import app
from station.expectation import Expectation
from station.outputs.publisher import Heartbeat, SnapshotRequest
from station.recipe import RecipeFile
from station.records import (
    ImageRef,
    ModelRef,
    PinMeasure,
    PinReport,
    Reason,
    RegionReport,
    Registration,
    Timing,
    TriggerRef,
    Verdict,
)

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "systemd").glob("*.md")])
MESSAGES = (
    Verdict,
    TriggerRef,
    ImageRef,
    Registration,
    RegionReport,
    PinReport,
    PinMeasure,
    ModelRef,
    Timing,
    Heartbeat,
    SnapshotRequest,
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(text: str) -> list[str]:
    """Return the first cell of each row of the tables in `text`, without headings and rulers."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [cell for number, cell in enumerate(rows) if not _is_head(rows, number)]


def _is_head(rows: list[str], number: int) -> bool:
    return set(rows[number]) == {"-"} or (number + 1 < len(rows) and set(rows[number + 1]) == {"-"})


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of any level."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"there is no section {heading}"
    return match[1]


def test_the_table_of_reasons_is_complete() -> None:
    rows = re.findall(r"^\| (\d+) \| `([a-z_]+)` \| (.+) \| (.+) \|$", text_of("docs/operations.md"), re.MULTILINE)
    assert [(int(code), name) for code, name, *_ in rows] == [(int(reason), reason.name.lower()) for reason in Reason]


@pytest.mark.parametrize("record", MESSAGES, ids=lambda record: record.__name__)
def test_every_field_of_the_messages_is_documented(record: type[msgspec.Struct]) -> None:
    documented = first_cells(section(text_of("docs/messages.md"), record.__name__))
    assert documented == [f"`{field.encode_name}`" for field in msgspec.structs.fields(record)]


@pytest.mark.parametrize("record", MESSAGES, ids=lambda record: record.__name__)
def test_null_is_documented_where_it_may_come(record: type[msgspec.Struct]) -> None:
    rows = section(text_of("docs/messages.md"), record.__name__).splitlines()
    for field in msgspec.structs.fields(record):
        row = next(row for row in rows if row.startswith(f"| `{field.encode_name}` "))
        assert ("or null" in row) == (type(None) in getattr(field.type, "__args__", ()))


def recipe_keys(parent: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Yield every key of recipe.yaml; boxes count as one value."""
    expectation = Expectation(RecipeFile)
    for name in expectation.names(parent):
        key = (*parent, name)
        below = (*key, 0) if "items" in expectation.schema(key) else key
        if expectation.names(below) in ([], ["x", "y", "width", "height"]):
            yield ".".join(str(step) for step in key if step != 0)
        else:
            yield from recipe_keys(below)


@pytest.mark.parametrize("key", list(recipe_keys()))
def test_every_key_of_a_recipe_is_documented(key: str) -> None:
    assert f"`{key}`" in section(text_of("docs/calibration.md"), "recipe.yaml, key by key")


def test_the_readme_names_every_verb() -> None:
    named = re.findall(r"`([a-z-]+)`", " ".join(first_cells(section(text_of("README.md"), "Verbs"))))
    assert sorted(named) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_readme_says_what_matters_on_its_first_screen() -> None:
    first_screen = text_of("README.md").splitlines()[:40]
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_every_code_of_the_exporter_is_documented() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "models").glob("*.py"))
    documented = first_cells(section(text_of("docs/export.md"), "4. Export"))
    assert sorted(set(re.findall(r'"(E\d\d)"', code))) == documented


def test_the_target_for_the_gpu_builds_the_installed_version_and_is_named() -> None:
    target = text_of("Makefile").split("\nsetup-cuda: setup\n")[1].split("\n\n")[0]
    assert "-DGGML_CUDA=on" in target
    assert "pip freeze | grep" in target
    assert "make setup-cuda" in text_of("docs/setup.md")


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


def test_files_and_functions_of_the_architecture_exist() -> None:
    rows = re.findall(r"^\| \d+\. .* \| (.*) \|$", text_of("ARCHITECTURE.md"), re.MULTILINE)
    assert len(rows) == 18
    for row in rows:
        words = re.findall(r"`([^`]+)`", row)
        files = [ROOT / "station" / word for word in words if word.endswith(".py")]
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        for word in words:
            name = word.rpartition(".")[2]
            assert word.endswith((".py", "*")) or f"def {name}(" in code, f"{word} is not in {files}"
