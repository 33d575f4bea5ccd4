"""A model release: manifest.json beside its two GGUF files. Standard library only, so that the exporter can use it.

`load_manifest` checks the form and that text and mmproj are of one export, `verify` hashes both files. A release is
named by the hash of its manifest.json, which holds the hashes of everything else; keys this release does not know are
kept for people.
Nothing wrong is ever loaded: a missing or changed file is a ConfigurationError that says what to do.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station.errors import ConfigurationError
from station.records import ModelRef

SCHEMA = 1
_HASH_BLOCK_BYTES = 1024 * 1024
_HINT = "Copy the whole release folder again, or export the model again."


@dataclass(frozen=True)
class ModelFile:
    """One GGUF file of a release."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A model release that was read; its files are not yet checked."""

    ref: ModelRef
    text: ModelFile
    """The language model."""
    mmproj: ModelFile
    """The vision tower and projector; without it the model sees nothing."""
    patch_px: int
    """Picture sides are multiples of this."""
    image_max_tokens: int
    """Most patches a picture may have; larger ones would be resized unseen."""
    context_tokens: int


def load_manifest(path: Path) -> Manifest:
    """Return the release that manifest.json describes. Raises ConfigurationError with every problem in its form."""
    try:
        raw = path.read_bytes()
        data = json.loads(raw)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."], _HINT) from error
    except ValueError as error:
        raise ConfigurationError([f"{path}: not JSON: {error}."], _HINT) from error
    form = _Form(path, data)
    sha256 = hashlib.sha256(raw).hexdigest()
    form.number("schema", SCHEMA, SCHEMA)
    pair = form.text("pair")
    manifest = Manifest(
        ref=ModelRef(name=form.text("name"), sha256=sha256),
        text=form.file("text"),
        mmproj=form.file("mmproj"),
        patch_px=form.number("vision.patch_px", 1, 256),
        image_max_tokens=form.number("vision.image_max_tokens", 1, 65_536),
        context_tokens=form.number("context_tokens", 1, 1_048_576),
    )
    if not form.problems and pair != pair_of(manifest.text.sha256, manifest.mmproj.sha256):
        form.problems.append(f"{path}: text and mmproj were not exported together.")
    if form.problems:
        raise ConfigurationError(form.problems, _HINT)
    return manifest


def pair_of(text_sha256: str, mmproj_sha256: str) -> str:
    """Return what ties the two files of a release together; the exporter writes it as `pair`."""
    return hashlib.sha256(f"{text_sha256} {mmproj_sha256}".encode()).hexdigest()


def verify(manifest: Manifest) -> None:
    """Hash both files of the release. Raises ConfigurationError with each that is missing or another than exported."""
    problems = [problem for file in (manifest.text, manifest.mmproj) if (problem := _file_problem(file))]
    if problems:
        raise ConfigurationError(problems, _HINT)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file of any size. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _file_problem(file: ModelFile) -> str | None:
    try:
        size_bytes = file.path.stat().st_size
        if size_bytes != file.size_bytes:
            return f"{file.path}: has {size_bytes} bytes, the manifest says {file.size_bytes}: not the exported file."
        found = sha256_of(file.path)
    except OSError as error:
        return f"{file.path}: cannot be read: {error.strerror}."
    if found != file.sha256:
        return f"{file.path}: its hash is {found}, the manifest says {file.sha256}: not the exported file."
    return None


class _Form:
    """Takes typed values out of the manifest and collects what is wrong; a wrong value becomes a stand-in."""

    def __init__(self, path: Path, data: object) -> None:
        self._path = path
        self._data = data
        self.problems: list[str] = []

    def text(self, key: str) -> str:
        value = self._get(key)
        if isinstance(value, str) and value:
            return value
        return str(self._wrong(key, value, "a text", ""))

    def number(self, key: str, low: int, high: int) -> int:
        value = self._get(key)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return int(self._wrong(key, value, f"a whole number from {low} to {high}", low))

    def file(self, key: str) -> ModelFile:
        name = self.text(f"{key}.file")
        if Path(name).name != name:
            self._wrong(f"{key}.file", name, "a file name without folder, beside manifest.json", "")
        sha256 = self.text(f"{key}.sha256")
        if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
            self._wrong(f"{key}.sha256", sha256, "64 digits 0-9 a-f", "")
        return ModelFile(self._path.parent / name, sha256, self.number(f"{key}.bytes", 1, 2**53))

    def _get(self, key: str) -> Any:
        value = self._data
        for step in key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def _wrong(self, key: str, value: object, expected: str, stand_in: str | int) -> str | int:
        found = "nothing" if value is None else json.dumps(value)[:60]
        self.problems.append(f"{self._path}: {key}: found {found}; expected {expected}.")
        return stand_in
