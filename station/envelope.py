"""How a message travels between two processes of a station: as msgpack, with a version in front. Pure."""

from typing import Any, Generic, TypeVar

import msgspec

from station.errors import QueueError

M = TypeVar("M")


class Envelope(Generic[M]):
    """Packs and opens the messages of one way. `way`, `hint`: where they go and what helps, for the operator."""

    def __init__(self, message: Any, version: int, way: str, hint: str) -> None:
        self._version, self._way, self._hint = version, way, hint
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(tuple[int, message])

    def encode(self, message: M) -> bytes:
        """Return the message as msgpack bytes with the version in front."""
        return self._encoder.encode((self._version, message))

    def decode(self, data: bytes) -> M:
        """Return the message in `data`. Raises QueueError if it is malformed or of another version."""
        try:
            version, message = self._decoder.decode(data)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            what = f"A message of {len(data)} bytes {self._way} cannot be read: {error}."
            raise QueueError(what, self._hint) from error
        if version != self._version:
            raise QueueError(
                f"A message {self._way} has version {version}, this release speaks version {self._version}.", self._hint
            )
        opened: M = message
        return opened
