"""The engine agrees with llama-cpp-python's own handler: the shipped model, and models with M-RoPE."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from station.engine.base import Picture, Question
from station.engine.llama import LlamaEngine
from station.engine.llama_text import Words
from station.engine.stock import StockHandler
from station.report import pin_slots
from tests.model.tiny_qwen import write_release

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize(("ask", "count"), [("pins", 1), ("report 1", 6)])
def test_the_shipped_model_answers_as_through_the_stock_handler(ask: str, count: int) -> None:
    """In a process of its own: the stock handler may end it (docs/decisions/0009)."""
    command = [sys.executable, str(ROOT / "models/compare_stock.py"), "--ask", ask, "--parts", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["pictures"] >= 4
    assert (found["same text"], found["share of |dp| < 0.01"]) == (found["pictures"], 1.0), found


@pytest.mark.parametrize("kind", ["qwen2vl_merger", "qwen2.5vl_merger"])
def test_a_model_with_mrope_has_the_logits_of_the_stock_handler(tmp_path: Path, kind: str) -> None:
    """Random weights follow no form, so what is compared is what the model thinks after the prompt."""
    manifest = write_release(tmp_path, kind)
    rng = np.random.default_rng(5)
    shots = [rng.integers(0, 256, (112, 168, 3), np.uint8) for _ in range(4)]
    pictures = [Picture(width_px=168, height_px=112, pixels_rgb=shot.tobytes()) for shot in shots]
    question = Question(
        instruction="Judge the pin.", images=1, slots=pin_slots(["missing"]), width_px=168, height_px=112, queries=4
    )
    engine = LlamaEngine(manifest, threads=1, gpu_layers=0)
    engine.prepare(question)
    for sequence in range(4):
        engine.context.share(engine.group, sequence)
    engine.look(engine.see(pictures), range(4), engine.begun_length)
    position = engine.begun_length + len(engine.frame.before) + engine.frame.length
    rows = [Words(sequence, position, engine.after, [len(engine.after) - 1]) for sequence in range(4)]
    ours = [logits.copy() for logits in engine.context.read(rows)]
    engine.close()
    stock = StockHandler(manifest, threads=1, gpu_layers=0, all_logits=True)
    theirs = []
    for picture in pictures:
        stock.ask(question.instruction, picture, 2)
        theirs.append(np.array(stock.llama.scores[stock.llama.n_tokens - 2]))
    stock.llama.close()
    assert max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) < 0.05
    assert float(np.abs(theirs[0] - theirs[1]).max()) > 1, "different pictures must be told apart"
