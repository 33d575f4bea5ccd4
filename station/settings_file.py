"""Reads the YAML files people edit: config.yaml and recipe.yaml. The only place that knows YAML.

In: a path and a pydantic model. Out: the checked file, or ConfigurationError with every problem at once, each as
`file:line: key: what was found, what is expected, suggestion`. Values follow YAML 1.2: only true and false are booleans
and `1e-5` is a number. Words that YAML 1.1 took for booleans (yes, no, on, off, y, n) must be quoted as values, so that
no reader can take them for something else. Anchors, tags, duplicate keys and large files are refused.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from station.errors import ConfigurationError
from station.expectation import Expectation, Key, dotted
from station.settings import Settings, SettingsFile, ipc_problem, with_absolute_paths

MAX_FILE_BYTES = 1024 * 1024
MAX_DIGITS = 18

M = TypeVar("M", bound=BaseModel)

_WORDS_TO_QUOTE = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})
_BOOLEANS = {"true": True, "false": False}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


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
    if problem := ipc_problem(settings.queue.endpoint):
        raise ConfigurationError([checked.problem(("queue", "endpoint"), problem)])
    return Settings(**dict(settings), config_path=path, config_sha256=hashlib.sha256(checked.raw).hexdigest())


def read_yaml(path: Path, model: type[M]) -> CheckedFile[M]:
    """Return the file as `model`. Raises ConfigurationError with every problem in it."""
    raw = _read(path)
    builder = _Builder()
    data = builder.value(_compose(path, raw), ())
    value, errors = _validated(model, data)
    if value is None or builder.problems or builder.unclear_words:
        raise ConfigurationError(_all_problems(path, builder, Expectation(model), errors))
    return CheckedFile(path, value, raw, builder.lines)


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


def _all_problems(path: Path, builder: "_Builder", expectation: Expectation, errors: list[ErrorDetails]) -> list[str]:
    """Return every problem in the order of the file; one that YAML caused hides what pydantic says of the same key."""
    unclear = {key: expectation.unclear_word(key, word) for key, word in builder.unclear_words.items()}
    first = {**builder.problems, **unclear}
    then = {
        error["loc"]: expectation.problem(error)
        for error in errors
        if not any(error["loc"][: len(key)] == key for key in first)
    }
    ordered = sorted({**then, **first}.items(), key=lambda item: _line(builder.lines, item[0]))
    return [_problem(path, builder.lines, key, text) for key, text in ordered]


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


def _compose(path: Path, raw: bytes) -> yaml.Node | None:
    """Return the file's tree. Raises ConfigurationError where it is not plain YAML."""
    try:
        text = raw.decode("utf-8-sig")
        refused = [_refusal(path, token) for token in yaml.scan(text, Loader=yaml.SafeLoader)]
        if problems := [problem for problem in refused if problem]:
            raise ConfigurationError(problems)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([f"{path}:{line}: not UTF-8 text. Save the file as UTF-8."]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = " Use spaces, not tabs, to indent." if "\\t" in str(error.problem) else ""
        raise ConfigurationError([f"{path}:{line}: not valid YAML: {error.problem}.{hint}"]) from error
    except yaml.YAMLError as error:
        raise ConfigurationError([f"{path}:1: not valid YAML: {error}."]) from error
    except RecursionError as error:
        raise ConfigurationError([f"{path}:1: nested too deeply."]) from error


def _refusal(path: Path, token: yaml.Token) -> str | None:
    kinds = {yaml.AnchorToken: "an anchor (&)", yaml.AliasToken: "an alias (*)", yaml.TagToken: "a tag (!)"}
    kind = kinds.get(type(token))
    if kind is None:
        return None
    return f"{path}:{token.start_mark.line + 1}: {kind} is not allowed here. Write the value out, or put it in quotes."


class _Builder:
    """Turns a YAML tree into plain data, keeping the line of each key and what is wrong with it."""

    def __init__(self) -> None:
        self.lines: dict[Key, int] = {}
        self.problems: dict[Key, str] = {}
        self.unclear_words: dict[Key, str] = {}

    def value(self, node: yaml.Node | None, key: Key) -> Any:
        """Return the node as dict, list, text, number, bool or None."""
        if node is None:
            return None
        self.lines.setdefault(key, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, key)
            case yaml.SequenceNode():
                return [self.value(item, (*key, place)) for place, item in enumerate(node.value)]
            case yaml.ScalarNode(style=None):
                return self._plain(node.value, key)
            case _:
                return str(node.value)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self.problems[*key, f"line {line}"] = "a key must be one word."
                continue
            place = (*key, name_node.value)
            if name_node.value in result:
                self.problems[place] = f"written twice, in line {self.lines[place]} and in line {line}. Remove one."
                continue
            self.lines[place] = line
            result[name_node.value] = self.value(value_node, place)
        return result

    def _plain(self, text: str, key: Key) -> str | int | float | bool | None:
        """Return what a word without quotes means in YAML 1.2; unclear words are a problem."""
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text in _NULLS:
            return None
        if text.lower() in _WORDS_TO_QUOTE:
            self.unclear_words[key] = text
        elif _LEADING_ZERO.fullmatch(text):
            self.problems[key] = f'found {text}; write the number without leading zeros, or text in quotes: "{text}".'
        elif _INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
            return int(text)
        elif _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        elif _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            self.problems[key] = f"found {text[:MAX_DIGITS]}; expected a number the station can count with."
        return text
