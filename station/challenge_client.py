"""`station challenge`: asks the running worker for a challenge and waits for its end.

In: the queue's endpoint. Out: the run, None when the worker has no model to challenge. Raises QueueError when no worker
answers in time.
"""

import time

import zmq

from station.challenge import ChallengeRun
from station.curve import ClientKeys
from station.errors import QueueError
from station.messages import ChallengeDone, ChallengeNow, decode, encode


def challenge(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, timeout_s: float, keys: ClientKeys | None
) -> ChallengeRun | None:
    """Return what came of a challenge that begins now. `keys` None: the endpoint is of this machine."""
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.ipv6 = "[" in endpoint
        if keys:
            keys.show(socket)
        socket.connect(endpoint)
        socket.send(encode(ChallengeNow()))
        end_s = time.monotonic() + timeout_s
        while (rest_s := end_s - time.monotonic()) > 0 and socket.poll(round(rest_s * 1000)):
            message = decode(socket.recv())
            if isinstance(message, ChallengeDone):
                return message.run
    hint = "Does the worker run, and capture too, which puts the samples into the hot folder? station status"
    raise QueueError(f"The challenge did not come to an end within {timeout_s:g} s.", hint)
