"""Frames between worker and engine child survive any cutting of the stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.engine import frames
from station.engine.base import Answer, Choice
from station.errors import EngineError
from station.records import ModelRef
from tests.worker_parts import QUESTION, FakeInspection, make_job

SPEC = frames.EngineSpec(kind="scripted", manifest_path="", threads=0, gpu_layers=-1)
ANSWER = Answer(query_id="q", choices=(Choice(chosen="passed", probabilities=(0.9, 0.05)),), text="judgement->passed")
ALL: list[frames.Frame] = [
    frames.Load(spec=SPEC, question=QUESTION),
    frames.Loaded(model=ModelRef(name="m", sha256="0" * 64), is_simulated=False),
    frames.Ask(job_id="a", queries=FakeInspection().queries(make_job("a"))),
    frames.Answered(job_id="a", answers=(ANSWER,)),
    frames.Refused(job_id=None, detail="no such file"),
]


@given(st.lists(st.integers(1, 700), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sizes: list[int]) -> None:
    stream = b"".join(map(frames.encode, ALL))
    reader = frames.FrameReader()
    received: list[frames.Frame] = []
    for index in range(len(stream)):
        size = sizes[index % len(sizes)]
        received += reader.feed(stream[:size])
        stream = stream[size:]
        if not stream:
            break
    assert received == ALL


@pytest.mark.parametrize("data", [b"\0\0\0\1\xc1", b"\0\0\0\3abc", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_garbage_is_an_engine_error(data: bytes) -> None:
    with pytest.raises(EngineError):
        frames.FrameReader().feed(data)
