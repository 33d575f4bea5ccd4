"""What `station check` says of the GPU."""

import pytest

from station.check import _gpu
from station.finding import Level

GPU = ("NVIDIA H100", 79 * 2**30)


@pytest.mark.parametrize(
    ("gpu_layers", "gpus", "has_nvidia", "level", "said"),
    [
        (-1, [GPU], True, Level.OK, "runs on the GPU NVIDIA H100, 79.0 GiB free"),
        (20, [GPU], True, Level.OK, "runs on the GPU"),
        (0, [GPU], True, Level.OK, "runs on the CPU"),
        (-1, [], False, Level.OK, "runs on the CPU"),
        (-1, [], True, Level.WARN, "though there is an NVIDIA GPU"),
        (20, [], True, Level.FAIL, "this build can use no GPU"),
        (20, [], False, Level.FAIL, "this build can use no GPU"),
    ],
)
def test_a_gpu_that_is_not_used_is_said_and_what_to_do(
    gpu_layers: int, gpus: list[tuple[str, int]], has_nvidia: bool, level: Level, said: str
) -> None:
    finding = _gpu(gpu_layers, gpus, has_nvidia=has_nvidia)
    assert (finding.level, said in finding.found) == (level, True), finding
    assert (finding.level is Level.OK) or "make setup-cuda" in finding.to_do
