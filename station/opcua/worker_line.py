"""The OPC UA server's end of the path to the worker: a ZeroMQ DEALER with a thread of its own.

In: whether everything is to be a job, and starts of jobs, from any thread; out: what the worker says, and its silence,
given to `deliver` in this line's thread. Greets all the time; a worker that comes back is found by itself.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable

import zmq

from station import orders
from station.complaints import Complaints
from station.errors import QueueError
from station.records import Record

logger = logging.getLogger(__name__)


class Silence(Record, frozen=True):
    """The worker has not answered for `orders.SILENT_AFTER_S`. Said again with each greeting until it does."""


Heard = orders.Message | Silence


class WorkerLine:
    """Runs between `start` and `close`."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, deliver: Callable[[Heard], None]
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._deliver = deliver
        self._is_continuous = False
        self._orders: queue.SimpleQueue[orders.Message] = queue.SimpleQueue()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker-line", daemon=True)
        self.complaints = Complaints(logger)

    def start(self) -> None:
        """Begin to greet."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wake()
        self._thread.join()
        os.close(self._wake_fd)

    def run_continuously(self, wanted: bool) -> None:
        """Say with every greeting, and at once, whether every picture is to be a job."""
        if wanted != self._is_continuous:
            self._is_continuous = wanted
            self._wake()

    def start_job(self, request: int, serial: str, measurement: str) -> None:
        """Ask for a trigger; the answer has the same `request`."""
        self._give(
            orders.StartJob(request=request, serial=serial, measurement=measurement, sent_ns=time.monotonic_ns())
        )

    def prepare_recipe(self, request: int, recipe_sha256: str) -> None:
        """Ask for another recipe; the answer has the same `request`."""
        self._give(orders.PrepareRecipe(request=request, recipe_sha256=recipe_sha256))

    def _give(self, order: orders.Message) -> None:
        self._orders.put(order)
        self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        with self._context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.sndhwm = socket.rcvhwm = 100
            socket.setsockopt(zmq.MAXMSGSIZE, orders.MAX_MESSAGE_BYTES)
            # Nothing is kept for a worker that is away: an old order must not meet it when it comes.
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.connect(self._endpoint)
            self._talk(socket)

    def _talk(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
        heard_s = time.monotonic()
        greet_s = 0.0
        while not self._stop.is_set():
            woken = dict(poller.poll(max(0, int(1000 * (greet_s - time.monotonic())))))
            if self._wake_fd in woken:
                os.eventfd_read(self._wake_fd)
                greet_s = 0.0
            while not self._orders.empty():
                self._send(socket, self._orders.get())
            if time.monotonic() >= greet_s:
                greet_s = time.monotonic() + orders.GREET_EVERY_S
                self._send(socket, orders.Greeting(is_continuous=self._is_continuous))
            if self._receive(socket):
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > orders.SILENT_AFTER_S:
                self._deliver(Silence())

    def _receive(self, socket: zmq.Socket[bytes]) -> bool:
        """Deliver what is here; return True if there was something."""
        is_heard = False
        while socket.poll(0):
            try:
                self._deliver(orders.decode(socket.recv()))
                is_heard = True
            except QueueError as error:
                self.complaints.say("malformed message", str(error))
        return is_heard

    def _send(self, socket: zmq.Socket[bytes], message: orders.Message) -> None:
        try:
            socket.send(orders.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return  # the worker is away, which its silence says
