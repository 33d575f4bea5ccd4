"""The form of config.yaml: every key with its type, range and default. Pure: no I/O.

`station.settings_file.load_settings` reads the file and reports every problem at once. It resolves relative paths, ipc
endpoints too, against the folder of config.yaml, so the rest of the station sees absolute paths only. Each part of the
station gets plain values or its section, never the whole.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

IPC = "ipc://"
MAX_IPC_PATH_BYTES = 107
"""What Linux allows for the path of a Unix socket."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")

_EVERYWHERE = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - compared with, not listened on


def _checked_tcp(endpoint: str) -> str:
    match = _TCP.fullmatch(endpoint)
    if not match or not 1 <= int(match["port"]) <= 65535:
        raise ValueError("expected tcp://ADDRESS:PORT with a port from 1 to 65535, as tcp://127.0.0.1:5556")
    try:
        ipaddress.ip_address(match["host"].strip("[]"))
    except ValueError:
        raise ValueError("the address must be written in numbers; use 127.0.0.1 for this machine") from None
    return endpoint


def is_of_this_machine(endpoint: str) -> bool:
    """Return whether only programs of this machine can reach an endpoint; all others need keys."""
    match = _TCP.fullmatch(endpoint)
    try:
        return (
            endpoint.startswith(IPC) if match is None else ipaddress.ip_address(match["host"].strip("[]")).is_loopback
        )
    except ValueError:
        return False


def _checked_queue_endpoint(endpoint: str) -> str:
    if endpoint.startswith(IPC) and len(endpoint) > len(IPC):
        return endpoint
    if endpoint.startswith("tcp://"):
        return _checked_tcp(endpoint)
    raise ValueError("expected ipc://PATH, as ipc://run/station/jobs.ipc, or tcp://ADDRESS:PORT")


TcpEndpoint = Annotated[str, AfterValidator(_checked_tcp)]


def _checked_ipc(endpoint: str) -> str:
    if not endpoint.startswith(IPC) or len(endpoint) == len(IPC):
        raise ValueError("expected ipc://PATH, as ipc://run/station/orders.ipc")
    return endpoint


