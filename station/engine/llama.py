"""The real engine: a Pixtral GGUF pair through llama.cpp's C API. The only file that imports llama_cpp.

Runs in the worker's child process, in one thread. The instruction is computed once and shared by all crops; the crops
of a job go through together as parallel sequences; only choice points are decoded, and scored instead of sampled.
Pictures come with the size they are asked at, so mtmd never resizes one (checked by its token count).
"""

import ctypes
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
import numpy.typing as npt
from gguf import GGUFReader

from station.engine.base import Answer, Picture, Query, Question
from station.engine.cursor import Cursor, SlotTokens
from station.errors import EngineError
from station.manifest import Manifest, load_manifest, verify
from station.records import ModelRef

log = logging.getLogger(__name__)

Embedding = npt.NDArray[np.float32]
BATCH_TOKENS = 1024
"""Tokens per decode: more only costs memory on a CPU and gains nothing on a GPU with crops of this size."""
_WARNINGS = (3, 4)
"""Of ggml's log levels: 3 warns, 4 is an error, 5 goes on with the line before."""


def _log(level: int, text: bytes, _: object) -> None:
    # bytes that are no UTF-8 would raise inside a C callback
    line = text.decode(errors="replace").rstrip()
    if line:
        log.log(logging.WARNING if level in _WARNINGS else logging.DEBUG, "llama.cpp: %s", line)


_LOG = llama.llama_log_callback(_log)
"""Kept here: C holds only a pointer to it."""


