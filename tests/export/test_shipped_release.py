"""The shipped release is what this exporter makes of the shipped base and adapter, on any processor."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.export.conftest import ROOT

SHIPPED = ROOT / "models/pins-tiny"


def test_the_shipped_release_is_remade_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "models/export_gguf.py"), "--base", str(SHIPPED / "base")]
    command += ["--adapter", str(SHIPPED / "adapter"), "--out", str(tmp_path), "--name", "pins-tiny"]
    # OpenBLAS for an old processor: it adds up in another order, and the files must not know
    environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "SHA256SUMS").read_text() == (SHIPPED / "SHA256SUMS").read_text()
    made, shipped = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path, SHIPPED))
    for key in ("pair", "groups", "runtime", "adapter", "vision", "context_tokens"):
        assert made[key] == shipped[key], key
