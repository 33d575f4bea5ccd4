"""`station calibrate thresholds SET`: limits that keep a promise, and the certificate that says so.

In: Settings, a labelled set, the promise. Each part of the set goes to tuning, calibrating or verifying by the hash of
its name. Out: a Calibration; when there are limits, certificate.json beside recipe.yaml. Raises StationError.
"""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from calibration.probing import Probed, probed
from calibration.run_set import LabelledSet
from calibration.seen import Seen, margin_of, parts_of
from calibration.splitting import TUNE, group_of, place_of
from calibration.tables import with_progress
from calibration.thresholds import Calibration, Limits, Promise, calibrated, groups_of, temperature
from station.certificate import SCHEMA, Certificate
from station.certificate_file import conditions, path_of, read_certificate, write_certificate
from station.errors import ConfigurationError, OutputError
from station.recipe_file import load_recipe
from station.records import ModelRef
from station.settings import Settings
from station.who import who
from station.wiring import make_inspection

CALIBRATE = "Calibrate anew: station calibrate thresholds SET."
BEFORE = ".before"
"""Ending of what is kept for who goes back to the model before."""
REFERENCES = 60
MOST_MOVED = 0.3
"""Largest move of a score, in log odds, that counts as the same answer."""
CERTAIN = 8.0
KEPT = ("model_sha256", "recipe_sha256", "golden_sha256", "prompt_sha256")
"""What must be the same for a certificate to be carried over."""
_LIMITS_LINE = re.compile(r"^thresholds: *\{.*\}", re.MULTILINE)


def calibrate_thresholds(settings: Settings, folder: Path, promise: Promise) -> tuple[Calibration, Path | None]:
    """Judge the set, find the limits and write the certificate; None: no limits, and none is written."""
    recipe = load_recipe(settings.recipe)
    labelled = LabelledSet(settings, recipe, folder)
    seen = list(with_progress(labelled.seen(), len(labelled), "judging"))
    found = with_challenge(seen, promise, probed(settings, recipe))
    judged = [one for one in seen if one.verdict.regions]
    if found.limits is None or not judged:
        return found, None
    now = conditions(recipe, make_inspection(recipe).question, judged[0].verdict.model.sha256)
    certificate = Certificate(
        schema=SCHEMA,
        recipe=recipe.file.recipe,
        model=_name(judged[0].verdict.model, is_simulated=judged[0].verdict.is_simulated),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        signer=who(),
        conditions=now,
        ok_max_p_defect=found.limits.ok_max_p_defect,
        not_ok_min_p_defect=found.limits.not_ok_min_p_defect,
        min_mass=recipe.file.thresholds.min_mass,
        max_escape=promise.max_escape,
        max_reject=promise.max_reject,
        confidence=promise.confidence,
        populations=tuple(sorted({one.population for one in seen})),
        modes=found.modes_kept,
        verified=found.verified,
        statement=statement(found, labelled.folder.name, sorted({one.population for one in seen})),
        evidence={"set": labelled.folder.name} | msgspec.to_builtins(found),
        reference=reference_of(seen),
    )
    return found, _written(path_of(recipe), certificate, settings.recipe)


def _written(path: Path, certificate: Certificate, recipe_path: Path | None = None) -> Path:
    """Write the certificate; unless one of this model is there, it and the recipe.yaml at `recipe_path` are kept."""
    try:
        if recipe_path is not None and not _is_of_model(path, certificate.conditions.model_sha256):
            for kept in filter(Path.exists, (path, recipe_path)):
                shutil.copyfile(kept, kept.with_name(f"{kept.name}{BEFORE}"))
        write_certificate(path, certificate)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Look at the recipe's folder.") from error
    return path


def _is_of_model(path: Path, model_sha256: str) -> bool:
    try:
        held = read_certificate(path)
    except ConfigurationError:
        return False
    return held is not None and held.conditions.model_sha256 == model_sha256


def reference_of(seen: list[Seen]) -> dict[str, float]:
    """Return the scores that a later release is compared on: tuning parts, which prove nothing themselves."""
    tuning = sorted((one for one in seen if group_of(one.part) == TUNE), key=lambda one: place_of(one.part))
    scores = [(one.image, one.margin) for one in tuning]
    return dict([(image, score) for image, score in scores if score is not None][:REFERENCES])


