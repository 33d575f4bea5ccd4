"""ggml's own functions from the installed llama.cpp: rounding float32 to float16, and which commit it was built from.

The rounding gives the same bits as numpy's, many times as fast.
"""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from weights import Floats


def _function(library: str, name: str, result: object, *arguments: object) -> object | None:
    for file in sorted((Path(llama_cpp.__file__).parent / "lib").glob(f"*{library}.*")):
        try:
            function = getattr(ctypes.CDLL(str(file)), name)
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = arguments, result
        return function
    return None


_HALF = _function("ggml-cpu", "ggml_cpu_fp32_to_fp16", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_COMMIT = _function("ggml-base", "ggml_commit", ctypes.c_char_p)
COMMIT: str = _COMMIT().decode() if _COMMIT else "unknown"
"""Of llama.cpp, as it was built."""


def half(values: Floats) -> np.ndarray:
    """Return the values as float16, rounded to the nearest, to even."""
    if _HALF is None:
        return values.astype(np.float16)
    source = np.ascontiguousarray(values)
    out = np.empty(source.shape, np.float16)
    _HALF(source.ctypes.data, out.ctypes.data, source.size)
    return out
