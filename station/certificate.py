"""A certificate: which limits keep which promise, on what evidence, and under which conditions. Pure.

Written by `station calibrate thresholds` beside recipe.yaml; without a valid one the station never says OK. It holds
only while everything that makes a score is what it was: model, recipe apart from its thresholds, golden picture,
question, the code from frame to score, and the libraries that make pixels and numbers. Any change voids it.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator

import msgspec

from station.engine.base import Question
from station.recipe import Recipe
from station.records import Record

FILE_NAME = "certificate.json"
SCHEMA = 1


class Conditions(Record):
    """Hashes (hex SHA-256) and versions of everything that makes a score."""

    model_sha256: str
    """Of the release's manifest, which holds the hashes of both GGUF files."""
    recipe_sha256: str
    """Of what recipe.yaml says, without NOT_OF_A_SCORE."""
    golden_sha256: str
    prompt_sha256: str
    """Of instruction, answer form and picture size."""
    code_sha256: str
    """Of the station's code between frame and score."""
    llama_cpp: str
    """Version."""
    opencv: str
    """Version: it makes the pixels of a crop."""


NOT_OF_A_SCORE = ("thresholds", "deadline_ms", "picture", "measurement")
"""Keys of recipe.yaml that move no score: looser thresholds are refused apart, the others can only take an OK away."""
WHAT_CHANGED = {
    "model_sha256": "config.yaml names another model than the one that was measured",
    "recipe_sha256": "recipe.yaml was changed, not only its limits",
    "golden_sha256": "the golden picture is another one",
    "prompt_sha256": "the question put to the model is another one",
    "code_sha256": "this release of the station cuts, shows or reads otherwise",
    "llama_cpp": "another version of llama.cpp computes",
    "opencv": "another version of OpenCV cuts the crops",
}
"""Condition -> what it means, for people, that it differs."""


class Certificate(Record):
    """Limits and the promise they keep."""

    schema: int
    recipe: str
    model: str
    created_utc: str
    signer: str
    conditions: Conditions
    ok_max_p_defect: float
    not_ok_min_p_defect: float
    min_mass: float
    max_escape: float
    max_reject: float
    confidence: float
    populations: tuple[str, ...]
    modes: tuple[str, ...]
    """Modes that the promise holds for one by one."""
    verified: str
    statement: str
    """The promise in words."""
    evidence: dict[str, object]
    """The calibration itself: groups, limits, what each group showed."""
    reference: dict[str, float] = msgspec.field(default_factory=dict)
    """Picture of the set -> its score in log odds, of some tuning parts: how a later release is compared."""
    carried: tuple[str, ...] = ()
    """Each time that the certificate was carried over to other code: when, and how far the scores moved."""


def recipe_without_limits_sha256(recipe: Recipe) -> str:
    """Return the hash of what the recipe says that can move a score."""
    # Only what is written: a key that a later release adds, with a default, must not void what was measured before.
    data = recipe.file.model_dump(mode="json", exclude=set(NOT_OF_A_SCORE), exclude_unset=True)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def prompt_sha256(question: Question) -> str:
    """Return the hash of the question that is put to the model."""
    form = [[slot.before, *slot.choices] for slot in question.slots]
    text = json.dumps([question.instruction, question.images, question.width_px, question.height_px, form])
    return hashlib.sha256(text.encode()).hexdigest()


def code_sha256(sources: Iterable[str]) -> str:
    """Return the hash of Python sources as syntax trees: comments, docstrings and layout do not count."""
    trees = [_shape(ast.parse(source)) for source in sources]
    return hashlib.sha256(repr(trees).encode()).hexdigest()


def _shape(node: object) -> object:
    """Return a node as plain tuples, without docstrings and empty fields: so all versions of Python agree."""
    if isinstance(node, list):
        return tuple(_shape(one) for one in node if not _is_text_alone(one))
    if isinstance(node, ast.AST):
        return type(node).__name__, *_fields(node)
    return node


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    return ((name, _shape(value)) for name, value in ast.iter_fields(node) if value is not None and value != [])


def _is_text_alone(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def objections(certificate: Certificate, now: Conditions, recipe: Recipe) -> list[str]:
    """Return why the certificate does not hold now; empty when it holds."""
    was = certificate.conditions
    found = [
        f"{name} is {getattr(now, name)[:12]} and was {getattr(was, name)[:12]} when calibrated: {WHAT_CHANGED[name]}"
        for name in Conditions.__struct_fields__
        if getattr(now, name) != getattr(was, name)
    ]
    limits = recipe.file.thresholds
    if limits.ok_max_p_defect > certificate.ok_max_p_defect:
        found.append(f"ok_max_p_defect: {limits.ok_max_p_defect:g}, certified up to {certificate.ok_max_p_defect:g}")
    if limits.min_mass < certificate.min_mass:
        found.append(f"min_mass: {limits.min_mass:g}, certified with {certificate.min_mass:g}")
    if certificate.verified == "broken":
        found.append("the verifying parts broke the promise")
    return found
