"""What a GGUF pair answers through llama.cpp: logits of token lists, embeddings of a picture."""

import ctypes
import os
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd
import load_check
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


_QUIET = llama.llama_log_callback(lambda *_: None)
"""Kept here: C holds only a pointer to it."""


THREADS = len(os.sched_getaffinity(0))


class Pair:
    """A loaded text file and mmproj."""

    def __init__(self, text: Path, mmproj: Path) -> None:
        llama.llama_log_set(_QUIET, None)
        mtmd.mtmd_helper_log_set(_QUIET, None)
        llama.llama_backend_init()
        self.mmproj = mmproj
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(text).encode(), parameters)
        vision = mtmd.mtmd_context_params_default()
        vision.use_gpu, vision.print_timings, vision.warmup, vision.n_threads = False, False, False, THREADS
        vision.image_max_tokens = 4096
        self.eyes = mtmd.mtmd_init_from_file(str(mmproj).encode(), self.model, vision)
        assert self.model
        assert self.eyes
        self.width = llama.llama_model_n_embd(self.model)
        self.words = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))

    def close(self) -> None:
        """Free both."""
        mtmd.mtmd_free(self.eyes)
        llama.llama_model_free(self.model)

    def embeddings(self, picture: npt.NDArray[np.uint8]) -> Floats:
        """Return the picture's embeddings with the ends of its rows, but not of the last one."""
        seen: Floats = load_check.see(mtmd, self.eyes, self.mmproj, picture)
        return seen

    def logits(self, *parts: Any) -> Floats:
        """Return the logits of every token; a part is a list of tokens or an array of embeddings."""
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = sum(map(len, parts)) + 8
        parameters.n_threads = parameters.n_threads_batch = THREADS
        parameters.type_k = parameters.type_v = 0  # float32: the model is compared, not the cache
        parameters.flash_attn_type = 0
        context = llama.llama_init_from_model(self.model, parameters)
        position, out = 0, []
        for part in parts:
            is_seen = isinstance(part, np.ndarray) and part.ndim == 2
            batch = llama.llama_batch_init(len(part), self.width if is_seen else 0, 1)
            batch.n_tokens = len(part)
            if is_seen:
                pixels = np.ascontiguousarray(part, np.float32)
                ctypes.memmove(batch.embd, pixels.ctypes.data, pixels.nbytes)
            for i in range(len(part)):
                if not is_seen:
                    batch.token[i] = int(part[i])
                batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = position + i, 1, 0, True
            assert llama.llama_decode(context, batch) == 0
            for i in range(len(part)):
                pointer = llama.llama_get_logits_ith(context, i)
                out.append(np.ctypeslib.as_array(pointer, shape=(self.words,)).copy())
            position += len(part)
        llama.llama_free(context)
        return np.array(out)


def mean_kl(reference: Floats, found: Floats) -> float:
    """Return the mean Kullback-Leibler divergence of two arrays of logits, (tokens, words)."""
    p, q = _log_softmax(reference), _log_softmax(found)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def lowest_cosine(reference: Floats, found: Floats) -> float:
    """Return the lowest cosine of two arrays of vectors."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(found, axis=1)
    return float(np.min(np.sum(reference * found, axis=1) / norms))


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    out: npt.NDArray[np.float64] = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return out
