"""Every message between the worker and its engine child, and how they are cut out of a byte stream. Pure.

The worker says `Load` once, then one `Ask` or `Prepare` at a time. The child answers `Loaded` or `Refused` to `Load`
and `Prepare`, `Answered` or `Refused` to each ask; `GpuLost` may come before any of them. A frame is four bytes of
length (big-endian) and a msgpack message. Both ends are of one release and start together, so there is no version.
"""

import msgspec

from station.engine.base import Answer, Query, Question
from station.errors import EngineError
from station.records import ModelRef, Record

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""A longer frame is a broken child, not an answer."""

_LENGTH_BYTES = 4


class EngineSpec(Record):
    """Which engine the child builds."""

    kind: str
    """"llama" or "scripted"."""
    manifest_path: str
    """The release's manifest.json; not read by the scripted engine."""
    threads: int
    """CPU threads, 0 = all cores."""
    gpu_layers: int
    """-1 = all if the build can, 0 = CPU."""
    is_shadow: bool = False
    """True: nobody waits for it; it computes only where a core is idle, and is killed first when memory runs out."""


class Load(Record, tag="load"):
    """Worker -> child: build this engine and prepare this question."""

    spec: EngineSpec
    question: Question


class Prepare(Record, tag="prepare"):
    """Worker -> child: from now on it is about this question; the model stays loaded."""

    question: Question


class Loaded(Record, tag="loaded"):
    """Child -> worker: the question is prepared, ask."""

    model: ModelRef
    is_simulated: bool


class Ask(Record, tag="ask"):
    """Worker -> child: answer these queries."""

    job_id: str
    queries: tuple[Query, ...]


class Answered(Record, tag="answered"):
    """Child -> worker: the answers, in the order of the queries."""

    job_id: str
    answers: tuple[Answer, ...]


class Refused(Record, tag="refused"):
    """Child -> worker: the engine raised EngineError: on an ask, or at `Load` or `Prepare` (`job_id` None; it ends)."""

    job_id: str | None
    detail: str


class GpuLost(Record, tag="gpu-lost"):
    """Child -> worker, at any time: llama.cpp reports a lost GPU or no memory, and may end the process right after."""

    detail: str


Frame = Load | Prepare | Loaded | Ask | Answered | Refused | GpuLost

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Return the bytes of one frame, length included."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES) + body


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes. Raises EngineError if the stream is not one of frames."""
        self._rest += data
        frames = []
        while (body := self._take()) is not None:
            try:
                frames.append(_decoder.decode(body))
            except msgspec.MsgspecError as error:
                raise EngineError(
                    f"The engine's process sent {len(body)} bytes that cannot be read: {error}."
                ) from error
        return frames

    def _take(self) -> bytes | None:
        """Take the body of the first frame if all of it is here."""
        length = int.from_bytes(self._rest[:_LENGTH_BYTES])
        if length > MAX_FRAME_BYTES:
            raise EngineError(f"The engine's process announced a message of {length} bytes.")
        end = _LENGTH_BYTES + length
        if len(self._rest) < end:
            return None
        body = bytes(self._rest[_LENGTH_BYTES:end])
        del self._rest[:end]
        return body
