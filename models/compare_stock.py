"""How often the station's engine and llama-cpp-python's own handler give the same answer: same model, same pictures.

    python models/compare_stock.py --parts 40 [--ask "report 1"] [--manifest FILE]

Drawn parts of the shipped product, cut by the station's own path. The stock handler decodes greedily under the answer
form as a grammar; its probabilities are read from its logits. Prints one line of JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from station.engine.llama import LlamaEngine  # isort: skip  (llama.cpp before numpy)

import measure
import numpy as np

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer
from station.engine.base import Answer, Query, Question
from station.engine.cursor import scores_of
from station.engine.stock import StockHandler, grammar_of
from station.inspection import Inspection
from station.recipe_file import load_recipe

ROOT = Path(__file__).parents[1]


def stock_answer(stock: StockHandler, question: Question, query: Query) -> tuple[str, float]:
    """Return the stock handler's text and its p(defect) among passed and defective, 0..1."""
    text = stock.ask(question.instruction, query.pictures[-1], 256, grammar_of(question.slots))
    place = next(k for k, slot in enumerate(question.slots) if "judgement" in slot.before)
    slot = question.slots[place]
    before = text[: text.index(slot.before) + len(slot.before)]
    llama = stock.llama
    said = [int(token) for token in llama.input_ids[: llama.n_tokens]]
    row = _row_before(llama, said, text, before)
    scores = scores_of(np.asarray(llama.scores[row], np.float32))
    first = [llama.tokenize((slot.before + choice).encode(), add_bos=False, special=True) for choice in slot.choices]
    fixed = len(llama.tokenize(slot.before.encode(), add_bos=False, special=True))
    passed, defective, undecidable = (scores.share(tokens[fixed]) for tokens in first)
    bad = defective + undecidable
    return text, bad / (bad + passed)


def _row_before(llama: Any, said: list[int], text: str, before: str) -> int:
    """Return the row of logits that chose the token behind `before`: the answer is at the end of `said`."""
    for start in range(len(said) - 1, -1, -1):
        if llama.detokenize(said[start:]).decode(errors="replace").startswith(text):
            break
    for end in range(start + 1, len(said) + 1):
        if llama.detokenize(said[start:end]).decode(errors="replace") == before:
            return end - 1
    raise ValueError(f"the answer {text!r} is not cut into tokens at {before!r}")


def p_defect(answer: Answer) -> float:
    """Return the engine's p(defect) among passed and defective, 0..1."""
    place = 0 if len(answer.choices) == 2 else 1
    passed, defective, undecidable = answer.choices[place].probabilities
    return (defective + undecidable) / (passed + defective + undecidable)


def compare(manifest: Path, question: Question, parts: list[tuple[Query, ...]]) -> dict[str, object]:
    """Return counts of pictures, same texts and same judgements, and the differences of p(defect).

    The stock handler is done before the engine begins: it makes numbers from memory that was never written
    (docs/decisions/0009), and the engine has this process keep used memory.
    """
    stock = StockHandler(manifest, threads=1, gpu_layers=0, all_logits=True)
    theirs = [[stock_answer(stock, question, query) for query in queries] for queries in parts]
    stock.llama.close()
    engine = LlamaEngine(manifest, threads=1, gpu_layers=0)
    engine.prepare(question)
    ours = [engine.ask(queries) for queries in parts]
    engine.close()
    pairs = [pair for both in zip(ours, theirs, strict=True) for pair in zip(*both, strict=True)]
    differences = np.array([abs(p_defect(answer) - p) for answer, (_, p) in pairs])
    different = [(answer.query_id, answer.text, text) for answer, (text, _) in pairs if answer.text != text]
    return {
        "pictures": len(pairs),
        "same text": len(pairs) - len(different),
        "same judgement": sum(_judgement(answer) in text for answer, (text, _) in pairs),
        "largest |dp|": float(differences.max()),
        "share of |dp| < 0.01": float(np.mean(differences < 0.01)),
        "different": different[:5],
    }


def _judgement(answer: Answer) -> str:
    return f"judgement->{answer.choices[0 if len(answer.choices) == 2 else 1].chosen}"


def drawn_queries(ask: str, count: int) -> tuple[Question, list[tuple[Query, ...]]]:
    """Return the question and the queries of `count` drawn parts; `ask`: pins or report 1."""
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    inspection = Inspection(measure.asking(recipe, ask), golden_crops(recipe))
    preparer = Preparer(recipe, CaptureLimits(2**26, 10**8))
    jobs = [measure.drawn_job(78, number, preparer) for number in range(count)]
    return inspection.question, [inspection.queries(job) for job in jobs if job.crops]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--ask", choices=("pins", "report 1"), default="pins")
    parser.add_argument("--manifest", type=Path, default=ROOT / "models/pins-tiny/manifest.json")
    given = parser.parse_args()
    question, parts = drawn_queries(given.ask, given.parts)
    print(json.dumps(compare(given.manifest, question, parts)))


if __name__ == "__main__":
    main()
