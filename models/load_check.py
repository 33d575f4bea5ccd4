"""V2: loads a GGUF pair with llama.cpp, lets it see a small picture and say one token. In a process of its own.

    python models/load_check.py TEXT.gguf MMPROJ.gguf

`check_loads` is what the exporter calls; run as a program, this file prints what it found as JSON, or why it could not.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf_read
import numpy as np
from checked_json import ExportError

COLUMNS, ROWS = 4, 3
"""The picture, in patches: 64 x 48 at 16 pixels."""


def check_loads(text: Path, mmproj: Path) -> dict[str, object]:
    """Return what was found. Raises ExportError V2."""
    command = [sys.executable, str(Path(__file__).resolve()), str(text), str(mmproj)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-3:]
        raise ExportError(
            "V2", f"llama.cpp cannot run {text.name} with {mmproj.name} (code {done.returncode}): {' | '.join(said)}",
            "The pair is not released. Report this with the command that made it.",
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


class _LoadError(Exception):
    pass


def _require(condition: object, message: str) -> None:
    if not condition:
        raise _LoadError(message)


def _run(text: Path, mmproj: Path) -> dict[str, object]:
    import llama_cpp.llama_cpp as llama
    import llama_cpp.mtmd_cpp as mtmd

    threads = len(os.sched_getaffinity(0))
    llama.llama_backend_init()
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(text).encode(), parameters)
    _require(model, f"{text.name} does not load")
    vision = mtmd.mtmd_context_params_default()
    vision.use_gpu, vision.print_timings, vision.warmup, vision.n_threads = False, False, False, threads
    eyes = mtmd.mtmd_init_from_file(str(mmproj).encode(), model, vision)
    _require(eyes, f"{mmproj.name} does not load with {text.name}")
    _require(mtmd.mtmd_support_vision(eyes), f"{mmproj.name} cannot see")
    width = llama.llama_model_n_embd(model)
    side = int(gguf_read.read_head(mmproj)[0]["clip.vision.patch_size"])
    seen = see(mtmd, eyes, mmproj, _picture(COLUMNS * side, ROWS * side))
    _require(seen.shape == (ROWS * COLUMNS + ROWS - 1, width), f"the picture became {seen.shape}")
    logits = _say(llama, model, seen, threads)
    return {"image_tokens": len(seen), "token": int(np.argmax(logits))}


def _picture(wide: int, high: int) -> np.ndarray:
    return (np.add.outer(np.arange(high) * 3, np.arange(wide) * 2)[..., None] + [0, 80, 160]).astype(np.uint8)


def see(mtmd: object, eyes: int, mmproj: Path, picture: np.ndarray) -> np.ndarray:
    """Return the embeddings of a picture (height, width, 3) uint8, (image tokens, width of the model)."""
    keys, stored = gguf_read.read_head(mmproj)
    high, wide = picture.shape[:2]
    columns, rows = (length // int(keys["clip.vision.patch_size"]) for length in (wide, high))
    width = int(keys["clip.vision.projection_dim"])
    pixels = (ctypes.c_uint8 * picture.size).from_buffer_copy(picture.tobytes())
    bitmap = mtmd.mtmd_bitmap_init(wide, high, pixels)
    marker, chunks = mtmd.mtmd_default_marker(), mtmd.mtmd_input_chunks_init()
    text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    _require(
        mtmd.mtmd_tokenize(eyes, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1) == 0,
        "the picture is not taken",
    )
    every = [mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks))]
    image = next(c for c in every if mtmd.mtmd_input_chunk_get_type(c) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE)
    count = mtmd.mtmd_input_chunk_get_n_tokens(image)
    _require(count == rows * columns + rows - 1, f"the picture became {count} tokens, not {rows * columns + rows - 1}")
    _require(mtmd.mtmd_encode_chunk(eyes, image) == 0, "the picture is not encoded")
    seen = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(eyes), shape=(count, width)).copy()
    # llama.cpp makes the ends of rows from uninitialised memory (see station/engine/llama_vision.py)
    seen[columns :: columns + 1] = stored["v.token_embd.img_break"].rows(0, width)
    _require(np.isfinite(seen).all(), "the picture's embeddings are not finite")
    return seen


def _say(llama: object, model: int, seen: np.ndarray, threads: int) -> np.ndarray:
    """Return the logits after a picture and one token."""
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 64, threads, threads
    context = llama.llama_init_from_model(model, parameters)
    _require(context, "no context can be made")
    batch = llama.llama_batch_init(len(seen), seen.shape[1], 1)
    ctypes.memmove(batch.embd, np.ascontiguousarray(seen).ctypes.data, seen.nbytes)
    batch.n_tokens = len(seen)
    for i in range(len(seen)):
        batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = i, 1, 0, i + 1 == len(seen)
    _require(llama.llama_decode(context, batch) == 0, "the picture cannot be read")
    vocabulary = llama.llama_model_get_vocab(model)
    words = llama.llama_vocab_n_tokens(vocabulary)
    token = (llama.llama_token * 1)(llama.llama_vocab_bos(vocabulary))
    _require(llama.llama_decode(context, llama.llama_batch_get_one(token, 1)) == 0, "no token can be read")
    logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), shape=(words,)).copy()
    _require(np.isfinite(logits).all(), "the logits are not finite")
    return logits


if __name__ == "__main__":
    try:
        print(json.dumps(_run(Path(sys.argv[1]), Path(sys.argv[2]))))
    except (_LoadError, ExportError) as error:
        sys.exit(str(error))
