"""A running station with its OPC UA server, for tests: `station run` with a config of its own."""

from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.running_station import RunningStation, write_config
from tests.waiting import wait_until

LISTENS = "OPC UA server on"
START_S = 60


def write_opcua_config(folder: Path, *, opcua: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a config.yaml with an OPC UA server; `opcua` changes its section, keywords whole sections."""
    section = {
        "enabled": True,
        "port": free_port(),
        "mode": "triggered",
        "picture_window_ms": 1500,
        "keys_folder": "opcua",
        "nodesets": "no-nodesets",
        "orders_endpoint": "ipc://orders.ipc",
    }
    outputs = {
        "modbus_server": {"port": free_port()},
        "publisher": {
            "endpoint": f"tcp://127.0.0.1:{free_port()}",
            "snapshot_endpoint": f"tcp://127.0.0.1:{free_port()}",
        },
        "opcua": section | (opcua or {}),
        "archive": {"folder": "archive"},
    }
    return write_config(folder, **({"outputs": outputs} | changes))


def wait_listening(station: RunningStation, times: int = 1) -> None:
    """Wait until the OPC UA server listens; `times`: it was started so often."""
    wait_until(lambda: station.log.count(LISTENS) >= times, START_S)
