"""The release that ships is what the exporter makes of the base and the adapter beside it, byte for byte."""

import json
from pathlib import Path

import export_gguf
import numpy as np

SHIPPED = Path(__file__).parents[3] / "models/pins-tiny"


def test_the_exporter_remakes_the_shipped_pair(tmp_path: Path) -> None:
    export_gguf.export(SHIPPED / "base", SHIPPED / "adapter", tmp_path / "release", "pins-tiny")
    made = json.loads((tmp_path / "release/manifest.json").read_text())
    shipped = json.loads((SHIPPED / "manifest.json").read_text())
    for kind in ("text", "mmproj"):
        assert made[kind]["sha256"] == shipped[kind]["sha256"], kind


def test_query_rows_become_adjacent_pairs() -> None:
    """Half-split rotary order (x0 x1 y0 y1) becomes (x0 y0 x1 y1) within each head."""
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert export_gguf.permuted(rows, heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
