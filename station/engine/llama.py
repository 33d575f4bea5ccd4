"""The real engine: a GGUF pair (Pixtral, Qwen2-VL, Qwen2.5-VL) through llama.cpp.

Runs in the worker's child process. What is the same for all parts, instruction and golden pictures, is read once and
shared. All crops of a part go through together as parallel sequences. Each answer is put in as it is expected of a good
part and scored in one pass; only where the model wants another answer is it asked on, choice by choice.
Pictures come with the size they are asked at; one that llama.cpp would resize is refused.
"""

import math
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# First: where numpy was loaded before it, a CUDA build of llama.cpp has ended the process (decision 0024).
from station.engine.llama_text import Context, Seen, Weights, Words, can_use_gpu, start_llama  # isort: skip

from station.engine.base import Answer, Picture, Query, Question
from station.engine.cursor import Cursor, SlotTokens, scores_of
from station.engine.llama_vision import Eyes
from station.errors import EngineError
from station.manifest import load_manifest, verify
from station.records import ModelRef

TALK = {
    "llama": ("<s>[INST]", "[/INST]"),  # Pixtral: its language model is a Mistral, which llama.cpp calls llama
    "qwen2vl": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
}
"""Architecture -> what stands before the instruction and after the last picture, as in training."""

BATCH_TOKENS_CPU, BATCH_TOKENS_GPU = 1024, 2048
"""Tokens per decode: more gains nothing; 1024 keep a CPU's caches warm."""
CONTEXT_TOKENS_CPU, CONTEXT_TOKENS_GPU = 1024, 16384
"""Tokens of the crops that are asked at once; on a GPU they share each reading of the weights."""
APART_TOKENS = 128
"""On a GPU, crops of so many image tokens are kept apart: attention over all of them would take longer than copies."""
STORE_TOKENS = 256
"""llama.cpp makes stores of multiples of this."""
EYES_GPU = 2
"""Pictures encoded at once: a tower alone leaves most of a large GPU idle."""


