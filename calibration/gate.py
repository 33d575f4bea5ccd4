"""`station model compare MANIFEST SET`: is a new release better than the active one? Only then it may be promoted.

In: Settings, the manifest, a labelled set that was not trained with, best with the challenge's pictures in it. Both
judge it the way of the line. Out: a Gate, also as gate.json beside the manifest; and the evaluation's files.
"""

import hashlib
from pathlib import Path

from calibration import wordings
from calibration.confidence import by_chance
from calibration.evaluate import evaluate
from calibration.evaluation import ModelReport, Share
from calibration.probing import probed
from station.errors import OutputError
from station.labels import FILE_NAME
from station.model_releases import Gate, write_gate
from station.recipe_file import load_recipe
from station.settings import Settings

NO_MORE_THAN_ACTIVE = ("escapes", "false rejects", "undecidable, said OK")
CHANCE = 0.05
"""One judgement of few that other words change is no reason by itself: it must be surer than that."""


def compare(settings: Settings, candidate: Path, folder: Path, out: Path) -> Gate:
    """Measure both and write down which is better. Raises StationError."""
    report = evaluate(settings, folder, [settings.model, candidate.absolute()], out, in_other_words=True)
    active, new = report.models
    reasons = (*shortcomings(active, new), *_challenge(settings, candidate.absolute()))
    gate = Gate(
        candidate_sha256=new.model.sha256,
        active_sha256=active.model.sha256,
        recipe=report.recipe,
        labelled_set=report.labelled_set,
        labels_sha256=hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest(),
        is_better=not reasons,
        reasons=reasons,
        created_utc=report.created_utc,
    )
    try:
        write_gate(candidate.absolute(), gate)
    except OSError as error:
        raise OutputError(f"{candidate.parent} cannot be written: {error.strerror}.", "Look at its rights.") from error
    return gate


def _challenge(settings: Settings, candidate: Path) -> tuple[str, ...]:
    """Return why the station would be offline with this release whatever the OK limit: the probes that it fails."""
    recipe = load_recipe(settings.recipe)
    asked = probed(settings, recipe, candidate)
    if asked is None or asked.ok_limit(1.0) is not None:
        return ()
    return tuple(f"challenge: {problem}" for problem in asked.problems(recipe.file.thresholds.ok_max_p_defect))


def shortcomings(active: ModelReport, new: ModelReport) -> tuple[str, ...]:
    """Return why the new release is not better; nothing when it is.

    It must make no kind of error more often, hang on the words of the question no more than chance explains, and must
    be right on more pictures; on as many only if its probabilities are better too (log loss).
    """
    found = [
        f"{name}: {new.rates[name].k} of {new.rates[name].n}, the active release {active.rates[name].k}"
        for name in (*NO_MORE_THAN_ACTIVE, *wordings.RATES)
        if name in new.rates and name in active.rates and _is_worse(name, new.rates[name], active.rates[name])
    ]
    right, before = new.rates["judgement right"], active.rates["judgement right"]
    surer = new.log_loss is not None and active.log_loss is not None and new.log_loss < active.log_loss
    if right.k < before.k or (right.k == before.k and not surer):
        found.append(f"judgement right: {right.k} of {right.n}, the active release {before.k}: not better")
    if new.is_simulated or active.is_simulated:
        found.append("simulated: no model judged")
    return tuple(found)


def _is_worse(name: str, new: Share, active: Share) -> bool:
    if name in NO_MORE_THAN_ACTIVE:
        return new.k > active.k
    return by_chance(new.k, new.n, active.k, active.n) < CHANCE
