"""Which lines of llama.cpp's log mean that the GPU is lost or memory is short: in the words of ggml's sources."""

import logging
import socket

import pytest

from station.engine import frames
from station.engine.child import LOST, _TellGpuLost

LOST_LINES = (
    "llama.cpp: CUDA error: an illegal memory access was encountered",
    "llama.cpp: CUDA error: out of memory",
    "llama.cpp: ROCm error: unspecified launch failure",
    "llama.cpp: ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4.0 MiB: cudaMalloc failed: out of memory",
    "llama.cpp: alloc_tensor_range: failed to allocate CUDA0 buffer of size 4294967296",
    "llama.cpp: ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 15507200",
    "llama.cpp: ggml_vulkan: Device memory allocation of size 1024 failed: vk::Device::waitForFences: ErrorDeviceLost",
)
OTHER_LINES = (
    "llama.cpp: ggml_cuda_init: found 1 CUDA devices:",
    "llama.cpp: load_tensors:        CUDA0 model buffer size =   125.00 MiB",
    "llama.cpp: decode: failed to find a memory slot for batch of size 8",
    "llama.cpp: load: control-looking token was not control-type; this is probably a bug in the model",
    "The worker sent an error about a picture.",
)


@pytest.mark.parametrize(("line", "is_lost"), [(line, line in LOST_LINES) for line in (*LOST_LINES, *OTHER_LINES)])
def test_only_a_lost_gpu_or_short_memory_counts(line: str, is_lost: bool) -> None:
    assert bool(LOST.search(line)) is is_lost


def test_the_worker_is_told_once_and_at_once() -> None:
    worker, child = socket.socketpair()
    with worker, child:
        handler = _TellGpuLost(child)
        for line in (*OTHER_LINES, LOST_LINES[0], LOST_LINES[1]):
            handler.handle(logging.makeLogRecord({"msg": line, "levelno": logging.WARNING}))
        told = frames.FrameReader().feed(worker.recv(65536))
    assert told == [frames.GpuLost(detail=LOST_LINES[0])]
