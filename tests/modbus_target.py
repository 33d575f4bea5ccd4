"""A PLC or coupler that is a Modbus TCP server: keeps every write, can be slow, silent, or refuse its watchdog."""

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import Self

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class ModbusTarget:
    """A context manager. `writes` are (monotonic s, function code, address, values)."""

    def __init__(self, port: int, *, watchdog: int | None = None, locked: bool = False) -> None:
        self.port = port
        self.writes: list[tuple[float, int, int, list[int]]] = []
        self.delay_s = 0.0
        self.exception: ExcCodes | None = None
        """What every request is answered with; None: as it should be."""
        self._watchdog = watchdog
        self._locked = locked
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(opened)))
        self._thread.start()
        opened.result(5)
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._loop
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, opened: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        words = [SimData(0, count=5000, datatype=DataType.REGISTERS)]
        bits = [SimData(0, count=4, datatype=DataType.BITS)]
        device = SimDevice(0, simdata=(bits, list(bits), words, list(words)), action=self._act)
        server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        opened.set_result(None)
        await self._stop.wait()
        await server.shutdown()  # type: ignore[no-untyped-call]

    async def _act(
        self,
        code: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        del start, count, registers
        came_s = time.monotonic()
        await asyncio.sleep(self.delay_s)
        if self.exception is not None:
            return self.exception
        if values is not None:
            if address == self._watchdog and self._locked:
                return ExcCodes.ILLEGAL_ADDRESS
            self.writes.append((came_s, code, address, [int(value) for value in values]))
        return None

    def coils(self) -> list[bool]:
        """Return what was written to coils."""
        return [bool(values[0]) for _, code, _, values in self.writes if code == 5]

    def blocks(self) -> list[list[int]]:
        """Return the blocks written."""
        return [values for _, code, _, values in self.writes if code == 16]