IpcEndpoint = Annotated[str, AfterValidator(_checked_ipc)]
QueueEndpoint = Annotated[str, AfterValidator(_checked_queue_endpoint)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _checked_network(network: str) -> str:
    try:
        ipaddress.ip_network(network)
    except ValueError:
        raise ValueError("expected an address or a network, as 192.168.1.10 or 192.168.1.0/24") from None
    return network


Network = Annotated[str, AfterValidator(_checked_network)]


RecipeNumber = Annotated[int, Field(ge=1, le=65_535)]


class Section(BaseModel):
    """Base of all sections: unknown keys refused, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StationSettings(Section):
    """Which station this is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
    """In every verdict, so that several stations can share one subscriber."""


class CaptureSettings(Section):
    """Where pictures come from and go to. All folders must be on one file system: files are moved by rename."""

    hot_folder: Path = Path("run/station/hot")
    spool: Path = Path("run/station/spool")
    quarantine: Path = Path("run/station/quarantine")
    rescan_s: float = Field(default=1.0, ge=0.1, le=60)
    settle_ms: int = Field(default=300, ge=50, le=10_000)
    max_file_mib: int = Field(default=64, ge=1, le=512)
    max_megapixels: int = Field(default=50, ge=1, le=200)


class QueueSettings(Section):
    """The ZeroMQ queue from capture to worker."""

    endpoint: QueueEndpoint = "ipc://run/station/jobs.ipc"
    credit: int = Field(default=2, ge=1, le=16)


class EngineSettings(Section):
    """How the model is run."""

    kind: Literal["llama", "scripted"] = "llama"
    threads: int = Field(default=0, ge=0, le=256)
    """0: all cores."""
    gpu_layers: int = Field(default=-1, ge=-1, le=1000)
    """-1: all if the build can, 0: CPU."""
    kill_ms: int = Field(default=30_000, ge=1_000, le=600_000)


class ChallengeSettings(Section):
    """When the model is challenged with known samples, besides the start and on command."""

    every_min: int = Field(default=480, ge=0, le=100_000)
    """0: never on schedule."""


class JournalSettings(Section):
    """Where verdicts are kept."""

    path: Path = Path("run/station/journal.sqlite")


class ModbusServerSettings(Section):
    """The PLC's view: a Modbus TCP server."""

    enabled: bool = True
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    port: Port = 5020
    mode: Literal["free_running", "triggered"] = "free_running"
    picture_window_ms: int = Field(default=500, ge=20, le=10_000)
    allow: tuple[Network, ...] = ()
    """Empty: every address."""


class ModbusClientSettings(Section):
    """A PLC or remote I/O coupler that the station writes to."""

    enabled: bool = False
    kind: Literal["plc", "coupler"] = "plc"
    host: str = Field(default="192.168.1.10", min_length=1, max_length=255)
    port: Port = 502
    unit_id: int = Field(default=1, ge=0, le=255)
    address: int = Field(default=0, ge=0, le=65_520)
    valid_for_ms: int = Field(default=1_000, ge=50, le=60_000)
    watchdog_register: int = Field(default=0, ge=0, le=65_535)
    watchdog_value: int = Field(default=0, ge=0, le=65_535)

    @model_validator(mode="after")
    def _armed(self) -> Self:
        if self.kind == "coupler" and not self.watchdog_value:
            raise ValueError("a coupler needs watchdog_register and watchdog_value: else its outputs stay on for ever")
        return self


class PublisherSettings(Section):
    """The verdict stream: a ZeroMQ PUB socket and its snapshot socket."""

    enabled: bool = True
    endpoint: TcpEndpoint = "tcp://127.0.0.1:5556"
    snapshot_endpoint: TcpEndpoint = "tcp://127.0.0.1:5557"


class OpcuaSettings(Section):
    """The OPC UA server, a process of its own."""

    enabled: bool = False
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    port: Port = 4840
    mode: Literal["free_running", "triggered"] = "free_running"
    picture_window_ms: int = Field(default=500, ge=20, le=10_000)
    allow: tuple[Network, ...] = ()
    """Empty: every address."""
    keys_folder: Path = Path("run/station/opcua")
    """Certificate, users, certificates of clients."""
    nodesets: Path = Path("run/station/opcua/nodesets")
    """Where the Machine Vision nodeset file may be."""
    orders_endpoint: IpcEndpoint = "ipc://run/station/orders.ipc"


class ArchiveSettings(Section):
    """Pictures and their annotated copies, by day."""

    enabled: bool = True
    folder: Path = Path("run/station/archive")
    keep_ok_days: int = Field(default=0, ge=0, le=3650)
    """0: until room is needed."""
    keep_other_days: int = Field(default=0, ge=0, le=3650)
    """0: for ever."""
    free_percent: int = Field(default=15, ge=0, le=90)


class OutputsSettings(Section):
    """Where verdicts go after the journal has them."""

    modbus_server: ModbusServerSettings = ModbusServerSettings()
    modbus_client: ModbusClientSettings = ModbusClientSettings()
    publisher: PublisherSettings = PublisherSettings()
    opcua: OpcuaSettings = OpcuaSettings()
    archive: ArchiveSettings = ArchiveSettings()

    @model_validator(mode="after")
    def _one_starts_inspections(self) -> Self:
        if self.opcua.enabled and not self.publisher.enabled:
            raise ValueError("opcua needs the verdict stream: set publisher.enabled to true")
        both = self.opcua.mode == self.modbus_server.mode == "triggered"
        if self.opcua.enabled and self.modbus_server.enabled and both:
            raise ValueError("modbus_server.mode and opcua.mode are both triggered: only one may start inspections")
        return self


class SettingsFile(Section):
    """The whole of config.yaml."""

    station: StationSettings
    recipe: Path
    """recipe.yaml of the product."""
    recipes: dict[RecipeNumber, Path] = {}
    """What the PLC may ask for: number -> recipe.yaml."""
    model: Path
    """manifest.json of the model release."""
    shadow: Path | None = None
    """manifest.json of a second model, judged beside it without outputs."""
    keys_folder: Path = Path("run/station/keys")
    """Folder of keys, for endpoints that another machine can reach."""
    capture: CaptureSettings = CaptureSettings()
    queue: QueueSettings = QueueSettings()
    engine: EngineSettings = EngineSettings()
    challenge: ChallengeSettings = ChallengeSettings()
    journal: JournalSettings = JournalSettings()
    outputs: OutputsSettings = OutputsSettings()


def folder_problems(settings: SettingsFile) -> list[str]:
    """Return why the station's folders cannot be used together: each must stand outside all others."""
    folders = {
        "capture.hot_folder": settings.capture.hot_folder,
        "capture.spool": settings.capture.spool,
        "capture.quarantine": settings.capture.quarantine,
        "outputs.archive.folder": settings.outputs.archive.folder,
    }
    return [
        f"{inner}: {path} is {'the same as' if path == around else 'inside'} {outer}; each needs a folder of its own."
        for inner, path in folders.items()
        for outer, around in folders.items()
        if inner != outer and path.is_relative_to(around) and (path != around or inner > outer)
    ]


def port_problems(settings: SettingsFile) -> list[str]:
    """Return which addresses of the station cannot be open together: each needs a port of its own."""
    outputs, publisher = settings.outputs, settings.outputs.publisher
    places = {"queue.endpoint": settings.queue.endpoint}
    for name, section in (("modbus_server", outputs.modbus_server), ("opcua", outputs.opcua)):
        if section.enabled:
            host = f"[{section.host}]" if ":" in section.host else section.host
            places[f"outputs.{name}.port"] = f"tcp://{host}:{section.port}"
    if publisher.enabled:
        places["outputs.publisher.endpoint"] = publisher.endpoint
        places["outputs.publisher.snapshot_endpoint"] = publisher.snapshot_endpoint
    listening = [
        (key, match["host"], match["port"]) for key, place in places.items() if (match := _TCP.fullmatch(place))
    ]
    return [
        f"{key}: port {port} is that of {other} too; give each a port of its own."
        for number, (key, host, port) in enumerate(listening)
        for other, other_host, other_port in listening[:number]
        if port == other_port and (host == other_host or {host, other_host} & _EVERYWHERE)
    ]


class Settings(SettingsFile):
    """A config.yaml that was read and checked; all paths are absolute."""

    config_path: Path
    config_sha256: str
    """Of the bytes of config.yaml, hex."""


S = TypeVar("S", bound=Section)


def with_absolute_paths(section: S, folder: Path) -> S:
    """Return the section with every relative path and ipc endpoint in it resolved against `folder`."""
    return section.model_copy(update={name: _absolute(value, folder) for name, value in section})


def _absolute(value: object, folder: Path) -> object:
    if isinstance(value, Section):
        return with_absolute_paths(value, folder)
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(IPC):
        return IPC + str(folder / value.removeprefix(IPC))
    return value


def ipc_problem(endpoint: str) -> str | None:
    """Return why this resolved endpoint cannot be opened on Linux, or None."""
    length = len(endpoint.removeprefix(IPC).encode())
    if not endpoint.startswith(IPC) or length <= MAX_IPC_PATH_BYTES:
        return None
    return (
        f"the socket's path {endpoint.removeprefix(IPC)} has {length} bytes, the system allows {MAX_IPC_PATH_BYTES};"
        " write a shorter absolute path, as ipc:///run/station/jobs.ipc, or tcp://127.0.0.1:5555."
    )
