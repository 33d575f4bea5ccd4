"""A subscriber of the verdict stream: yields every verdict once and in order, and says where some were missed.

Subscribes first, then asks the snapshot socket for what was before, and merges both by (epoch, seq). When a later
message shows a gap, the snapshot socket is asked again, so that the subscriber ends with the same table as the
journal. Used by `station watch`; needs nothing of the station but its two endpoints. On failure OutputError.
"""

import time
from collections.abc import Iterator
from typing import Self

import msgspec
import zmq

from station import verdict_json
from station.curve import ClientKeys
from station.errors import JournalError, OutputError
from station.records import Record, Verdict
from station.settings import is_of_this_machine

ANSWER_TIMEOUT_MS = 5000
"""For one page of a snapshot; the worker answers at least once a second."""
SILENT_AFTER_MS = 3000
"""Three heartbeats."""
RECEIVE_QUEUE = 10_000
"""Messages that may wait here while the caller prints."""

Position = tuple[int, int]
"""(epoch, seq) of a verdict."""


class Gap(Record, frozen=True):
    """The stream went on without some verdicts; those that the journal has follow at once."""

    after: Position
    """Last verdict seen before."""
    until: Position
    """The gap ends here: known from a later verdict or a heartbeat."""


class Silence(Record, frozen=True):
    """Neither verdict nor heartbeat came for `ms`: the station does not run, or not at this address. Said once."""

    ms: int


class Watch:
    """An open subscription: a context manager and an iterator. Used from one thread.

    since: (epoch, seq) after which earlier verdicts are wanted, (0, 0) all; None: only what comes from now on.
    timeout_s: iteration ends after so long in all; None: never.
    keys: shown to a station whose endpoints other machines reach; None: it is on this machine.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        snapshot_endpoint: str,
        since: Position | None = None,
        timeout_s: float | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._snapshot_endpoint = snapshot_endpoint
        self._timeout_s = timeout_s
        self._keys = keys
        self._last = since
        self._is_joined = False
        self._stream = context.socket(zmq.SUB)

    def __enter__(self) -> Self:
        """Subscribe. Raises OutputError if the endpoint is not one."""
        self._stream.linger = 0
        self._stream.ipv6 = "[" in self._endpoint
        self._stream.rcvhwm = RECEIVE_QUEUE
        self._show_keys(self._stream, self._endpoint)
        self._stream.subscribe("verdict.")
        self._stream.subscribe("heartbeat.")
        try:
            self._stream.connect(self._endpoint)
        except zmq.ZMQError as error:
            self._stream.close()
            raise OutputError(
                f"Cannot subscribe to {self._endpoint}: {error.strerror}.", "It should be like tcp://127.0.0.1:5556."
            ) from error
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Verdict | Gap | Silence]:
        """Yield verdicts in order, each once; a Gap where the stream skipped some; a Silence when nothing comes.

        May be called again after it ended: goes on where it was.
        Raises OutputError when the snapshot socket does not answer or a message is not of this release.
        """
        end_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        if self._last is not None:
            yield from self._missed(self._last)
        is_silent = False
        while (wait_ms := _wait_ms(end_s)) > 0:
            if self._stream.poll(wait_ms):
                is_silent = False
                yield from self._take(*self._stream.recv_multipart())
            elif wait_ms == SILENT_AFTER_MS and not is_silent:
                is_silent = True
                yield Silence(ms=SILENT_AFTER_MS)

    def _take(self, topic: bytes, body: bytes) -> Iterator[Verdict | Gap]:
        """Yield what one message of the stream brings."""
        if topic.startswith(b"verdict."):
            yield from self._merge(_verdict(body))
        else:
            yield from self._catch_up(_position(body))
        self._is_joined = True

    def _merge(self, verdict: Verdict) -> Iterator[Verdict | Gap]:
        """Yield `verdict` if it is new, after all that lies between the last one and it."""
        yield from self._catch_up((verdict.epoch, verdict.seq - 1))
        at = (verdict.epoch, verdict.seq)
        if self._last is None or at > self._last:
            self._last = at
            yield verdict

    def _catch_up(self, reached: Position) -> Iterator[Verdict | Gap]:
        """Yield what is missing, with its Gap, when the station has `reached` more than was seen here."""
        last = self._last = reached if self._last is None else self._last
        if reached <= last:
            return
        missed = self._missed(last)
        first = next(missed, None)
        # After a restart of the worker only the journal knows whether the old epoch went on.
        is_restart = reached[0] > last[0] and reached[1] == 0
        is_skipped = not is_restart or (first is not None and (first.epoch, first.seq) <= reached)
        # What was sent before the subscription stood was not skipped by the stream.
        if is_skipped and self._is_joined:
            yield Gap(after=last, until=reached)
        if first is not None:
            yield first
            yield from missed
        self._last = max(self._last, reached)

    def _missed(self, since: Position) -> Iterator[Verdict]:
        """Yield the verdicts of the journal after `since`, page by page."""
        while page := self._page(since):
            for verdict in page:
                since = self._last = (verdict.epoch, verdict.seq)
                yield verdict

    def _page(self, since: Position) -> list[Verdict]:
        """Return the next verdicts after `since`; none: there are no more. Raises OutputError."""
        with self._context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.ipv6 = "[" in self._snapshot_endpoint
            self._show_keys(socket, self._snapshot_endpoint)
            socket.connect(self._snapshot_endpoint)
            socket.send(msgspec.json.encode({"since": since}))
            if not socket.poll(ANSWER_TIMEOUT_MS):
                raise OutputError(
                    f"The snapshot socket {self._snapshot_endpoint} gave no answer in {ANSWER_TIMEOUT_MS} ms.",
                    "Is the worker running (`station status`)? Is it outputs.publisher.snapshot_endpoint?",
                )
            *verdicts, end = socket.recv_multipart()
        if b'"end"' not in end:
            raise OutputError(f"The snapshot socket refused: {end.decode(errors='replace')}.", "See the worker's log.")
        return [_verdict(body) for body in verdicts]

    def _show_keys(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        if self._keys and not is_of_this_machine(endpoint):
            self._keys.show(socket)


def _wait_ms(end_s: float | None) -> int:
    """Return how long to wait for the next message; 0: the time is over."""
    if end_s is None:
        return SILENT_AFTER_MS
    return max(0, min(SILENT_AFTER_MS, int((end_s - time.monotonic()) * 1000)))


def _verdict(body: bytes) -> Verdict:
    try:
        return verdict_json.decode(body)
    except JournalError as error:
        raise OutputError(f"A verdict of the stream: {error.message}", error.hint) from error


def _position(heartbeat: bytes) -> Position:
    try:
        fields = msgspec.json.decode(heartbeat)
        return int(fields["epoch"]), int(fields["seq"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            "A heartbeat of the stream cannot be read.", "The station is of another release than this program."
        ) from error
