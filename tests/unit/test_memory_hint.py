"""What the operator is told when a model does not fit onto the GPU."""

import pytest

from station.engine import llama_text
from station.engine.llama_text import Device, short_of_memory

CPU = Device("CPU", is_gpu=False, free_bytes=2**36, total_bytes=2**36)
GPU = Device("NVIDIA RTX 4000", is_gpu=True, free_bytes=3 * 2**30, total_bytes=20 * 2**30)


def test_it_says_how_much_is_missing_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_text, "devices", lambda: (CPU, GPU))
    said = short_of_memory(5 * 2**30)
    assert "NVIDIA RTX 4000 has 3.0 GiB free, 5.0 GiB are needed, about 2.0 GiB are missing" in said
    assert "engine.gpu_layers" in said


def test_nothing_is_missing_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_text, "devices", lambda: (CPU, GPU))
    assert "missing" not in short_of_memory(2**30)


def test_without_a_gpu_it_points_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_text, "devices", lambda: (CPU,))
    assert "See the log" in short_of_memory(2**40)
