"""A model release is loaded whole and unchanged, or not at all."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from station.errors import ConfigurationError
from station.manifest import load_manifest, pair_of, verify


def release(folder: Path, **changes: Any) -> Path:
    """Write a release of two small files and return its manifest; keywords replace parts of it, None removes them."""
    data: dict[str, Any] = {
        "schema": 1,
        "name": "pins-tiny-1",
        "vision": {"patch_px": 16, "image_max_tokens": 1024},
        "context_tokens": 4096,
        "trained_on": "drawn pictures",
    }
    for part in ("text", "mmproj"):
        content = part.encode()
        (folder / f"{part}.gguf").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        data[part] = {"file": f"{part}.gguf", "sha256": sha256, "bytes": len(content)}
    data["pair"] = pair_of(data["text"]["sha256"], data["mmproj"]["sha256"])
    data = {name: value for name, value in (data | changes).items() if value is not None}
    path = folder / "manifest.json"
    path.write_text(json.dumps(data))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        verify(load_manifest(path))
    assert caught.value.hint
    return caught.value.problems


def test_a_whole_release_is_named_by_its_manifest(tmp_path: Path) -> None:
    path = release(tmp_path)
    manifest = load_manifest(path)
    verify(manifest)
    assert manifest.ref.name == "pins-tiny-1"
    assert manifest.ref.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.mmproj.path == tmp_path / "mmproj.gguf"
    assert (manifest.patch_px, manifest.image_max_tokens, manifest.context_tokens) == (16, 1024, 4096)


def test_keys_of_the_exporter_that_the_station_does_not_know_are_allowed(tmp_path: Path) -> None:
    assert load_manifest(release(tmp_path, tools={"llama.cpp": "b1"})).ref.name == "pins-tiny-1"


def test_a_release_without_mmproj_is_refused(tmp_path: Path) -> None:
    assert any("mmproj.file: found nothing" in problem for problem in problems(release(tmp_path, mmproj=None)))


@pytest.mark.parametrize("part", ["text", "mmproj"])
def test_a_missing_file_is_refused(tmp_path: Path, part: str) -> None:
    path = release(tmp_path)
    (tmp_path / f"{part}.gguf").unlink()
    (problem,) = problems(path)
    assert f"{part}.gguf: cannot be read: No such file" in problem


@pytest.mark.parametrize(("content", "said"), [(b"txet", "its hash is"), (b"longer", "has 6 bytes")])
def test_a_changed_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = release(tmp_path)
    (tmp_path / "text.gguf").write_bytes(content)
    (problem,) = problems(path)
    assert said in problem


def test_two_files_of_different_exports_are_refused(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"other mmproj").hexdigest()
    (tmp_path / "other.gguf").write_bytes(b"other mmproj")
    path = release(tmp_path, mmproj={"file": "other.gguf", "sha256": sha256, "bytes": 12})
    assert problems(path) == [f"{path}: text and mmproj were not exported together."]


def test_text_and_mmproj_in_each_others_place_are_refused(tmp_path: Path) -> None:
    path = release(tmp_path)
    data = json.loads(path.read_text())
    data["text"], data["mmproj"] = data["mmproj"], data["text"]
    path.write_text(json.dumps(data))
    assert problems(path) == [f"{path}: text and mmproj were not exported together."]


def test_all_problems_of_the_form_are_said_at_once(tmp_path: Path) -> None:
    text = {"file": "../text.gguf", "sha256": "abc", "bytes": True}
    found = problems(release(tmp_path, schema=2, name="", text=text, vision="none", context_tokens=0))
    for key in ("schema", "name", "text.file", "text.sha256", "text.bytes", "vision.patch_px", "context_tokens"):
        assert any(f": {key}: found " in problem for problem in found), key


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b"null"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(raw)
    assert problems(path)
