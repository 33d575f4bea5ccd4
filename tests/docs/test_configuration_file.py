"""config.yaml is the reference of all settings: each key once, with comment, range and default."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from station.expectation import Expectation, Key, dotted
from station.settings import SettingsFile
from station.settings_file import read_yaml

CONFIG = Path(__file__).parents[2] / "config.yaml"
EXPECTATION = Expectation(SettingsFile)


def keys(parent: Key = ()) -> Iterator[Key]:
    """Yield every key of config.yaml that holds a value, not a section."""
    for name in EXPECTATION.names(parent):
        key = (*parent, name)
        if EXPECTATION.names(key):
            yield from keys(key)
        else:
            yield key


def value_at(key: Key) -> Any:
    value: Any = read_yaml(CONFIG, SettingsFile).value.model_dump(mode="json")
    for name in key:
        value = value[name]
    return value


def comment_above(line: int) -> str:
    lines = CONFIG.read_text().splitlines()[: line - 1]
    comment: list[str] = []
    while lines and lines[-1].strip().startswith("#"):
        comment.insert(0, lines.pop().strip(" #"))
    return " ".join(comment)


@pytest.mark.parametrize("key", list(keys()), ids=dotted)
def test_each_setting_is_in_the_file_with_its_default_and_a_comment(key: Key) -> None:
    lines = read_yaml(CONFIG, SettingsFile).lines
    assert key in lines, f"{dotted(key)} is missing in config.yaml"
    comment = comment_above(lines[key])
    schema = EXPECTATION.schema(key)
    if "default" in schema:
        assert value_at(key) == schema["default"]
        assert f"efault {str(schema['default']).lower()}" in comment.lower()
    else:
        assert "No default" in comment
    if "minimum" in schema:
        assert f"ange {schema['minimum']} to {schema['maximum']}" in comment
    if key[-1].endswith(("_s", "_ms", "_mib")):  # type: ignore[union-attr]
        assert f"in {str(key[-1]).rpartition('_')[2]}" in comment.lower()
