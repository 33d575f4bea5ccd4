"""The exported pair answers as Hugging Face does with the unmerged adapter, for three versions of transformers."""

import json
import subprocess
from pathlib import Path

import export_gguf
import numpy as np
import pytest
from llama_answers import Pair, lowest_cosine, mean_kl

from tests.export import tiny_pixtral
from tests.export.conftest import ROOT
from tests.export.tiny_pixtral import RECIPES

VERSIONS = ("4.51.3", "4.57.6", "5.17.0")
pytestmark = [pytest.mark.export, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=VERSIONS)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that transformers of one version wrote."""
    python = ROOT / ".venvs" / request.param / "bin/python"
    if not python.exists():
        pytest.skip(f"no {python.relative_to(ROOT)}: make test-export installs it")
    out = tmp_path_factory.mktemp("reference")
    script = Path(__file__).parent / "make_reference.py"
    done = subprocess.run([python, script, out], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == request.param
    settings = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": tiny_pixtral.TEMPLATE}
    tiny_pixtral.write_json(out / "base/tokenizer.json", tiny_pixtral.tokenizer())
    tiny_pixtral.write_json(out / "base/tokenizer_config.json", settings)
    pixels = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    tiny_pixtral.write_json(out / "base/preprocessor_config.json", pixels)
    return out


@pytest.mark.parametrize("recipe", RECIPES)
def test_answers_are_those_of_the_unmerged_adapter(reference: Path, recipe: str, tmp_path: Path) -> None:
    order = export_gguf.Order(
        reference / "base", reference / recipe / "adapter", tmp_path, "tiny", ("F16", "Q8_0", "Q4_K_M"),
    )  # fmt: skip
    manifest = json.loads(export_gguf.export(order).read_text())
    for module in manifest["modules"]:
        for file, tolerance in (("F16", 0.01), ("Q8_0", 0.02), ("Q4_K_M", 0.05)):
            for name in (f"text-{file}.gguf", f"mmproj-{file}.gguf"):
                assert abs(module["coefficient"].get(name, 1) - 1) < tolerance
    theirs, plain = np.load(reference / recipe / "answers.npz"), np.load(reference / "base.npz")
    kl = {}
    for quant in ("F16", "Q8_0", "Q4_K_M"):
        pair = Pair(tmp_path / f"text-{quant}.gguf", tmp_path / "mmproj-F16.gguf")
        seen = pair.embeddings(theirs["picture"])
        ids = [int(token) for token in theirs["seen"]]
        ours = pair.logits(ids[:5], seen, ids[5 + len(seen) :])
        kl[quant] = (
            mean_kl(theirs["text_logits"], pair.logits(list(theirs["text"]))),
            mean_kl(theirs["seen_logits"], ours),
        )
        pair.close()
    pictures = np.delete(seen, [4, 9], axis=0)
    assert max(kl["F16"]) < 1e-4
    assert max(kl["Q8_0"]) < 1e-2
    assert lowest_cosine(theirs["embeddings"], pictures) > 0.9999
    # the adapter says something else than the base, so that a lost half would be seen
    assert mean_kl(plain["seen_logits"], theirs["seen_logits"]) > 100 * kl["F16"][1]
    if "language" not in recipe:
        assert lowest_cosine(theirs["embeddings"], plain["embeddings"]) < 0.999
