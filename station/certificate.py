"""A certificate: which limits keep which promise, on what evidence, and under which conditions. Pure.

Written by `station calibrate thresholds` beside recipe.yaml, read by `station check`. It holds only while everything
that makes a score is what it was: model, recipe apart from its thresholds, golden picture, question, the code from
frame to composite, and llama.cpp. Any change voids it.
"""

import hashlib
import json

from station.inspection import Inspection
from station.recipe import Recipe
from station.records import Record

FILE_NAME = "certificate.json"
SCHEMA = 1


class Conditions(Record):
    """Hashes (hex SHA-256) and versions of everything that makes a score."""

    model_sha256: str
    recipe_sha256: str
    """Of the recipe without its thresholds and deadline."""
    golden_sha256: str
    prompt_sha256: str
    """Of instruction, answer form and picture size."""
    code_sha256: str
    """Of the station's files between frame and score."""
    llama_cpp: str


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


def recipe_without_limits_sha256(recipe: Recipe) -> str:
    """Return the hash of what the recipe says apart from thresholds and deadline."""
    data = recipe.file.model_dump(mode="json", exclude={"thresholds", "deadline_ms"})
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def prompt_sha256(inspection: Inspection) -> str:
    """Return the hash of the question that is put to the model."""
    question = inspection.question
    form = [[slot.before, *slot.choices] for slot in question.slots]
    text = json.dumps([question.instruction, question.images, question.width_px, question.height_px, form])
    return hashlib.sha256(text.encode()).hexdigest()


def objections(certificate: Certificate, now: Conditions, recipe: Recipe) -> list[str]:
    """Return why the certificate does not hold now; empty when it holds."""
    was = certificate.conditions
    found = [
        f"{name}: {getattr(now, name)[:12]} now, {getattr(was, name)[:12]} when calibrated"
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
