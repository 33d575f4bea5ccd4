"""Reads and writes certificate.json beside recipe.yaml, and hashes what it depends on.

In: a recipe and its model release. Out: `Conditions` as they are now, the certificate on disk, and why it does not let
the station say OK. Raises ConfigurationError for a file that is no certificate.
"""

import importlib.metadata
import json
from pathlib import Path

import msgspec

from station.certificate import (
    FILE_NAME,
    Certificate,
    Conditions,
    code_sha256,
    objections,
    prompt_sha256,
    recipe_without_limits_sha256,
)
from station.engine.base import Question
from station.errors import ConfigurationError
from station.recipe import Recipe
from station.records import Failure, ModelRef, Reason

TO_DO = "Measure and set limits on a labelled set: station calibrate thresholds SET, then start the worker again."

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
LENS_CODE, TIPS_CODE = "capture/lens.py", "capture/tips.py"
"""As well, for a recipe that names the camera's calibration, and for one that looks for the tips."""


def conditions(recipe: Recipe, question: Question, model_sha256: str) -> Conditions:
    """Return the conditions as they are now."""
    wanted = {LENS_CODE: recipe.camera, TIPS_CODE: recipe.file.registration.tip_reach_px}
    code = (*CODE, *(name for name, is_wanted in wanted.items() if is_wanted))
    return Conditions(
        model_sha256=model_sha256,
        recipe_sha256=recipe_without_limits_sha256(recipe),
        golden_sha256=recipe.file.golden_sha256,
        prompt_sha256=prompt_sha256(question),
        code_sha256=code_sha256((Path(__file__).parent / name).read_text(encoding="utf-8") for name in code),
        llama_cpp=importlib.metadata.version("llama-cpp-python"),
        opencv=importlib.metadata.version("opencv-python-headless"),
    )


class Certified:
    """A recipe's certificate as it was when this was made, held against whatever model judges."""

    def __init__(self, recipe: Recipe, question: Question) -> None:
        """Read the certificate; a file that is none counts as none."""
        self._recipe, self._question = recipe, question
        self._model: ModelRef | None = None
        self._bar: Failure | None = None
        self.certificate: Certificate | None = None
        self._why = f"{path_of(recipe)} is not there: nothing is proven of the recipe's thresholds."
        try:
            self.certificate = read_certificate(path_of(recipe))
        except ConfigurationError as error:
            self._why = error.problems[0]

    def bar(self, model: ModelRef, *, is_simulated: bool) -> Failure | None:
        """Return why the station may not say OK with this model, None if it may.

        A simulated verdict needs no certificate: it says of itself that it is never to be used for a real part.
        """
        if is_simulated:
            return None
        if model != self._model:
            self._model, self._bar = model, self._looked_at(model)
        return self._bar

    def _looked_at(self, model: ModelRef) -> Failure | None:
        why = [self._why]
        if self.certificate is not None:
            why = objections(self.certificate, conditions(self._recipe, self._question, model.sha256), self._recipe)
        if not why:
            return None
        return Failure(reason=Reason.NO_CERTIFICATE, detail=f"No valid certificate: {'; '.join(why)} {TO_DO}")


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
