"""Rounds float32 to float16 with llama.cpp's own function: the same bits as numpy's, many times as fast."""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from weights import Floats


def _function() -> object | None:
    for file in sorted((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-cpu.*")):
        try:
            function = ctypes.CDLL(str(file)).ggml_cpu_fp32_to_fp16
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None
        return function
    return None


_FUNCTION = _function()


def half(values: Floats) -> np.ndarray:
    """Return the values as float16, rounded to the nearest, to even."""
    if _FUNCTION is None:
        return values.astype(np.float16)
    source = np.ascontiguousarray(values)
    out = np.empty(source.shape, np.float16)
    _FUNCTION(source.ctypes.data, out.ctypes.data, source.size)
    return out
