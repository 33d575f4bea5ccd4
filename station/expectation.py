"""Says in words what a file's key may hold and what is wrong with what it holds. Pure.

In: a pydantic model, and the errors pydantic found in data for it. Out: text for the person who edits the file, without
file name and line (`station.settings_file` adds those). Ranges, choices and defaults come from the model's JSON schema,
so they are written down once, in the model.
"""

import difflib
import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Key = tuple[str | int, ...]
"""Where in a file: names of mappings and places in lists, as ("regions", 0, "box")."""

Schema = dict[str, Any]

_MAX_SHOWN = 60


def dotted(key: Key) -> str:
    """Return the key as people write it: `regions[0].box.x`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key)
    return text.removeprefix(".")


def did_you_mean(word: object, known: list[str]) -> str:
    """Return ' did you mean "X"?' for the closest of `known`, or nothing."""
    close = difflib.get_close_matches(str(word), known, n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """Return the value as a person would recognise it from the file, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


class Expectation:
    """What each key of a model may hold."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: Schema = model.model_json_schema()

    def problem(self, error: ErrorDetails) -> str:
        """Return what was found, what is expected and a suggestion, for one error of pydantic."""
        key, found = error["loc"], error["input"]
        match error["type"]:
            case "extra_forbidden":
                known = self.names(key[:-1])
                return f"unknown key.{did_you_mean(key[-1], known)} Known here: {', '.join(known)}."
            case "missing":
                return f"missing; expected {self.words(key)}."
            case "value_error":
                return f"found {shown(found)}; {error['ctx']['error']}."
            case _:
                return f"found {shown(found)}; expected {self.words(key)}.{self._suggestion(key, found)}"

    def unclear_word(self, key: Key, word: str) -> str:
        """Return what to write instead of a bare word that some readers of YAML take for a boolean."""
        wanted = self.schema(key).get("type")
        if wanted == "boolean":
            return f"found {word}; write true or false."
        if wanted == "string":
            return f'found {word}, which some readers take for true or false; put it in quotes: "{word}".'
        return f"found {word}; expected {self.words(key)}."

    def names(self, key: Key) -> list[str]:
        """Return the names allowed in the section at `key`."""
        return list(self.schema(key).get("properties", {}))

    def words(self, key: Key) -> str:
        """Return what the value at `key` may be, with range, choices and default."""
        schema = self.schema(key)
        default = schema.get("default")
        is_plain = isinstance(default, bool | int | float | str)
        return _words(schema) + (f" (default {json.dumps(default)})" if is_plain else "")

    def _suggestion(self, key: Key, found: object) -> str:
        schema = self.schema(key)
        if choices := [str(choice) for choice in _choices(schema)]:
            return did_you_mean(found, choices)
        wanted = schema.get("type")
        if wanted == "string" and isinstance(found, int | float):
            return f' Put it in quotes: "{found}".'
        if wanted in {"integer", "number", "boolean"} and isinstance(found, str):
            return " Write it without quotes."
        return ""

    def schema(self, key: Key) -> Schema:
        """Return the JSON schema of the value at `key`, empty for an unknown key."""
        schema = self._root
        for step in key:
            schema = self._resolved(schema)
            schema = schema.get("items", {}) if isinstance(step, int) else schema.get("properties", {}).get(step, {})
        return self._resolved(schema)

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        return {**self._root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}


def _choices(schema: Schema) -> list[object]:
    return schema.get("enum") or ([schema["const"]] if "const" in schema else [])


def _words(schema: Schema) -> str:
    if choices := _choices(schema):
        return "one of " + ", ".join(str(choice) for choice in choices)
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "array":
            return "a list" + (f" of at least {schema['minItems']}" if "minItems" in schema else "")
        case "object":
            return "a section with " + ", ".join(schema.get("properties", {}))
        case _:
            return _text(schema)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    parts = [f"from {low} to {high}"] if low is not None and high is not None else []
    if not parts and low is not None:
        parts = [f"of at least {low}"]
    if "exclusiveMinimum" in schema:
        parts.append(f"above {schema['exclusiveMinimum']}")
    if not (parts and low is not None) and high is not None:
        parts.append(f"up to {high}")
    if "multipleOf" in schema:
        parts.append(f"a multiple of {schema['multipleOf']}")
    return " " + ", ".join(parts) if parts else ""


def _text(schema: Schema) -> str:
    if schema.get("format") == "path":
        return "a path"
    if "pattern" in schema:
        return f"text of the form {schema['pattern']}"
    return "text"
