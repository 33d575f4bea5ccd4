"""llama.h as typed objects: the language model and what it has read. With `llama_vision`, all that imports llama_cpp.

Arrays go in and out as numpy; a batch is built from whole arrays, without a loop over its tokens. Objects hold C memory
until `close`. One thread each; different objects may be used by different threads at once. Raises EngineError.
"""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np
import numpy.typing as npt
from llama_cpp._ggml import libggml

from station.errors import EngineError

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
SEE_LOG = "See the log of the worker."
_WARNINGS = (3, 4)
"""Of ggml's log levels: 3 warns, 4 is an error, 5 goes on with the line before."""
_GPU_KINDS = (1, 2)
"""Of ggml's kinds of devices: 1 is a GPU, 2 one inside a processor."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _log(level: int, text: bytes, _: object) -> None:
    # bytes that are no UTF-8 would raise inside a C callback
    line = text.decode(errors="replace").rstrip()
    if line:
        log.log(logging.WARNING if level in _WARNINGS else logging.DEBUG, "llama.cpp: %s", line)


LOG_CALLBACK = llama.llama_log_callback(_log)
"""Kept here: C holds only a pointer to it."""


def start_llama() -> None:
    """Make llama.cpp ready in this process; its messages go to our log.

    The allocator keeps what is freed: llama_decode copies a picture's embeddings four times, and fresh pages from the
    system for each copy took as long as the model itself on a large GPU.
    """
    llama.llama_log_set(LOG_CALLBACK, None)
    llama.llama_backend_init()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def can_use_gpu() -> bool:
    """Return whether this build of llama.cpp has a GPU it can use."""
    return bool(llama.llama_supports_gpu_offload())


@dataclass(frozen=True)
class Device:
    """A GPU or the CPU, as llama.cpp sees it."""

    name: str
    is_gpu: bool
    free_bytes: int
    total_bytes: int


def devices() -> tuple[Device, ...]:
    """Return what llama.cpp can compute on, with the memory that is free now."""
    count, get = libggml.ggml_backend_dev_count, libggml.ggml_backend_dev_get
    memory, kind, text = (getattr(libggml, f"ggml_backend_dev_{name}") for name in ("memory", "type", "description"))
    count.restype, get.restype, text.restype = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
    get.argtypes, kind.argtypes, text.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_void_p]
    memory.argtypes, memory.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p], None
    found = []
    for number in range(count()):
        device, free, total = get(number), ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        name = text(device).decode(errors="replace")
        found.append(
            Device(name=name, is_gpu=kind(device) in _GPU_KINDS, free_bytes=free.value, total_bytes=total.value)
        )
    return tuple(found)


class Weights:
    """A language model. `gpu_layers`: how many of its layers go to the GPU, -1 = all, 0 = none."""

    def __init__(self, path: Path, gpu_layers: int) -> None:
        """Load the file. Raises EngineError."""
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 999 if gpu_layers < 0 else gpu_layers
        self.pointer = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.pointer:
            raise EngineError(f"llama.cpp cannot load {path}.", short_of_memory(path.stat().st_size))
        self._vocabulary = llama.llama_model_get_vocab(self.pointer)
        self.words = llama.llama_vocab_n_tokens(self._vocabulary)
        self.width = llama.llama_model_n_embd(self.pointer)
        self.parameters = llama.llama_model_n_params(self.pointer)
        shared = llama.llama_model_n_head(self.pointer) // max(1, llama.llama_model_n_head_kv(self.pointer))
        self.token_bytes = 4 * llama.llama_model_n_layer(self.pointer) * self.width // shared
        """Memory for what is kept of a token that was read: 16-bit key and value in each layer; about."""
        self.architecture = self._meta("general.architecture")

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of `text`; names of special tokens in it become those."""
        data = text.encode()
        room = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self._vocabulary, data, len(data), room, len(room), False, True)
        return tuple(room[:count])

    def _meta(self, key: str) -> str:
        room = ctypes.create_string_buffer(64)
        length = llama.llama_model_meta_val_str(self.pointer, key.encode(), room, len(room))
        return room.value.decode() if length >= 0 else ""

    def close(self) -> None:
        """Free it."""
        llama.llama_model_free(self.pointer)


@dataclass(frozen=True)
class Seen:
    """A picture as the language model gets it."""

    embeddings: Floats
    """(image tokens, width)"""
    places: npt.NDArray[np.int32]
    """(1, image tokens): positions counted from the first. With M-RoPE (4, image tokens): time, y, x, 0."""


@dataclass(frozen=True)
class Words:
    """Tokens to decode behind those that a sequence has."""

    sequence: int
    position: int
    """Of the first."""
    tokens: Sequence[int]
    wanted: Sequence[int] = ()
    """Places in `tokens`, ascending, whose logits are wanted."""