def carry_over(settings: Settings, folder: Path) -> Path:
    """Judge the certificate's reference pictures again; if no score moved, let it hold for the code of now.

    Raises ConfigurationError when there is nothing to compare with, when more than code or a library changed, or when
    scores moved: then only a whole calibration helps.
    """
    recipe = load_recipe(settings.recipe)
    held = read_certificate(path_of(recipe))
    if held is None or not held.reference:
        raise ConfigurationError([f"{path_of(recipe)} has no reference scores to compare with."], CALIBRATE)
    labelled = LabelledSet(settings, recipe, folder, only=held.reference)
    if missing := sorted(set(held.reference) - set(labelled.labels)):
        raise ConfigurationError([f"{folder} lacks {len(missing)} of them, as {missing[0]}."], CALIBRATE)
    seen = list(with_progress(labelled.seen(), len(labelled), "judging"))
    now = conditions(recipe, make_inspection(recipe).question, seen[0].verdict.model.sha256)
    if changed := [name for name in KEPT if getattr(now, name) != getattr(held.conditions, name)]:
        raise ConfigurationError([f"{', '.join(changed)} changed, not only the code."], CALIBRATE)
    moved = max(moves(held, {one.image: one.margin for one in seen}).values())
    if not moved <= MOST_MOVED:
        text = f"A score moved by {moved:.2f} (log odds), at most {MOST_MOVED} is allowed."
        raise ConfigurationError([text], CALIBRATE)
    note = f"{datetime.now(UTC):%Y-%m-%d}: {len(seen)} reference scores moved by at most {moved:.3f}"
    return _written(path_of(recipe), msgspec.structs.replace(held, conditions=now, carried=(*held.carried, note)))


def moves(held: Certificate, scores: Mapping[str, float | None]) -> dict[str, float]:
    """Return how far each reference score moved, in log odds; infinite where there is none any more.

    Beyond CERTAIN a score says no more than that it is certain: numbers differ there that mean the same.
    """

    def clipped(score: float) -> float:
        return max(-CERTAIN, min(CERTAIN, score))

    return {
        image: math.inf if (score := scores.get(image)) is None else abs(clipped(score) - clipped(was))
        for image, was in held.reference.items()
    }


def with_challenge(seen: list[Seen], promise: Promise, asked: Probed | None) -> Calibration:
    """Return the calibration on pictures that were judged, with an OK limit that the challenge passes with, or none.

    A lower OK limit keeps the promise too. `asked` None: the engine is simulated and is not challenged.
    """
    found = of_seen(seen, promise)
    if asked is None or found.limits is None:
        return found
    problems = asked.problems(found.limits.ok_max_p_defect)
    if not problems:
        return found
    most = asked.ok_limit(found.limits.ok_max_p_defect)
    lower = of_seen(seen, promise, -math.inf if most is None else margin_of(most), problems)
    if lower.limits is None or not (left := asked.problems(lower.limits.ok_max_p_defect)):
        return lower
    return of_seen(seen, promise, -math.inf, left)


def of_seen(seen: list[Seen], promise: Promise, most: float = math.inf, challenged: Sequence[str] = ()) -> Calibration:
    """Return the calibration on pictures that were judged; `most` and `challenged` as for `calibrated`."""
    tuning = [one for one in seen if group_of(one.part) == TUNE]
    pins = [pin for one in tuning for pin in one.pins if pin.is_bad is not None]
    scale = temperature([pin.margin for pin in pins], [bool(pin.is_bad) for pin in pins])
    return calibrated(groups_of(parts_of(seen)), scale, promise, most, challenged)


def statement(found: Calibration, name: str, populations: list[str]) -> str:
    """Return the promise in words, with everything it depends on."""
    bad, kinds = found.groups["calibrate"].bad, "/".join(populations)
    modes = f", by itself also for {', '.join(found.modes_kept)}" if found.modes_kept else ""
    return (
        f"With {found.promise.confidence:.0%} confidence at most {found.promise.max_escape:.2%} of defective parts of"
        f" the kind in set {name} ({bad} defective parts to calibrate with, {kinds}{modes}) are released as OK,"
        f" and at most {found.promise.max_reject:.2%} of good parts are said NOT_OK, while the conditions of this"
        " certificate hold. Parts that are not decided are rejected by the line and not counted here."
    )


def apply(path: Path, limits: Limits) -> None:
    """Put the limits into recipe.yaml. Raises ConfigurationError when its thresholds are not on one line."""
    text = path.read_text(encoding="utf-8")
    mass = load_recipe(path).file.thresholds.min_mass
    line = thresholds_line(limits, mass)
    changed, times = _LIMITS_LINE.subn(line, text)
    if times != 1:
        raise ConfigurationError([f"{path}: thresholds are not on one line."], f"Write there yourself: {line}")
    path.write_text(changed, encoding="utf-8")


def thresholds_line(limits: Limits, min_mass: float) -> str:
    """Return the line for recipe.yaml, with all digits."""
    ok_max, not_ok_min = limits.ok_max_p_defect, limits.not_ok_min_p_defect
    return f"thresholds: {{ok_max_p_defect: {ok_max!r}, not_ok_min_p_defect: {not_ok_min!r}, min_mass: {min_mass:g}}}"


def _name(model: ModelRef, *, is_simulated: bool) -> str:
    return f"{model.name} (simulated)" if is_simulated else model.name
