"""Reads the station's status block as a PLC does: a Modbus TCP client. Used by `station check`, `status` and `demo`."""

from typing import Self

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from station.errors import OutputError
from station.outputs import plc_map, plc_words

TIMEOUT_S = 2


class PlcClient:
    """One connection to the station's Modbus server; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        # A server that listens on all networks is reached on this machine's own address.
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        self._client = ModbusTcpClient(reached, port=port, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def status(self) -> dict[str, int]:
        """Return every served field of the status block, read in one request. Raises OutputError."""
        try:
            if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                raise OutputError(f"Nothing answers at the PLC port {self._where}.", "Is the worker running?")
            reply = self._client.read_input_registers(0, count=plc_map.WORDS)
        except (ModbusException, OSError) as error:
            raise OutputError(f"The PLC port {self._where} does not answer: {error}.") from error
        if reply.isError():  # an exception response is a return value, not a Python exception
            raise OutputError(f"The PLC port {self._where} refused to be read: {reply}.")
        return plc_words.decode(reply.registers)
