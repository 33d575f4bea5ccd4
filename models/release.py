"""The release folder: which files of it are finished, their hashes, the manifest, and the order in which names appear.

A file is written as NAME.partial and gets its name when all checks have passed; manifest.json comes last, so a folder
without it is no release. `export-state.json` remembers finished parts, so that an interrupted export goes on.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from progress import Progress

_STATE = "export-state.json"
_BLOCK_BYTES = 4 * 2**20


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    progress = Progress("hash", path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            progress.add(len(block))
    return digest.hexdigest()


@dataclass
class Folder:
    """A release being made in `path` from what `inputs` names."""

    path: Path
    inputs: str
    files: dict[str, dict[str, object]] = field(default_factory=dict)
    """Finished files by name: sha256 and bytes."""
    sources: list[dict[str, object]] = field(default_factory=list)
    """Hashes of the base's files, once they were read."""

    def load(self) -> None:
        """Take over what an earlier run with the same inputs finished; checks nothing yet."""
        for name in ("manifest.json", _STATE):
            try:
                data = json.loads((self.path / name).read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(data, dict) and data.get("inputs") == self.inputs:
                self.files |= data["files"]
                self.sources = data["sources"]

    def partial(self, name: str) -> Path:
        """Return the path under which a file is written."""
        return self.path / f"{name}.partial"

    def finished(self, name: str) -> Path | None:
        """Return the file if it is there with the right hash, under either name."""
        known = self.files.get(name)
        for path in (self.partial(name), self.path / name):
            if (
                known
                and path.is_file()
                and path.stat().st_size == known["bytes"]
                and sha256_of(path) == known["sha256"]
            ):
                return path
        return None

    def finish(self, name: str, sha256: str) -> None:
        """Remember that NAME.partial is complete and durable."""
        self.files[name] = {"sha256": sha256, "bytes": self.partial(name).stat().st_size}
        state = {"inputs": self.inputs, "files": self.files, "sources": self.sources}
        write_text(self.path / _STATE, json.dumps(state))

    def discard(self, names: list[str]) -> None:
        """Remove unfinished or wrong files."""
        for name in names:
            self.partial(name).unlink(missing_ok=True)
            self.files.pop(name, None)

    def publish(self, names: list[str], manifests: dict[str, dict]) -> None:
        """Give the files their names, then SHA256SUMS, then the manifests; manifest.json is the last."""
        for old in self.path.glob("manifest*.json"):
            old.unlink()
        for name in names:
            if self.partial(name).exists():
                self.partial(name).replace(self.path / name)
        sums = "".join(f"{self.files[name]['sha256']}  {name}\n" for name in sorted(names))
        write_text(self.path / "SHA256SUMS", sums)
        for name in sorted(manifests, key=lambda name: (name == "manifest.json", name)):
            write_text(self.path / name, json.dumps(manifests[name], indent=1) + "\n")
        for rest in [*self.path.glob("*.partial"), self.path / _STATE]:
            rest.unlink(missing_ok=True)
        _sync_folder(self.path)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
