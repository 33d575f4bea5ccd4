"""Certificates and clients for tests of the OPC UA server. The clients are asyncua's and know the model, not the code.

asyncua cannot give TrimmedString of the companion model a type of its own, since the base model has one of that name.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from asyncua import Client, Node, ua
from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from station.opcua_access import make_keys, make_user
from station.settings_file import load_settings

VISION = "http://opcfoundation.org/UA/MachineVision"
URI = "urn:test:client"
USER, WATCHER, PASSWORD = "line-1", "viewer", "correct horse"
LIMIT_S = 30.0
RESULTS = "VisionSystem.ResultManagement"

T = TypeVar("T")


def make_client_certificate(folder: Path, name: str = "client") -> Path:
    """Make `<name>.der`, `<name>.pem` and `<name>.key.pem` of a client; return the first."""
    folder.mkdir(exist_ok=True)
    der, key = folder / f"{name}.der", generate_private_key()
    names = [x509.UniformResourceIdentifier(URI), x509.DNSName("localhost")]
    certificate = generate_self_signed_app_certificate(key, USER, {}, names, [ExtendedKeyUsageOID.CLIENT_AUTH])
    (folder / f"{name}.key.pem").write_bytes(dump_private_key_as_pem(key))
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    return der


def prepare(config: Path) -> Path:
    """Make the server's keys and both users; trust a client, and return its certificate."""
    settings = load_settings(config)
    certificate = make_client_certificate(config.parent / "clients")
    make_keys(settings, None)
    make_keys(settings, certificate)
    make_user(settings, USER, PASSWORD, may_control=True)
    make_user(settings, WATCHER, PASSWORD, may_control=False)
    return certificate


class Connected:
    """A client that is logged in."""

    def __init__(self, client: Client, vision: int, own: int) -> None:
        self.client = client
        self.vision = vision
        self.own = own
        self.events: list[Any] = []

    def node(self, path: str) -> Node:
        """Return a node of the station by its id."""
        return self.client.get_node(ua.NodeId(path, self.own))

    async def state(self) -> str:
        """Return the state, of the automatic mode if it is operational."""
        machine = "VisionSystem.VisionStateMachine"
        outer = (await self.node(f"{machine}.CurrentState").read_value()).Text
        if outer != "Operational":
            return str(outer)
        return str((await self.node(f"{machine}.AutomaticModeStateMachine.CurrentState").read_value()).Text)

    def structure(self, name: str, **fields: Any) -> Any:
        """Return a structure of the companion model."""
        return next(kind for kind in ua.extension_objects_by_datatype.values() if kind.__name__ == name)(**fields)

    async def call(self, path: str, *arguments: Any) -> Any:
        """Call a method; raise what its status says."""
        owner = self.node(path.rpartition(".")[0])
        return await owner.call_method(self.node(path), *arguments)

    async def start_job(self, part: str = "", measurement: str = "", *, continuous: bool = False) -> Any:
        """Call StartSingleJob, or StartContinuous."""
        return await self.call(
            "VisionSystem.VisionStateMachine.AutomaticModeStateMachine."
            + ("StartContinuous" if continuous else "StartSingleJob"),
            self.structure("MeasIdDataType", Id=measurement),
            self.structure("PartIdDataType", Id=part),
            self.structure("RecipeIdExternalDataType", Id=""),
            self.structure("ProductIdDataType", Id=""),
            ua.Variant([], ua.VariantType.Variant, is_array=True),
        )

    async def change(self, method: str) -> Any:
        """Call Halt, Reset, Stop or Abort."""
        automatic = ".AutomaticModeStateMachine" if method in {"Stop", "Abort"} else ""
        why = (ua.Variant(0, ua.VariantType.Int32), ua.Variant("test", ua.VariantType.String))
        return await self.call(f"VisionSystem.VisionStateMachine{automatic}.{method}", *why)

    async def prepare(self, recipe: str) -> Any:
        """Call PrepareRecipe."""
        external = self.structure("RecipeIdExternalDataType", Id=recipe)
        return await self.call(
            "VisionSystem.RecipeManagement.PrepareRecipe", external, self.structure("RecipeIdInternalDataType", Id="")
        )

    async def result(self, result_id: str) -> Any:
        """Call GetResultById."""
        wanted = self.structure("ResultIdDataType", Id=result_id)
        return await self.call(f"{RESULTS}.GetResultById", wanted, ua.Variant(0, ua.VariantType.Int32))

    async def results(self, **filters: Any) -> Any:
        """Call GetResultListFiltered."""
        ids = {
            "MeasId": "MeasIdDataType",
            "PartId": "PartIdDataType",
            "ExternalRecipeId": "RecipeIdExternalDataType",
            "InternalRecipeId": "RecipeIdInternalDataType",
            "ExternalConfigurationId": "ConfigurationIdDataType",
            "InternalConfigurationId": "ConfigurationIdDataType",
            "ProductId": "ProductIdDataType",
            "JobId": "JobIdDataType",
        }
        return await self.call(
            f"{RESULTS}.GetResultListFiltered",
            ua.Variant(filters.get("ResultState", 0), ua.VariantType.Int32),
            *(self.structure(kind, Id=filters.get(name, "")) for name, kind in ids.items()),
            ua.Variant(10, ua.VariantType.UInt32),
            ua.Variant(0, ua.VariantType.UInt32),
            ua.Variant(0, ua.VariantType.Int32),
        )

    def told(self, number: int) -> list[Any]:
        """Return the events of a type, by its number in the companion model."""
        return [event for event in self.events if event.EventType == ua.NodeId(number, self.vision)]

    async def listen(self, interval_ms: float = 20) -> None:
        """Collect the events of VisionSystem in `events`."""
        subscription = await self.client.create_subscription(interval_ms, self)
        kinds = [ua.NodeId(number, self.vision) for number in (1024, 1019, 1025)]
        await subscription.subscribe_events(
            self.node("VisionSystem"), evtypes=kinds, where_clause_generation=False, queuesize=1000
        )

    def event_notification(self, event: Any) -> None:
        """Take in one event; asyncua calls it."""
        self.events.append(event)


def make_client(port: int) -> Client:
    """Return a client without security."""
    client = Client(f"opc.tcp://127.0.0.1:{port}/station", timeout=LIMIT_S)
    client.application_uri = URI
    return client


@asynccontextmanager
async def connected(
    port: int,
    certificate: Path,
    user: str | None = USER,
    password: str = PASSWORD,
    *,
    user_certificate: Path | None = None,
) -> AsyncIterator[Connected]:
    """Connect and log in; `user` None: by certificate if there is one, else anonymously."""
    client = make_client(port)
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        certificate,
        certificate.with_suffix(".key.pem"),
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )
    if user is not None:
        client.set_user(user)
        client.set_password(password)
    if user_certificate is not None:
        await client.load_client_certificate(user_certificate)
        await client.load_private_key(user_certificate.with_suffix(".key.pem"))
    async with client:
        names = await client.get_namespace_array()
        vision = names.index(VISION)
        ua.basetype_by_datatype[ua.NodeId(3017, vision)] = "String"
        await client.load_data_type_definitions()
        yield Connected(client, vision, len(names) - 1)


def talk(port: int, certificate: Path, speak: Callable[[Connected], Awaitable[T]], user: str = USER) -> T:
    """Run what a client says in a loop of its own."""

    async def run() -> T:
        async with connected(port, certificate, user) as client:
            return await speak(client)

    return asyncio.run(asyncio.wait_for(run(), 2 * LIMIT_S))
