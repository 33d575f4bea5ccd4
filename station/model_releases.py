"""`station model list | promote | rollback | shadow`: which release judges, changed in one step and written down.

The active release is the one that config.yaml names; promoting changes that one line, by renaming a finished file over
the old one, so that it is the old or the new one at every moment. Each change is first added to `models.jsonl` beside
config.yaml, with the hashes of both releases. A release is promoted only if gate.json beside its manifest says that it
was measured against the active one and is better (calibration/gate.py). The worker loads it at its next start. A shadow
has no outputs, so any other release that fits into memory may be one.
"""

import enum
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from station.durable_file import append_line, read_lines, write_whole
from station.errors import ConfigurationError
from station.manifest import load_manifest, verify
from station.memory import shortage
from station.records import Record
from station.settings import Settings
from station.who import who

JOURNAL_NAME, GATE_NAME = "models.jsonl", "gate.json"
BETTER = "better"
"""What is said of a release that may be promoted."""
_MODEL_LINE = re.compile(r"^model:[^\n]*$", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*\.json")
_SHADOW_LINE = re.compile(r"^shadow:[^\n]*$", re.MULTILINE)


class Hindrance(enum.Enum):
    """Why a release does not become the active one."""

    NOT_BETTER = "it was not measured as better than the active one"
    SEVERAL = "several were measured as better: a person must say which"
    NOTHING_BEFORE = "there is none to go back to"
    DAMAGED = "its files are not those that were exported"
    NOT_WRITABLE = "config.yaml cannot be changed"


class ReleaseError(ConfigurationError):
    """A release does not become the active one; nothing was changed."""

    def __init__(self, hindrance: Hindrance, problems: list[str], hint: str = "") -> None:
        super().__init__(problems, hint)
        self.hindrance = hindrance


class Gate(Record):
    """What a comparison of a new release with the active one came to."""

    candidate_sha256: str
    """Of its manifest.json."""
    active_sha256: str
    recipe: str
    labelled_set: str
    labels_sha256: str
    """Of the set's labels.csv."""
    is_better: bool
    reasons: tuple[str, ...]
    created_utc: str


class Release(Record):
    """One release that could judge."""

    manifest: str
    name: str
    sha256: str
    is_active: bool
    gate: str
    """better, not better, not compared, or of another active release."""
    problem: str


class Change(Record):
    """One line of the journal."""

    at_utc: str
    action: Literal["promote", "rollback"]
    by: str
    manifest: str
    """Of the release that is active from now on."""
    sha256: str
    before: str
    before_sha256: str


def releases(settings: Settings) -> list[Release]:
    """Return every release beside the active one: all manifests in sister folders of its folder."""
    active = settings.model
    paths = sorted({active, *active.parent.parent.glob("*/manifest*.json")})
    return [_release(path, active) for path in paths]


def _release(path: Path, active: Path) -> Release:
    try:
        manifest = load_manifest(path)
    except ConfigurationError as error:
        return Release(str(path), "", "", path == active, "", error.problems[0])
    gate = read_gate(path)
    word = "not compared"
    if gate is not None and gate.candidate_sha256 == manifest.ref.sha256:
        of_active = gate.active_sha256 == load_manifest(active).ref.sha256
        word = (BETTER if gate.is_better else "not better") if of_active else "of another active release"
    return Release(str(path), manifest.ref.name, manifest.ref.sha256, path == active, word, "")


def better_release(settings: Settings) -> Path:
    """Return the manifest of the one release that may be promoted. Raises ReleaseError when there is none, or more."""
    better = [Path(release.manifest) for release in releases(settings) if release.gate == BETTER]
    if not better:
        problem = f"{settings.model}: no release beside the active one was measured as better."
        raise ReleaseError(Hindrance.NOT_BETTER, [problem], "Measure one: station model compare MANIFEST SET.")
    if len(better) > 1:
        problems = [f"{path}: was measured as better than the active release." for path in better]
        raise ReleaseError(Hindrance.SEVERAL, problems, "Say which: station model promote MANIFEST.")
    return better[0]


def promote(settings: Settings, manifest_path: Path, by: str = "") -> Change:
    """Make this release the active one. `by`: who wants it; empty: the user of this process.

    Raises ReleaseError if it is damaged or was not found better, ConfigurationError if a manifest cannot be read.
    """
    manifest_path = manifest_path.absolute()
    gate, active = read_gate(manifest_path), load_manifest(settings.model)
    candidate = load_manifest(manifest_path)
    hint = f"Measure it first: station model compare {manifest_path} SET."
    if gate is None or gate.candidate_sha256 != candidate.ref.sha256:
        raise _not_better([f"{manifest_path}: was not compared with the active release."], hint)
    if gate.active_sha256 != active.ref.sha256:
        raise _not_better([f"{manifest_path}: was compared with another release than the active one."], hint)
    if not gate.is_better:
        raise _not_better([f"{manifest_path}: {reason}" for reason in gate.reasons], "It is not released.")
    return _change(settings, "promote", manifest_path, by)


def _not_better(problems: list[str], hint: str) -> ReleaseError:
    return ReleaseError(Hindrance.NOT_BETTER, problems, hint)


def rollback(settings: Settings, by: str = "") -> Change:
    """Make the release active that was so before the last change. `by` as for `promote`.

    Raises ReleaseError when there is none, ConfigurationError if a manifest cannot be read.
    """
    now = load_manifest(settings.model).ref.sha256
    before = next((line for line in reversed(changes(settings)) if line.sha256 == now), None)
    if before is None:
        problem, hint = (
            f"{_journal(settings)}: no change led to the active release.",
            "Name it in config.yaml yourself.",
        )
        raise ReleaseError(Hindrance.NOTHING_BEFORE, [problem], hint)
    path = Path(before.before)
    if load_manifest(path).ref.sha256 != before.before_sha256:
        problem = f"{path}: is no longer the release that was active before."
        raise ReleaseError(Hindrance.NOTHING_BEFORE, [problem], "Name one yourself.")
    return _change(settings, "rollback", path, by)


def set_shadow(settings: Settings, manifest_path: Path | None) -> None:
    """Have this release judged beside the active one from the worker's next start; None: no release.

    Raises ConfigurationError if it is damaged, the active one itself, or does not fit into the memory that is free now.
    """
    name = "null"
    if manifest_path is not None:
        manifest = load_manifest(manifest_path.absolute())
        if manifest.ref.sha256 == load_manifest(settings.model).ref.sha256:
            raise ConfigurationError([f"{manifest_path}: is the active release."], "Name another one.")
        if problem := shortage(manifest):
            raise ConfigurationError([problem], "Take a smaller quantization, or end what else uses the memory.")
        verify(manifest)
        name = _named(settings, manifest_path.absolute())
    config = settings.config_path
    text = _with_shadow(config, config.read_text(encoding="utf-8"), f"shadow: {name}")
    try:
        write_whole(config, text.encode())
    except OSError as error:
        raise ConfigurationError([f"{config}: cannot be written: {error.strerror}."], "Look at its folder.") from error


def _with_shadow(config: Path, text: str, line: str) -> str:
    """Return the text of config.yaml with this line, in its place or below the one that names the model."""
    if _SHADOW_LINE.search(text):
        return _SHADOW_LINE.sub(lambda _: line, text)
    if len(_MODEL_LINE.findall(text)) != 1:
        raise ConfigurationError([f"{config}: model is not on one line."], f"Write there yourself: {line}")
    return _MODEL_LINE.sub(lambda match: f"{match[0]}\n{line}", text)


def _named(settings: Settings, path: Path) -> str:
    """Return the path as config.yaml names it: relative to its folder where it is below, quoted where it must."""
    folder = settings.config_path.parent
    name = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def changes(settings: Settings) -> list[Change]:
    """Return the journal's lines, oldest first. Raises ConfigurationError."""
    path = _journal(settings)
    try:
        return list(read_lines(path, msgspec.json.Decoder(Change)))
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."], "Look at its rights.") from error


def read_gate(manifest_path: Path) -> Gate | None:
    """Return what the comparison of a release came to, None if there was none."""
    try:
        return msgspec.json.decode(manifest_path.with_name(GATE_NAME).read_bytes(), type=Gate)
    except (OSError, msgspec.MsgspecError):
        return None


def write_gate(manifest_path: Path, gate: Gate) -> None:
    """Write it beside the manifest. Raises OSError."""
    text = json.dumps(msgspec.to_builtins(gate), indent=1, ensure_ascii=False) + "\n"
    write_whole(manifest_path.with_name(GATE_NAME), text.encode())


def _change(settings: Settings, action: Literal["promote", "rollback"], path: Path, by: str) -> Change:
    try:
        verify(load_manifest(path))
    except ConfigurationError as error:
        raise ReleaseError(Hindrance.DAMAGED, error.problems, error.hint) from error
    config = settings.config_path
    text = config.read_text(encoding="utf-8")
    line = f"model: {_named(settings, path)}"
    if len(_MODEL_LINE.findall(text)) != 1:
        problem = f"{config}: model is not on one line."
        raise ReleaseError(Hindrance.NOT_WRITABLE, [problem], f"Write there yourself: {line}")
    change = Change(
        at_utc=datetime.now(UTC).isoformat(timespec="seconds"), action=action, by=by or who(),
        manifest=str(path), sha256=load_manifest(path).ref.sha256,
        before=str(settings.model), before_sha256=load_manifest(settings.model).ref.sha256,
    )  # fmt: skip
    try:
        # First the journal: a change that was not made after all does no harm there, one that nobody wrote down would.
        append_line(_journal(settings), change)
        write_whole(config, _MODEL_LINE.sub(lambda _: line, text).encode())
    except OSError as error:
        problem = f"{config}: cannot be written: {error.strerror}."
        raise ReleaseError(Hindrance.NOT_WRITABLE, [problem], "Look at its folder.") from error
    return change


def _journal(settings: Settings) -> Path:
    return settings.config_path.with_name(JOURNAL_NAME)