class LlamaEngine:
    """A loaded release. `threads` 0 = all cores but one; `gpu_layers` -1 = all when the build can, 0 = CPU only."""

    is_simulated = False

    def __init__(self, manifest: Path, threads: int, gpu_layers: int) -> None:
        """Load and verify the release. Raises EngineError."""
        self.release = load_manifest(manifest)
        verify(self.release)
        llama.llama_log_set(_LOG, None)
        mtmd.mtmd_helper_log_set(_LOG, None)
        llama.llama_backend_init()
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) - 1)
        self.gpu = gpu_layers != 0 and bool(llama.llama_supports_gpu_offload())
        self.weights = self._load_text(self.release, gpu_layers if self.gpu else 0)
        self.vocabulary = llama.llama_model_get_vocab(self.weights)
        self.vocabulary_size = llama.llama_vocab_n_tokens(self.vocabulary)
        self.width = llama.llama_model_n_embd(self.weights)
        self.eyes = self._load_vision(self.release)
        self.row_break = _row_break(self.release.mmproj.path)
        self.context: int | None = None

    def model(self) -> ModelRef:
        """Return the release that is loaded."""
        return self.release.ref

    def prepare(self, question: Question) -> None:
        """Make room for `question.queries` sequences and compute the instruction once. Raises EngineError."""
        self.question = question
        self.form = [self._slot_tokens(question, k) for k in range(len(question.slots))]
        self.instruction = self._tokens("<s>[INST]" + question.instruction)
        self.after = self._tokens("[IMG_END]"), self._tokens("[IMG_END][/INST]")
        rows, columns = question.height_px // self.release.patch_px, question.width_px // self.release.patch_px
        self.image_tokens = rows * columns + rows - 1
        self.breaks = slice(columns, None, columns + 1)
        answer = sum(len(part.before) + max(map(len, part.choices)) for part in self.form)
        each = question.images * (self.image_tokens + 2) + 1 + answer
        self.group = max(1, min(question.queries, BATCH_TOKENS // each))
        self._open_context(len(self.instruction) + each * self.group)
        self.shared = self.group  # the sequence that holds the instruction
        self._decode_tokens([(self.shared, self.instruction, 0, False)])

    def ask(self, queries: tuple[Query, ...]) -> tuple[Answer, ...]:
        """Answer every query, in order. Raises EngineError."""
        answers: list[Answer] = []
        for start in range(0, len(queries), self.group):
            answers += self._ask_group(queries[start : start + self.group])
        return tuple(answers)

    def close(self) -> None:
        """Free the model."""
        if self.context is not None:
            llama.llama_free(self.context)
            self.context = None
        mtmd.mtmd_free(self.eyes)
        llama.llama_model_free(self.weights)

    def _ask_group(self, queries: Sequence[Query]) -> list[Answer]:
        for sequence in range(len(queries)):
            llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            llama.llama_memory_seq_cp(self.memory, self.shared, sequence, -1, -1)
        position = len(self.instruction)
        for k in range(self.question.images):
            seen = [self._see(query.pictures[k]) for query in queries]
            self._decode_pictures(seen, position)
            position += self.image_tokens
            if k + 1 < self.question.images:
                self._decode_tokens([(s, self.after[0], position, False) for s in range(len(queries))])
                position += len(self.after[0])
        cursors = [Cursor(self.form) for _ in queries]
        self._walk(cursors, position)
        return [
            Answer(query_id=query.query_id, choices=tuple(cursor.choices), text=cursor.text())
            for query, cursor in zip(queries, cursors, strict=True)
        ]

    def _walk(self, cursors: Sequence[Cursor], position: int) -> None:
        """Decode all sequences in step until every answer is complete."""
        positions = [position] * len(cursors)
        first = True
        while rows := [
            (s, (*(self.after[1] if first else ()), *cursor.tokens), positions[s], True)
            for s, cursor in enumerate(cursors)
            if cursor.tokens
        ]:
            first = False
            for (sequence, tokens, _, _), logits in zip(rows, self._decode_tokens(rows), strict=True):
                positions[sequence] += len(tokens)
                cursors[sequence].take(logits)

    def _decode_tokens(self, rows: Sequence[tuple[int, Sequence[int], int, bool]]) -> list[Embedding]:
        """Decode (sequence, tokens, first position, wants logits) rows; return the logits wanted, in order."""
        out: list[Embedding] = []
        for part in _packed(rows, BATCH_TOKENS):
            batch = llama.llama_batch_init(sum(len(tokens) for _, tokens, _, _ in part), 0, 1)
            wanted = []
            for sequence, tokens, position, wants in part:
                for k, token in enumerate(tokens):
                    i, last = batch.n_tokens, k + 1 == len(tokens)
                    batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position + k, 1
                    batch.seq_id[i][0], batch.logits[i] = sequence, wants and last
                    batch.n_tokens += 1
                wanted += [batch.n_tokens - 1] if wants else []
            self._decode(batch)
            out += [self._logits(i) for i in wanted]
        return out

    def _decode_pictures(self, seen: Sequence[Embedding], position: int) -> None:
        """Put the pictures' embeddings, each (image tokens, width), into sequences 0, 1, 2..."""
        rows = [(sequence, embedding) for sequence, embedding in enumerate(seen)]
        many = max(1, BATCH_TOKENS // self.image_tokens)
        for start in range(0, len(rows), many):
            part = rows[start : start + many]
            pixels = np.ascontiguousarray(np.concatenate([embedding for _, embedding in part]))
            batch = llama.llama_batch_init(len(pixels), self.width, 1)
            ctypes.memmove(batch.embd, pixels.ctypes.data, pixels.nbytes)
            for sequence, embedding in part:
                for k in range(len(embedding)):
                    i = batch.n_tokens
                    batch.pos[i], batch.n_seq_id[i] = position + k, 1
                    batch.seq_id[i][0], batch.logits[i] = sequence, False
                    batch.n_tokens += 1
            self._decode(batch)

    def _decode(self, batch: llama.llama_batch) -> None:
        code = llama.llama_decode(self.context, batch)
        llama.llama_batch_free(batch)
        if code != 0:
            raise EngineError(
                f"llama.cpp could not compute a batch (code {code}).",
                "1 means the context is too small: ask fewer regions; anything else: see the log, restart the worker.",
            )

    def _logits(self, index: int) -> Embedding:
        pointer = llama.llama_get_logits_ith(self.context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,)).copy()

    def _see(self, picture: Picture) -> Embedding:
        """Return the picture's embeddings (image tokens, width)."""
        pixels = (ctypes.c_uint8 * len(picture.pixels_rgb)).from_buffer_copy(picture.pixels_rgb)
        bitmap = mtmd.mtmd_bitmap_init(picture.width_px, picture.height_px, pixels)
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            return self._encode(self._image_chunk(bitmap, chunks))
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _image_chunk(self, bitmap: int, chunks: int) -> int:
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(self.eyes, chunks, ctypes.byref(text), bitmaps, 1) != 0:
            raise EngineError("llama.cpp could not take a picture.", "See the log of the worker.")
        every = (mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks)))
        image: int = next(c for c in every if mtmd.mtmd_input_chunk_get_type(c) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE)
        count = mtmd.mtmd_input_chunk_get_n_tokens(image)
        if count != self.image_tokens:
            raise EngineError(
                f"llama.cpp resized a picture: {count} image tokens where {self.image_tokens} were expected.",
                "The recipe's picture size must be multiples of 16 within the manifest's vision.image_max_tokens.",
            )
        return image

    def _encode(self, chunk: int) -> Embedding:
        if mtmd.mtmd_encode_chunk(self.eyes, chunk) != 0:
            raise EngineError("llama.cpp could not encode a picture.", "See the log of the worker.")
        pointer = mtmd.mtmd_get_output_embd(self.eyes)
        seen = np.ctypeslib.as_array(pointer, shape=(self.image_tokens, self.width)).copy()
        seen[self.breaks] = self.row_break
        if not np.isfinite(seen).all():
            raise EngineError(
                "The model's eyes answered with numbers that are not finite.",
                "Check the model file (station check), its quantization and the GPU's memory.",
            )
        return seen

    def _tokens(self, text: str) -> tuple[int, ...]:
        data = text.encode()
        room = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self.vocabulary, data, len(data), room, len(room), False, True)
        return tuple(room[:count])

    def _slot_tokens(self, question: Question, index: int) -> SlotTokens:
        """Tokenize a slot; the fixed text must keep its tokens whatever answer follows."""
        slot = question.slots[index]
        before = self._tokens(slot.before)
        whole = [self._tokens(slot.before + choice) for choice in slot.choices]
        if any(tokens[: len(before)] != before or len(tokens) == len(before) for tokens in whole):
            raise EngineError(
                f"The model's vocabulary runs the text {slot.before!r} and its answers together.",
                "The model's tokenizer does not fit this release's answer form: export the model again.",
            )
        return SlotTokens(slot=slot, before=before, choices=tuple(tokens[len(before) :] for tokens in whole))

    def _load_text(self, release: Manifest, gpu_layers: int) -> int:
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 999 if gpu_layers < 0 else gpu_layers
        weights: int | None = llama.llama_model_load_from_file(str(release.text.path).encode(), parameters)
        if not weights:
            raise EngineError(
                f"llama.cpp cannot load {release.text.path}.",
                "See the log above; the file may be of a newer kind than this llama.cpp, or memory is short.",
            )
        return weights

    def _load_vision(self, release: Manifest) -> int:
        parameters = mtmd.mtmd_context_params_default()
        parameters.use_gpu, parameters.print_timings, parameters.warmup = self.gpu, False, False
        parameters.n_threads, parameters.image_max_tokens = self.threads, release.image_max_tokens
        eyes: int | None = mtmd.mtmd_init_from_file(str(release.mmproj.path).encode(), self.weights, parameters)
        if not eyes:
            raise EngineError(
                f"llama.cpp cannot load {release.mmproj.path}.",
                "The mmproj must be exported together with this text model (models/export_gguf.py).",
            )
        return eyes

    def _open_context(self, tokens: int) -> None:
        if tokens > self.release.context_tokens * self.group:
            raise EngineError(
                f"This recipe needs {tokens} tokens, the model was made for {self.release.context_tokens}.",
                "Make the recipe's pictures smaller.",
            )
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = tokens, self.group + 1
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.kv_unified = True  # so that the instruction is shared, not copied
        parameters.n_threads = parameters.n_threads_batch = self.threads
        if self.context is not None:
            llama.llama_free(self.context)
        self.context = llama.llama_init_from_model(self.weights, parameters)
        if not self.context:
            raise EngineError(
                f"llama.cpp cannot make a context of {tokens} tokens.", "Memory is short: lower engine.gpu_layers."
            )
        self.memory = llama.llama_get_memory(self.context)


def _packed(
    rows: Sequence[tuple[int, Sequence[int], int, bool]], room: int
) -> Iterator[list[tuple[int, Sequence[int], int, bool]]]:
    """Yield runs of rows that fit into one decode."""
    run: list[tuple[int, Sequence[int], int, bool]] = []
    for row in rows:
        if run and sum(len(tokens) for _, tokens, _, _ in run) + len(row[1]) > room:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _row_break(mmproj: Path) -> Embedding:
    """Return the embedding that ends each row of patches.

    llama.cpp makes these rows as 0 * uninitialised memory + this tensor (tools/mtmd/models/pixtral.cpp, 0c1e57098): not
    a number whenever that memory happens to hold one that is not finite. So they are put in here.
    """
    for tensor in GGUFReader(mmproj).tensors:
        if tensor.name == "v.token_embd.img_break":
            return np.array(tensor.data, np.float32)
    raise EngineError(
        f"{mmproj} has no v.token_embd.img_break: llama.cpp's own converter loses it.",
        "Export the model with models/export_gguf.py.",
    )
