"""One small base per layout for all tests of the exporter."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_gguf
import pytest

from tests.export import tiny_pixtral

ROOT = Path(__file__).parents[2]


class Bench:
    """A base and an adapter in a folder of their own."""

    def __init__(self, folder: Path, layout: str, recipe: str) -> None:
        self.base, self.adapter, self.out = folder / "base", folder / "adapter", folder / "out"
        self.weights = tiny_pixtral.write_base(self.base, layout)
        self.made = tiny_pixtral.make_adapter(self.weights, recipe, layout)
        tiny_pixtral.write_adapter(self.adapter, self.made)

    def export(self, *quants: str, **order: Any) -> Path:
        """Export in this process; return the manifest's path."""
        return Path(
            export_gguf.export(
                export_gguf.Order(self.base, self.adapter, self.out, "tiny", quants or ("F16",), **order)
            )
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Export by the command line."""
        command = [sys.executable, str(ROOT / "models/export_gguf.py"), "--base", str(self.base)]
        command += ["--adapter", str(self.adapter), "--out", str(self.out), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def rewrite(self) -> None:
        """Write the adapter again after a test changed it."""
        tiny_pixtral.write_json(self.adapter / "adapter_config.json", self.made.config)
        tiny_pixtral.write_safetensors(self.adapter / "adapter_model.safetensors", self.made.tensors)


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    """Return a function that makes a base with an adapter."""

    def make(recipe: str = "all", layout: str = "4.57") -> Bench:
        return Bench(tmp_path, layout, recipe)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """Return a base with an adapter that trained everything."""
    return make_bench()


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out V2, which takes half a second, where another test has it."""
    monkeypatch.setattr(export_gguf.load_check, "check_loads", lambda *_: {"image_tokens": 14})
