"""Reads and writes certificate.json beside recipe.yaml, and hashes what it depends on.

In: a recipe and its model release. Out: `Conditions` as they are now, the certificate on disk. Raises
ConfigurationError for a file that is no certificate.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import msgspec

from station.certificate import (
    FILE_NAME,
    Certificate,
    Conditions,
    prompt_sha256,
    recipe_without_limits_sha256,
)
from station.errors import ConfigurationError
from station.inspection import Inspection
from station.recipe import Recipe

CODE = (
    "capture/gate.py",
    "capture/pose.py",
    "capture/search.py",
    "capture/registration.py",
    "capture/crop.py",
    "composite.py",
    "inspection.py",
    "report.py",
    "engine/llama.py",
    "engine/llama_text.py",
    "engine/llama_vision.py",
    "engine/cursor.py",
)
"""What stands between a frame and its score."""


def conditions(recipe: Recipe, inspection: Inspection, model_sha256: str) -> Conditions:
    """Return the conditions as they are now."""
    code = hashlib.sha256()
    for name in CODE:
        code.update((Path(__file__).parent / name).read_bytes())
    return Conditions(
        model_sha256=model_sha256,
        recipe_sha256=recipe_without_limits_sha256(recipe),
        golden_sha256=recipe.file.golden_sha256,
        prompt_sha256=prompt_sha256(inspection),
        code_sha256=code.hexdigest(),
        llama_cpp=importlib.metadata.version("llama-cpp-python"),
    )


def path_of(recipe: Recipe) -> Path:
    """Return where the recipe's certificate is or would be."""
    return recipe.golden_path.with_name(FILE_NAME)


def read_certificate(path: Path) -> Certificate | None:
    """Return the certificate, None if there is none. Raises ConfigurationError if the file is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        hint = "Calibrate again: station calibrate thresholds SET."
        raise ConfigurationError([f"{path}: not a certificate: {error}."], hint) from error


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Write the certificate, readable by people. Raises OSError."""
    text = json.dumps(msgspec.to_builtins(certificate), indent=2, ensure_ascii=False)
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(text + "\n", encoding="utf-8")
    hidden.replace(path)
