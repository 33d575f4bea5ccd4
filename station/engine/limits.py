"""What this machine can do at most: a large matrix product and a large copy, by the vendor's own library.

On an NVIDIA GPU through cuBLAS and the CUDA runtime, which llama.cpp itself was built with; otherwise numpy.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_SIDE = 8192
_COPY_BYTES = 2**30
_TO_DEVICE, _ON_DEVICE = 1, 3
_TRANSPOSED, _PLAIN = 1, 0
_BF16, _COMPUTE_32F, _DEFAULT_ALGORITHM = 14, 68, -1


@dataclass(frozen=True)
class Limits:
    """The highest rates seen."""

    flop_per_s: float
    """Of a matrix product: bfloat16 with 32-bit sums on a GPU, float32 on a CPU."""
    bytes_per_s: float
    """Of a copy, read and written."""


def measure(*, gpu: bool) -> Limits:
    """Return the best of several runs. Raises OSError when the GPU's libraries are not there."""
    return _measure_gpu() if gpu else _measure_cpu()


def _measure_cpu() -> Limits:
    a = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    copy = np.empty_like(large := np.ones(2**26, np.uint8))
    return Limits(2 * 1024**3 / _fastest(lambda: a @ a), 2 * large.nbytes / _fastest(lambda: np.copyto(copy, large)))


def _fastest(action: Callable[[], object], repeats: int = 8) -> float:
    """Return the seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def _library(name: str) -> ctypes.CDLL:
    for version in (".13", ".12", ""):
        try:
            return ctypes.CDLL(f"lib{name}.so{version}")
        except OSError:
            continue
    raise OSError(f"lib{name}.so is not on the path of shared libraries (LD_LIBRARY_PATH).")


def _measure_gpu() -> Limits:
    cuda, blas = _library("cudart"), _library("cublas")

    def allocate(size: int) -> ctypes.c_void_p:
        pointer = ctypes.c_void_p()
        _check(cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)))
        return pointer

    # Random values: zeros would be multiplied faster. The upper half of a float32 is a bfloat16.
    values = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), np.float32).view(np.uint32) >> 16
    host = values.astype(np.uint16)
    a, b, c = (allocate(host.nbytes) for _ in range(3))
    for target in (a, b):
        _check(cuda.cudaMemcpy(target, host.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(host.nbytes), _TO_DEVICE))
    handle, one, zero = ctypes.c_void_p(), ctypes.c_float(1), ctypes.c_float(0)
    _check(blas.cublasCreate_v2(ctypes.byref(handle)))
    n = _SIDE

    def product() -> None:
        for _ in range(10):
            _check(
                blas.cublasGemmEx(
                    *(handle, _TRANSPOSED, _PLAIN, n, n, n, ctypes.byref(one), a, _BF16, n, b, _BF16, n),
                    *(ctypes.byref(zero), c, _BF16, n, _COMPUTE_32F, _DEFAULT_ALGORITHM),
                )
            )
        _check(cuda.cudaDeviceSynchronize())

    source, target = allocate(_COPY_BYTES), allocate(_COPY_BYTES)

    def copy() -> None:
        for _ in range(10):
            _check(cuda.cudaMemcpyAsync(target, source, ctypes.c_size_t(_COPY_BYTES), _ON_DEVICE, None))
        _check(cuda.cudaDeviceSynchronize())

    limits = Limits(10 * 2 * n**3 / _fastest(product), 10 * 2 * _COPY_BYTES / _fastest(copy))
    for pointer in (a, b, c, source, target):
        cuda.cudaFree(pointer)
    return limits


def _check(code: int) -> None:
    if code != 0:
        raise OSError(f"CUDA refused with code {code}.")
