"""Tensor for tensor and key for key equal to llama.cpp's own converter on the same merged weights."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import adapter
import export_gguf
import gguf_read
import numpy as np
import pytest

from tests.export import tiny_pixtral
from tests.export.conftest import ROOT, Bench

PYTHON = ROOT / ".venvs/4.57.6/bin/python"
PACKAGE = "llama-cpp-python==0.3.36"
pytestmark = [pytest.mark.export, pytest.mark.timeout(1800)]

ONLY_THEIRS = {
    "general.type", "general.size_label", "general.quantization_version", "tokenizer.ggml.unknown_token_id",
}  # fmt: skip
"""Keys that the converter writes as well: descriptions, and a token that a byte-level vocabulary never uses."""


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of llama.cpp in the source package of llama-cpp-python."""
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON.relative_to(ROOT)}: make test-export installs it")
    if given := os.environ.get("LLAMA_CPP_SOURCE"):
        return Path(given)
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    done = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False, timeout=1500)
    packages = list(folder.glob("llama_cpp_python-*.tar.gz"))
    if not packages:
        pytest.skip(f"the source of {PACKAGE} cannot be had here: {done.stderr[-300:]}")
    with tarfile.open(packages[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/vendor/llama.cpp"))


def convert(converter: Path, model: Path, out: Path) -> None:
    script = Path(__file__).parent / "convert_with_llama_cpp.py"
    done = subprocess.run(
        [PYTHON, script, converter, model, out], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]


def write_merged(bench: Bench, folder: Path) -> None:
    """Write the merged weights in 32 bit, by the exporter's own merge: only the conversion is compared here."""
    changes = adapter.read(bench.adapter).changes
    merged = {
        name: changes[name].apply(weight, 0, len(weight)) if name in changes else weight
        for name, weight in bench.weights.items()
    }
    folder.mkdir()
    tiny_pixtral.write_safetensors(folder / "model.safetensors", merged)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((bench.base / name).read_bytes())


@pytest.mark.parametrize("recipe", ["all", "modules_to_save"])
def test_files_are_those_of_llama_cpps_converter(
    make_bench: Callable[..., Bench], converter: Path, tmp_path: Path, recipe: str
) -> None:
    bench = make_bench(recipe)
    bench.export()
    write_merged(bench, tmp_path / "merged")
    convert(converter, tmp_path / "merged", tmp_path)
    for ours, theirs in (("text-F16.gguf", "text.gguf"), ("mmproj-F16.gguf", "mmproj.gguf")):
        our_keys, our_tensors = gguf_read.read_head(bench.out / ours)
        their_keys, their_tensors = gguf_read.read_head(tmp_path / theirs)
        assert set(our_tensors) == set(their_tensors)
        for name, tensor in our_tensors.items():
            other = their_tensors[name]
            assert (tensor.kind, tensor.shape) == (other.kind, other.shape), name
            rows = tensor.shape[0]
            assert np.array_equal(tensor.rows(0, rows), other.rows(0, rows)), name
        assert set(our_keys) <= set(their_keys)
        assert set(their_keys) - set(our_keys) <= ONLY_THEIRS
        for key, value in our_keys.items():
            assert value == their_keys[key], key


def test_every_tensor_of_12b_is_counted() -> None:
    import bench_export  # noqa: PLC0415
    import checked_json  # noqa: PLC0415
    import gguf_plan  # noqa: PLC0415

    assert export_gguf
    config = checked_json.Fields(bench_export.config(40), "config.json", "E07", "")
    gguf_plan.check_config(config)
    assert len(gguf_plan.plan_text(config, {}, "x").entries) == 363