class Context:
    """What a language model has read: `sequences` texts side by side, at most `tokens` in all.

    `apart`: each sequence has a store of its own, an equal share of the tokens, and what is shared is copied into it.
    Attention then passes over its own tokens only. Together, rows of any length fit into one batch.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        tokens: int,
        sequences: int,
        apart: bool,
        batch_tokens: int,
        logits: int,
        threads: int,
    ) -> None:
        """Make room; at most `logits` rows of logits are asked for at once. Raises EngineError when memory is short."""
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = tokens, sequences
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_outputs_max = min(batch_tokens, max(logits, sequences))
        parameters.kv_unified = not apart
        parameters.n_threads = parameters.n_threads_batch = threads
        self._weights, self._batch_tokens = weights, batch_tokens
        self._pointer = llama.llama_init_from_model(weights.pointer, parameters)
        if not self._pointer:
            raise EngineError(
                f"llama.cpp cannot make a context of {tokens} tokens.", short_of_memory(tokens * weights.token_bytes)
            )
        self._memory = llama.llama_get_memory(self._pointer)

    def share(self, source: int, target: int) -> None:
        """Make `target` begin as `source` is now; what it had is forgotten."""
        self.forget(target, 0)
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def forget(self, sequence: int, position: int) -> None:
        """Forget all of a sequence from `position` on."""
        llama.llama_memory_seq_rm(self._memory, sequence, position, -1)

    def read(self, rows: Sequence[Words]) -> list[Floats]:
        """Decode rows of different sequences; return the logits wanted, (words,) each, row by row.

        The arrays are views that the next decode overwrites where everything fits into one batch.
        """
        parts = _packed(rows, self._batch_tokens)
        found: list[Floats] = []
        for part in parts:
            tokens = np.concatenate([np.asarray(row.tokens, np.int32) for row in part])
            places = np.concatenate([row.position + np.arange(len(row.tokens), dtype=np.int32) for row in part])
            sequences = np.repeat([row.sequence for row in part], [len(row.tokens) for row in part])
            starts = np.cumsum([0, *(len(row.tokens) for row in part)])
            wanted = [int(start) + place for start, row in zip(starts, part, strict=False) for place in row.wanted]
            self._decode(places[None], sequences, wanted, tokens=tokens)
            logits = [self._logits(place) for place in wanted]
            found += logits if len(parts) == 1 else [row.copy() for row in logits]
        return found

    def look(self, pictures: Sequence[Seen], sequences: Sequence[int], position: int, *, both_ways: bool) -> None:
        """Put one picture into each of `sequences` at `position`; all are of one size and fit into one batch.

        `both_ways`: the tokens of a picture attend to each other, not only to those before.
        """
        embeddings = np.concatenate([picture.embeddings for picture in pictures])
        places = position + np.concatenate([picture.places for picture in pictures], axis=1)
        if len(places) > 1:
            places[-1] -= position  # the fourth number of M-RoPE is not used
        rows = np.repeat(sequences, [len(picture.embeddings) for picture in pictures])
        if both_ways:
            llama.llama_set_causal_attn(self._pointer, False)
        try:
            self._decode(places, rows, (), embeddings=embeddings)
        finally:
            if both_ways:
                llama.llama_set_causal_attn(self._pointer, True)

    def _decode(
        self,
        places: npt.NDArray[np.int32],
        sequences: npt.NDArray[np.int64],
        wanted: Sequence[int],
        tokens: npt.NDArray[np.int32] | None = None,
        embeddings: Floats | None = None,
    ) -> None:
        """Decode one batch: tokens, or embeddings with their positions (1 or 4, tokens)."""
        count = places.shape[1]
        owners, ones = sequences.astype(np.int32), np.ones(count, np.int32)
        pointers = owners.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
        logits = np.zeros(count, np.int8)
        logits[list(wanted)] = 1
        places = np.ascontiguousarray(places, np.int32)
        batch = llama.llama_batch(
            n_tokens=count,
            token=_pointer(tokens, ctypes.c_int32),
            embd=_pointer(embeddings, ctypes.c_float),
            pos=_pointer(places, ctypes.c_int32),
            n_seq_id=_pointer(ones, ctypes.c_int32),
            seq_id=_pointer(pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(logits, ctypes.c_int8),
        )
        code = llama.llama_decode(self._pointer, batch)
        if code != 0:
            raise EngineError(
                f"llama.cpp could not compute a batch of {count} tokens (code {code}).",
                "1 means the context is too small: ask fewer regions; anything else: see the log, restart the worker.",
            )

    def _logits(self, place: int) -> Floats:
        pointer = llama.llama_get_logits_ith(self._pointer, place)
        return np.ctypeslib.as_array(pointer, shape=(self._weights.words,))

    def wait(self) -> None:
        """Return when the GPU has done all that it was given."""
        llama.llama_synchronize(self._pointer)

    def close(self) -> None:
        """Free it."""
        llama.llama_free(self._pointer)


def short_of_memory(needed_bytes: int) -> str:
    """Return a hint with what is free on the GPU, and what to lower."""
    gpus = [device for device in devices() if device.is_gpu]
    if not gpus:
        return f"{SEE_LOG} The file may be of a newer kind than this llama.cpp, or memory is short."
    free = gpus[0].free_bytes
    missing = f", about {(needed_bytes - free) / 2**30:.1f} GiB are missing" if needed_bytes > free else ""
    return (
        f"{gpus[0].name} has {free / 2**30:.1f} GiB free, {needed_bytes / 2**30:.1f} GiB are needed{missing}. {SEE_LOG}"
        " If memory is short: end what else uses the GPU, take a smaller quantization, smaller pictures or fewer"
        " regions in the recipe, or lower engine.gpu_layers."
    )


def _pointer(array: npt.NDArray[np.generic] | None, kind: type) -> object:
    return None if array is None else array.ctypes.data_as(ctypes.POINTER(kind))


def _packed(rows: Sequence[Words], room: int) -> list[list[Words]]:
    """Return runs of rows that fit into one decode."""
    runs: list[list[Words]] = []
    left = 0
    for row in rows:
        if not runs or len(row.tokens) > left:
            runs.append([])
            left = room
        runs[-1].append(row)
        left -= len(row.tokens)
    return runs
