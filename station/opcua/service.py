"""The OPC UA server of one station: verdicts and the worker's word in, nodes, events and results out.

One process, one asyncio loop, two threads that only listen (`verdict_stream`, `worker_line`). It is a subscriber like
any other: what happens to it, or what its clients do, changes nothing for capture, worker, PLC and stream. When it dies
systemd starts it again; results of the meantime are in the journal, where clients ask for them.
"""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import zmq
from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole

import station
from station.errors import ConfigurationError, OutputError
from station.journal_reader import JournalReader
from station.opcua import credentials as files
from station.opcua.credentials import Credentials
from station.opcua.events import Events
from station.opcua.face import Face
from station.opcua.guard import Door, GuardedServer
from station.opcua.methods import Methods
from station.opcua.nodes import StationNodes
from station.opcua.results import Identity
from station.opcua.structures import Structures
from station.opcua.types import Types
from station.opcua.verdict_stream import Subscribe, VerdictStream
from station.opcua.worker_line import Heard, WorkerLine
from station.recipe import Recipe
from station.records import Verdict
from station.settings import Settings
from station.supervisor_notify import ServiceNotifier

POLICIES = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]
TURN_S = 0.25
MAX_INBOX = 10_000
"""Verdicts and words of the worker that wait; more are dropped, the journal has them."""

logger = logging.getLogger(__name__)


class OpcuaService:
    """The whole server. `run` blocks until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        recipes: Sequence[Recipe],
        context: zmq.Context[zmq.Socket[bytes]],
        subscribe: Subscribe,
    ) -> None:
        """`recipes`: the one that the station starts with, then those that it may change to."""
        self._settings = settings
        self._section = settings.outputs.opcua
        known = {recipe.sha256: Identity(id=recipe.file.recipe, sha256=recipe.sha256) for recipe in recipes}
        self._recipes = list(known.values())
        self._credentials = Credentials(self._section.keys_folder)
        self._door = Door(self._section.allow, self._credentials.is_trusted)
        self._inbox: asyncio.Queue[Heard | Verdict] = asyncio.Queue(MAX_INBOX)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line = WorkerLine(context, self._section.orders_endpoint, self._deliver)
        self._stream = VerdictStream(subscribe, self._deliver)
        self._notifier = ServiceNotifier()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set. Raises StationError."""
        for name in ("asyncua", "asyncua.uaprotocol"):
            logging.getLogger(name).setLevel(
                logging.CRITICAL
            )  # a line for each request; `complaints` counts what is wrong
        _check_files(self._section.keys_folder)
        asyncio.run(self._serve(stop))

    async def _serve(self, stop: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._listening() as face:
            self._line.start()
            self._stream.start()
            self._notifier.ready()
            reader = asyncio.create_task(self._read_inbox(face))
            try:
                while not stop.is_set() and not reader.done():
                    self._notifier.alive()
                    self._notifier.status(f"state {face.state.name}. {face.trouble}")
                    await asyncio.sleep(TURN_S)
            finally:
                self._notifier.stopping()
                await asyncio.to_thread(self._line.close)
                await asyncio.to_thread(self._stream.close)
                reader.cancel()
                with suppress(asyncio.CancelledError):
                    await reader

    async def _read_inbox(self, face: Face) -> None:
        while True:
            await face.hear(await self._inbox.get())

    def _deliver(self, heard: Heard | Verdict) -> None:
        """Put into the inbox; called by the listening threads."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._put, heard)

    def _put(self, heard: Heard | Verdict) -> None:
        try:
            self._inbox.put_nowait(heard)
        except asyncio.QueueFull:
            self._door.complaints.say(
                "inbox", "The OPC UA server cannot keep up; clients ask the journal for the rest."
            )

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Face]:
        """Build and open the server; close it on the way out. Raises OutputError, ConfigurationError."""
        server = GuardedServer(self._door, self)
        await self._identify(server)
        face = await self._build(server)
        try:
            await server.start()
        except OSError as error:
            raise self._cannot_listen(error) from error
        logger.info("OPC UA server on opc.tcp://%s:%d", self._section.host, self._section.port)
        try:
            yield face
        finally:
            await server.stop()

    async def _identify(self, server: GuardedServer) -> None:
        name, folder = self._settings.station.name, self._section.keys_folder
        server.set_endpoint(f"opc.tcp://{_bracketed(self._section.host)}:{self._section.port}/station")
        server.set_server_name(f"Edge inspection station {name}")
        server.application_type = ua.ApplicationType.Server
        server.manufacturer_name = "edge-inspection-station"
        server.product_uri = "urn:edge-inspection-station"
        await server.init()
        await server.set_application_uri(files.application_uri(name))
        status = await server.nodes.server.get_child(["0:ServerStatus", "0:BuildInfo", "0:SoftwareVersion"])
        await status.write_value(station.__version__)
        server.set_security_policy(POLICIES)
        server.set_identity_tokens([ua.UserNameIdentityToken, ua.X509IdentityToken])
        await server.load_certificate(folder / files.CERTIFICATE)
        await server.load_private_key(folder / files.PRIVATE_KEY)

    async def _build(self, server: GuardedServer) -> Face:
        types = Types(server)
        is_read = await types.load(self._section.nodesets)
        logger.info("Machine Vision types %s.", "read from the nodeset file" if is_read else "built")
        name = self._settings.station.name
        nodes, structures = StationNodes(server, types, name), Structures(types)
        methods = Methods(structures, self._credentials, JournalReader(self._settings.journal.path))
        await nodes.build(f"urn:edge-inspection-station:{name}", methods.callbacks)
        face = Face(
            nodes=nodes,
            events=Events(server, types, nodes, structures, name, lambda: face.recipe),
            structures=structures,
            line=self._line,
            free_running=self._section.mode == "free_running",
            recipes=self._recipes,
            config_sha256=self._settings.config_sha256,
        )
        methods.face = face
        await face.begin()
        return face

    def get_user(
        self,
        _server: object,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """Return who logs in, by password, or by a certificate on the list; None: nobody. asyncua calls it."""
        if username is not None:
            found = self._credentials.user(username, password or "")
            name = found.name if found else None
        else:
            name = self._credentials.name_of(certificate or b"")
        if name is None:
            self._door.complaints.say("login", f"OPC UA: login refused for {username or 'a certificate'}.")
            return None
        return User(role=UserRole.User, name=name)

    def _cannot_listen(self, error: OSError) -> OutputError:
        hints = {
            errno.EADDRINUSE: f"Another program uses the port (`ss -ltnp sport = :{self._section.port}` says which).",
            errno.EADDRNOTAVAIL: "outputs.opcua.host must be an address of this machine (`ip address`).",
        }
        why = os.strerror(error.errno) if error.errno else str(error)
        return OutputError(
            f"The OPC UA server cannot listen on {self._section.host}:{self._section.port}: {why}.",
            hints.get(error.errno or 0, "Check outputs.opcua.host and outputs.opcua.port."),
        )


def _check_files(folder: Path) -> None:
    """Raise ConfigurationError if the certificate is missing or the file of users is wrong."""
    missing = [folder / name for name in (files.CERTIFICATE, files.PRIVATE_KEY) if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(
            [f"{path}: missing; without it nobody can connect." for path in missing], "Make them: station opcua-keys"
        )
    files.read_users(folder)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
