"""mtmd.h as typed objects: the vision tower with its projector, from a picture's pixels to its embeddings.

Objects hold C memory until `close`; one thread each. Raises EngineError.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import llama_cpp.mtmd_cpp as mtmd
import numpy as np
import numpy.typing as npt
from gguf import GGUFReader

from station.engine.base import Picture
from station.engine.llama_text import LOG_CALLBACK, SEE_LOG, Floats, Seen, Weights
from station.errors import EngineError


@dataclass(frozen=True)
class Frame:
    """What a picture of one size becomes in the prompt."""

    before: tuple[int, ...]
    """Tokens that the model wants in front of the picture, as <|vision_start|>."""
    after: tuple[int, ...]
    """And behind it, as [IMG_END]."""
    tokens: int
    length: int
    """How many positions the picture takes; fewer than its tokens where the model has M-RoPE."""
    sees_both_ways: bool
    """The tokens of the picture see each other, not only those before."""


class Eyes:
    """A vision tower with its projector, for one language model."""

    def __init__(
        self, path: Path, weights: Weights, *, gpu: bool, threads: int, patch_px: int, image_max_tokens: int
    ) -> None:
        """Load the file. Raises EngineError."""
        mtmd.mtmd_helper_log_set(LOG_CALLBACK, None)
        parameters = mtmd.mtmd_context_params_default()
        parameters.use_gpu, parameters.print_timings, parameters.warmup = gpu, False, False
        parameters.n_threads, parameters.image_max_tokens = threads, image_max_tokens
        self._pointer = mtmd.mtmd_init_from_file(str(path).encode(), weights.pointer, parameters)
        if not self._pointer:
            raise EngineError(
                f"llama.cpp cannot load {path}.",
                f"It must be exported together with this text model (models/export_gguf.py). {SEE_LOG}",
            )
        self._width, self._patch_px = weights.width, patch_px
        self._row_break = _row_break(path)
        self.has_mrope: bool = mtmd.mtmd_decode_use_mrope(self._pointer)

    def frame(self, width_px: int, height_px: int) -> "Frame":
        """Return what a picture of this size becomes in the prompt. Raises EngineError when it would be resized."""
        blank = Picture(width_px=width_px, height_px=height_px, pixels_rgb=bytes(3 * width_px * height_px))
        with _Chunks(self._pointer, blank) as chunks:
            image = chunks.image
            return Frame(
                before=chunks.words(0),
                after=chunks.words(1),
                tokens=mtmd.mtmd_input_chunk_get_n_tokens(image),
                length=mtmd.mtmd_input_chunk_get_n_pos(image),
                sees_both_ways=bool(mtmd.mtmd_decode_use_non_causal(self._pointer, image)),
            )

    def see(self, picture: Picture) -> Seen:
        """Return the picture's embeddings. Raises EngineError when a number is not finite."""
        with _Chunks(self._pointer, picture) as chunks:
            image = chunks.image
            if mtmd.mtmd_encode_chunk(self._pointer, image) != 0:
                raise EngineError("llama.cpp could not encode a picture.", SEE_LOG)
            count = mtmd.mtmd_input_chunk_get_n_tokens(image)
            pointer = mtmd.mtmd_get_output_embd(self._pointer)
            embeddings = np.ctypeslib.as_array(pointer, shape=(count, self._width)).copy()
            places = self._places(image, count)
        if self._row_break is not None:
            columns = picture.width_px // self._patch_px
            embeddings[columns :: columns + 1] = self._row_break
        if not np.isfinite(embeddings.sum()):  # a single one makes the sum so, in half the time of looking at each
            raise EngineError(
                "The model's eyes answered with numbers that are not finite.",
                "Check the model file (station check), its quantization and the GPU's memory.",
            )
        return Seen(embeddings, places)

    def _places(self, image: int, count: int) -> npt.NDArray[np.int32]:
        if not self.has_mrope:
            return np.arange(count, dtype=np.int32)[None]
        found = (mtmd.mtmd_decoder_pos * count)()
        mtmd.mtmd_helper_image_get_decoder_pos(mtmd.mtmd_input_chunk_get_tokens_image(image), 0, found)
        places = np.frombuffer(bytes(found), np.uint32).reshape(count, 4)  # t, x, y, z
        return np.ascontiguousarray(places[:, [0, 2, 1, 3]].T.astype(np.int32))

    def close(self) -> None:
        """Free them."""
        mtmd.mtmd_free(self._pointer)


class _Chunks:
    """A picture cut into mtmd's chunks: words, the image, words."""

    def __init__(self, eyes: int, picture: Picture) -> None:
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        pixels = (ctypes.c_uint8 * len(picture.pixels_rgb)).from_buffer_copy(picture.pixels_rgb)
        self._bitmap = mtmd.mtmd_bitmap_init(picture.width_px, picture.height_px, pixels)
        self._chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(self._bitmap)
        if mtmd.mtmd_tokenize(eyes, self._chunks, ctypes.byref(text), bitmaps, 1) != 0:
            self._free()
            raise EngineError("llama.cpp could not take a picture.", SEE_LOG)
        every = [mtmd.mtmd_input_chunks_get(self._chunks, i) for i in range(mtmd.mtmd_input_chunks_size(self._chunks))]
        kinds = [mtmd.mtmd_input_chunk_get_type(chunk) for chunk in every]
        place = kinds.index(mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE)
        self.image: int = every[place]
        self._around = every[:place], every[place + 1 :]

    def words(self, side: int) -> tuple[int, ...]:
        """Return the tokens before (0) or after (1) the image."""
        found: list[int] = []
        for chunk in self._around[side]:
            count = ctypes.c_size_t()
            pointer = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            found += pointer[: count.value]
        return tuple(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._free()

    def _free(self) -> None:
        mtmd.mtmd_input_chunks_free(self._chunks)
        mtmd.mtmd_bitmap_free(self._bitmap)


def _row_break(mmproj: Path) -> Floats | None:
    """Return the embedding that ends each row of Pixtral's patches, None for other towers.

    llama.cpp makes these rows as 0 * uninitialised memory + this tensor (tools/mtmd/models/pixtral.cpp, 0c1e57098): not
    a number whenever that memory happens to hold one that is not finite. So they are put in here.
    """
    reader = GGUFReader(mmproj)
    kind = reader.get_field("clip.projector_type")
    if kind is None or kind.contents() != "pixtral":
        return None
    for tensor in reader.tensors:
        if tensor.name == "v.token_embd.img_break":
            return np.array(tensor.data, np.float32)
    raise EngineError(
        f"{mmproj} has no v.token_embd.img_break: llama.cpp's own converter loses it.",
        "Export the model with models/export_gguf.py.",
    )
