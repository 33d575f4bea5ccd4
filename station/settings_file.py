"""Reads and checks the files people edit: config.yaml, and for `recipe_file` recipe.yaml.

In: a path and a pydantic model. Out: the checked file, or ConfigurationError with every problem at once, each as
`file:line: key: what was found, what is expected, suggestion`: those of YAML and those of the model together.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from station.errors import ConfigurationError
from station.expectation import Expectation, Key, dotted
from station.settings import Settings, SettingsFile, folder_problems, ipc_problem, port_problems, with_absolute_paths
from station.yaml_data import YamlData

MAX_FILE_BYTES = 1024 * 1024

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class CheckedFile(Generic[M]):
    """A file that was read and checked, and where each key of it stands."""

    path: Path
    value: M
    raw: bytes
    lines: Mapping[Key, int]

    def problem(self, key: Key, text: str) -> str:
        """Return `file:line: key: text`."""
        return _problem(self.path, self.lines, key, text)


def load_settings(path: Path) -> Settings:
    """Return config.yaml with absolute paths. Raises ConfigurationError with every problem in it."""
    path = path.absolute()
    checked = read_yaml(path, SettingsFile)
    settings = with_absolute_paths(checked.value, path.parent)
    endpoints = {
        ("queue", "endpoint"): settings.queue.endpoint,
        ("outputs", "opcua", "orders_endpoint"): settings.outputs.opcua.orders_endpoint,
    }
    if problems := [checked.problem(key, text) for key, end in endpoints.items() if (text := ipc_problem(end))]:
        raise ConfigurationError(problems)
    if problems := [*folder_problems(settings), *port_problems(settings)]:
        raise ConfigurationError([f"{path}: {problem}" for problem in problems])
    return Settings(**dict(settings), config_path=path, config_sha256=hashlib.sha256(checked.raw).hexdigest())


def read_yaml(path: Path, model: type[M]) -> CheckedFile[M]:
    """Return the file as `model`. Raises ConfigurationError with every problem in it."""
    raw = _read(path)
    read = YamlData(path, raw)
    value, errors = _validated(model, read.data)
    if value is None or read.problems or read.unclear_words:
        raise ConfigurationError(_all_problems(path, read, Expectation(model), errors))
    return CheckedFile(path, value, raw, read.lines)


def _validated(model: type[M], data: object) -> tuple[M | None, list[ErrorDetails]]:
    try:
        # JSON in strict mode: lists may become tuples and text a path, but "5" is not a number and 1 is not true.
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # pydantic also calls a list too short whose items are wrong.
    places = [error["loc"] for error in errors]
    return None, [error for error in errors if error["type"] != "too_short" or not _any_below(places, error["loc"])]


def _any_below(places: list[Key], key: Key) -> bool:
    return any(len(place) > len(key) and place[: len(key)] == key for place in places)


def _all_problems(path: Path, read: YamlData, expectation: Expectation, errors: list[ErrorDetails]) -> list[str]:
    """Return every problem in the order of the file; one that YAML caused hides what pydantic says of the same key."""
    unclear = {key: expectation.unclear_word(key, word) for key, word in read.unclear_words.items()}
    first = {**read.problems, **unclear}
    then = {
        error["loc"]: expectation.problem(error)
        for error in errors
        if not any(error["loc"][: len(key)] == key for key in first)
    }
    ordered = sorted({**first, **then}.items(), key=lambda item: _line(read.lines, item[0]))
    return [_problem(path, read.lines, key, text) for key, text in ordered]


def _line(lines: Mapping[Key, int], key: Key) -> int:
    """Return the line of the key, or of the section it is missing from."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _problem(path: Path, lines: Mapping[Key, int], key: Key, text: str) -> str:
    return f"{path}:{_line(lines, key)}: {dotted(key) or 'whole file'}: {text}"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            [f"{path}: cannot be read: {error.strerror}."], "Is the path right, and may this user read it?"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError([f"{path}: larger than {MAX_FILE_BYTES} bytes. Is it the right file?"])
    return raw