class LlamaEngine:
    """A loaded release. `threads` 0 = all cores but one; `gpu_layers` -1 = all when the build can, 0 = CPU only."""

    is_simulated = False

    def __init__(self, manifest: Path, threads: int, gpu_layers: int) -> None:
        """Load and verify the release. Raises EngineError."""
        self.release = load_manifest(manifest)
        verify(self.release)
        start_llama()
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) - 1)
        self.gpu = gpu_layers != 0 and can_use_gpu()
        self.weights = Weights(self.release.text.path, gpu_layers if self.gpu else 0)
        if self.weights.architecture not in TALK:
            raise EngineError(
                f"{self.release.text.path} is a model of architecture {self.weights.architecture!r}.",
                f"The station can ask: {', '.join(TALK)} (Pixtral is llama).",
            )
        self.eyes = [self._open_eyes() for _ in range(EYES_GPU if self.gpu else 1)]
        self.pool = ThreadPoolExecutor(len(self.eyes))
        self.free_eyes: queue.SimpleQueue[Eyes] = queue.SimpleQueue()
        """Of the engine, not of one ask: pictures of an ask that failed may still be looked at when the next comes."""
        for eyes in self.eyes:
            self.free_eyes.put(eyes)
        self.batch_tokens = BATCH_TOKENS_GPU if self.gpu else BATCH_TOKENS_CPU
        self._opened: Context | None = None
        self.begun: dict[tuple[Picture, ...], int] = {}
        """Golden pictures -> the sequence that begins with the instruction and them."""

    def _open_eyes(self) -> Eyes:
        return Eyes(
            self.release.mmproj.path,
            self.weights,
            gpu=self.gpu,
            threads=self.threads,
            patch_px=self.release.patch_px,
            image_max_tokens=self.release.image_max_tokens,
        )

    def model(self) -> ModelRef:
        """Return the release that is loaded."""
        return self.release.ref

    def prepare(self, question: Question) -> None:
        """Make room for `question.queries` sequences and read the instruction. Raises EngineError."""
        self.question = question
        self.frame = self.eyes[0].frame(question.width_px, question.height_px)
        self._refuse_resizing()
        before, after = TALK[self.weights.architecture]
        self.instruction = self.weights.tokens(before + question.instruction)
        self.after = (*self.frame.after, *self.weights.tokens(after))
        self.form = [self._slot_tokens(question, k) for k in range(len(question.slots))]
        answer = sum(len(part.before) + max(map(len, part.choices)) for part in self.form)
        picture = len(self.frame.before) + self.frame.tokens + len(self.frame.after)
        self._refuse_long(len(self.instruction) + question.images * picture + len(self.after) + answer)
        self._open_context(picture=picture, each=picture + len(self.after) + answer)

    def ask(self, queries: tuple[Query, ...]) -> tuple[Answer, ...]:
        """Answer every query, in order. Raises EngineError."""
        answers: list[Answer] = []
        for start in range(0, len(queries), self.group):
            answers += self._ask_group(queries[start : start + self.group])
        return tuple(answers)

    def close(self) -> None:
        """Free the model."""
        self.pool.shutdown()
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        for eyes in self.eyes:
            eyes.close()
        self.weights.close()

    def _ask_group(self, queries: Sequence[Query]) -> list[Answer]:
        for sequence, query in enumerate(queries):
            self.context.share(self._begun(query.pictures[:-1]), sequence)
        position = self.begun_length
        self.look(self.see([query.pictures[-1] for query in queries]), range(len(queries)), position)
        cursors = [Cursor(self.form, query.expected) for query in queries]
        self._walk(cursors, position + len(self.frame.before) + self.frame.length)
        return [
            Answer(query_id=query.query_id, choices=tuple(cursor.choices), text=cursor.text())
            for query, cursor in zip(queries, cursors, strict=True)
        ]

    def _begun(self, goldens: tuple[Picture, ...]) -> int:
        """Return the sequence that holds the instruction and these golden pictures; they are looked at once."""
        if goldens not in self.begun:
            if len(self.begun) > self.question.queries:  # () is one of them: other goldens than the recipe's
                self.begun = {(): self.group}
            sequence = self.group + len(self.begun)
            self.context.share(self.group, sequence)
            position = len(self.instruction)
            for golden in goldens:
                self.look(self.see([golden]), [sequence], position)
                position += len(self.frame.before) + self.frame.length
                self.context.read([Words(sequence, position, self.frame.after)])
                position += len(self.frame.after)
            self.begun[goldens] = sequence
        return self.begun[goldens]

    def look(self, seen: Iterator[Seen], sequences: Sequence[int], position: int) -> None:
        """Put one picture into each sequence at `position`; while some are read, the next are being encoded."""
        if self.frame.before:
            self.context.read([Words(s, position, self.frame.before) for s in sequences])
            position += len(self.frame.before)
        most = max(1, self.batch_tokens // self.frame.tokens)
        many = min(most, math.ceil(len(sequences) / len(self.eyes) / 2)) if len(self.eyes) > 1 else most
        for first in range(0, len(sequences), many):
            part = sequences[first : first + many]
            pictures = [next(seen) for _ in part]
            self.context.look(pictures, part, position, both_ways=self.frame.sees_both_ways)

    def see(self, pictures: Sequence[Picture]) -> Iterator[Seen]:
        """Yield the pictures' embeddings, in order; several are encoded at once on a GPU."""
        if len(self.eyes) == 1:  # on a CPU a second thread would only take the core that is left to the rest
            return map(self.eyes[0].see, pictures)
        return self.pool.map(self._see_with_free_eyes, pictures)

    def _see_with_free_eyes(self, picture: Picture) -> Seen:
        eyes = self.free_eyes.get()
        try:
            return eyes.see(picture)
        finally:
            self.free_eyes.put(eyes)

    def _walk(self, cursors: Sequence[Cursor], position: int) -> None:
        """Read on in all sequences in step until every answer is complete."""
        lead = self.after
        positions = [position] * len(cursors)
        while open_ := [s for s, cursor in enumerate(cursors) if cursor.tokens]:
            rows = [
                Words(s, positions[s], (*lead, *cursors[s].tokens), [len(lead) + place for place in cursors[s].wanted])
                for s in open_
            ]
            logits = iter(self.context.read(rows))
            for s, row in zip(open_, rows, strict=True):
                kept = len(lead) + cursors[s].take([scores_of(next(logits)) for _ in row.wanted])
                positions[s] += kept
                if kept < len(row.tokens):
                    self.context.forget(s, positions[s])
            lead = ()

    @property
    def context(self) -> Context:
        """Return what is being read. Raises EngineError before `prepare`."""
        if self._opened is None:
            raise EngineError("The engine was asked before it was prepared.")
        return self._opened

    def _slot_tokens(self, question: Question, index: int) -> SlotTokens:
        """Tokenize a slot; the fixed text must keep its tokens whatever answer follows."""
        slot = question.slots[index]
        before = self.weights.tokens(slot.before)
        whole = [self.weights.tokens(slot.before + choice) for choice in slot.choices]
        if any(tokens[: len(before)] != before or len(tokens) == len(before) for tokens in whole):
            raise EngineError(
                f"The model's vocabulary runs the text {slot.before!r} and its answers together.",
                "The model's tokenizer does not fit this release's answer form: export the model again.",
            )
        return SlotTokens(slot=slot, before=before, choices=tuple(tokens[len(before) :] for tokens in whole))

    def _refuse_resizing(self) -> None:
        question, patch = self.question, self.release.patch_px
        rows, columns = question.height_px // patch, question.width_px // patch
        if self.frame.tokens not in (rows * columns, rows * columns + rows - 1):  # Pixtral ends each row but the last
            raise EngineError(
                f"llama.cpp would resize pictures of {question.width_px} x {question.height_px} px: {self.frame.tokens}"
                f" image tokens where {rows} x {columns} patches were expected.",
                f"Give multiples of {patch} px in the recipe, within the manifest's vision.image_max_tokens"
                f" ({self.release.image_max_tokens}).",
            )

    def _refuse_long(self, tokens: int) -> None:
        if tokens > self.release.context_tokens:
            raise EngineError(
                f"This recipe needs a context of {tokens} tokens for each region, the model was made for"
                f" {self.release.context_tokens} (manifest: context_tokens).",
                "Make the recipe's pictures smaller.",
            )

    def _open_context(self, picture: int, each: int) -> None:
        """Make room for crops of `each` tokens, golden pictures of `picture` tokens, and read the instruction."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        question, room = self.question, CONTEXT_TOKENS_GPU if self.gpu else CONTEXT_TOKENS_CPU
        self.group = max(1, min(question.queries, room // each))
        goldens = question.images - 1
        sequences = self.group + 1 + (question.queries if goldens else 0)
        begun = len(self.instruction) + goldens * picture
        apart = self.gpu and self.frame.tokens >= APART_TOKENS
        store = math.ceil((begun + each) / STORE_TOKENS) * STORE_TOKENS
        self._opened = Context(
            self.weights,
            tokens=store * sequences if apart else begun * (sequences - self.group) + each * self.group,
            sequences=sequences,
            apart=apart,
            batch_tokens=max(self.batch_tokens, self.frame.tokens),
            logits=self.group * sum(max(map(len, part.choices)) for part in self.form),
            threads=self.threads,
        )
        self.context.read([Words(self.group, 0, self.instruction)])
        self.begun = {(): self.group}
        golden = len(self.frame.before) + self.frame.length + len(self.frame.after)
        self.begun_length = len(self.instruction) + goldens * golden
