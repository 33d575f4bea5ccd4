"""Turns the text of a YAML file into plain data, keeping the line of each key. The only place that knows YAML.

Values follow YAML 1.2: only true and false are booleans and `1e-5` is a number. Words that YAML 1.1 took for booleans
(yes, no, on, off, y, n) must be quoted as values, so that no reader can take them for something else. Anchors, tags,
duplicate keys and deep nesting are refused. What is wrong with single values is collected; the rest of the file is
still read. A file that is no YAML at all is a ConfigurationError.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from station.errors import ConfigurationError
from station.expectation import Key

MAX_DEPTH = 20
MAX_DIGITS = 18

_REFUSED = {yaml.AnchorToken: "an anchor (&)", yaml.AliasToken: "an alias (*)", yaml.TagToken: "a tag (!)"}
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
_WORDS_TO_QUOTE = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})
_BOOLEANS = {"true": True, "false": False}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class YamlData:
    """The data of one file, the line of each key, and what is wrong with single values."""

    def __init__(self, path: Path, raw: bytes) -> None:
        """Read `raw`; `path` is for messages. Raises ConfigurationError where it is not plain YAML."""
        self.lines: dict[Key, int] = {}
        self.problems: dict[Key, str] = {}
        self.unclear_words: dict[Key, str] = {}
        """Bare words that some readers of YAML take for a boolean."""
        self.data = self._value(_compose(path, raw), ())

    def _value(self, node: yaml.Node | None, key: Key) -> Any:
        """Return the node as dict, list, text, number, bool or None."""
        if node is None:
            return None
        self.lines.setdefault(key, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, key)
            case yaml.SequenceNode():
                return [self._value(item, (*key, place)) for place, item in enumerate(node.value)]
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
            result[name_node.value] = self._value(value_node, place)
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


def _compose(path: Path, raw: bytes) -> yaml.Node | None:
    """Return the file's tree. Raises ConfigurationError where it is not plain YAML."""
    try:
        text = raw.decode("utf-8-sig")
        if problems := list(_refused(path, text)):
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


def _refused(path: Path, text: str) -> Iterator[str]:
    """Yield each use of what is YAML but not allowed here. Raises ConfigurationError if lists lie too deep."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise ConfigurationError([f"{path}:{line}: nested deeper than {MAX_DEPTH} levels."])
        if kind := _REFUSED.get(type(token)):
            yield f"{path}:{line}: {kind} is not allowed here. Write the value out, or put it in quotes."
