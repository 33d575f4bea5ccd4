"""llama-cpp-python's own chat handler, as people use it: what the station's engine is measured against.

Nothing of the station's way is in here: one picture at a time as a PNG data URI, the whole prompt computed anew, every
token of the answer decoded.
"""

import base64
import io
from pathlib import Path
from typing import Any

from llama_cpp import Llama
from llama_cpp.llama_chat_format import MTMDChatHandler
from llama_cpp.llama_grammar import LlamaGrammar
from PIL import Image

from station.engine.base import Picture, Slot
from station.manifest import load_manifest


class StockHandler:
    """A release loaded by `llama_cpp.Llama` with `MTMDChatHandler`. Raises what those raise."""

    def __init__(self, manifest: Path, threads: int, gpu_layers: int, *, all_logits: bool = False) -> None:
        release = load_manifest(manifest)
        handler = MTMDChatHandler(str(release.mmproj.path), verbose=False, use_gpu=gpu_layers != 0)
        self.llama = Llama(
            str(release.text.path),
            n_gpu_layers=gpu_layers,
            n_ctx=min(4096, release.context_tokens),
            n_batch=2048,
            n_ubatch=2048,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=gpu_layers != 0,
            logits_all=all_logits,
            chat_handler=handler,
            verbose=False,
        )

    def ask(self, instruction: str, picture: Picture, tokens: int, grammar: LlamaGrammar | None = None) -> str:
        """Return the answer, greedily decoded: exactly `tokens` of them, or what `grammar` allows."""
        image = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.pixels_rgb)
        png = io.BytesIO()
        image.save(png, "PNG", compress_level=1)
        url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
        content: Any = [{"type": "text", "text": instruction}, {"type": "image_url", "image_url": {"url": url}}]
        said: Any = self.llama.create_chat_completion(
            [{"role": "user", "content": content}],
            max_tokens=tokens,
            temperature=0.0,
            repeat_penalty=1.0,
            grammar=grammar,
            logit_bias=None if grammar else {self.llama.token_eos(): -100.0},
        )
        return str(said["choices"][0]["message"]["content"])


def grammar_of(slots: tuple[Slot, ...]) -> LlamaGrammar:
    """Return the answer form as a grammar in GBNF."""
    parts = [f"{_quoted(slot.before)} ({' | '.join(map(_quoted, slot.choices))})" for slot in slots]
    return LlamaGrammar.from_string("root ::= " + " ".join(parts), verbose=False)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
