"""The part of `station check` that looks at folders and ports. Writes nothing; free ports are bound for a moment.

Runs beside a working station too: ports that its own worker holds are fine, and the PLC port is read as a PLC does.
"""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from station import locks
from station.errors import JournalError, StationError
from station.finding import Finding, Level
from station.journal_reader import JournalReader
from station.plc_client import PlcClient
from station.settings import IPC, Settings

HOT_FOLDER = "hot folder"
WARN_FREE = 0.15
FAIL_FREE = 0.04
"""Shares of the disk that are free."""


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say of each folder: rights, file system, space."""
    capture = settings.capture
    folders = {
        HOT_FOLDER: capture.hot_folder,
        "spool": capture.spool,
        "quarantine": capture.quarantine,
        "archive": settings.outputs.archive.folder,
        "journal": settings.journal.path.parent,
    }
    for name, folder in folders.items():
        yield _folder(name, folder)
    yield _one_file_system([path for name, path in folders.items() if name != "journal"])
    yield _journal(settings.journal.path)
    for folder in {_existing(path).stat().st_dev: _existing(path) for path in folders.values()}.values():
        yield _space(folder)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _folder(name: str, folder: Path) -> Finding:
    present = _existing(folder)
    if not present.is_dir():
        return Finding(level=Level.FAIL, what=name, found=f"{present} is not a folder", to_do="Move that file away.")
    if not os.access(present, os.W_OK | os.X_OK):
        to_do = f"Give this user the right to write: chown {os.getuid()} {present}"
        return Finding(level=Level.FAIL, what=name, found=f"{present} cannot be written", to_do=to_do)
    if present == folder:
        return Finding(level=Level.OK, what=name, found=f"{folder}")
    if name == HOT_FOLDER:
        # Never made by the station: a missing one may be a network folder that is not connected.
        return Finding(level=Level.FAIL, what=name, found=f"{folder} is missing", to_do=f"mkdir -p {folder}")
    return Finding(level=Level.OK, what=name, found=f"{folder} will be made at the start")


def _one_file_system(folders: list[Path]) -> Finding:
    devices = {_existing(folder).stat().st_dev for folder in folders}
    if len(devices) == 1:
        found = "hot folder, spool, quarantine and archive are on the same one"
        return Finding(level=Level.OK, what="file system", found=found)
    return Finding(
        level=Level.FAIL,
        what="file system",
        found="hot folder, spool, quarantine and archive are on different ones",
        to_do="Put all four on one: pictures are moved by renaming, which cannot lose one.",
    )


def _journal(path: Path) -> Finding:
    """Open the journal as the station's other programs do; a whole check of its contents is `station fsck`."""
    what = "verdicts"
    if not path.exists():
        return Finding(level=Level.OK, what=what, found=f"{path} will be made at the first start")
    reader = JournalReader(path)
    try:
        problem = reader.form_problem()
        epoch, seq = reader.latest()
        judged = sum(reader.counts().values())
    except JournalError as error:
        return Finding(level=Level.FAIL, what=what, found=error.message, to_do=error.hint)
    if problem:
        to_do = "Use the release that wrote it, or give the station another journal.path."
        return Finding(level=Level.FAIL, what=what, found=problem, to_do=to_do)
    return Finding(level=Level.OK, what=what, found=f"{judged} in {path}; start {epoch}, verdict {seq} of it")


def _space(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    share = usage.free / usage.total
    level = Level.OK if share >= WARN_FREE else Level.WARN if share >= FAIL_FREE else Level.FAIL
    to_do = "" if level is Level.OK else "Move old pictures out of the archive, or use a larger disk."
    found = f"{usage.free / 2**30:.1f} GiB free ({share:.0%}) below {folder}"
    return Finding(level=level, what="disk", found=found, to_do=to_do)


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say of each port; of a running station's PLC port what a PLC would read."""
    worker = locks.holder(settings.journal.path.with_name(settings.journal.path.name + ".lock"))
    modbus, publisher = settings.outputs.modbus_server, settings.outputs.publisher
    if modbus.enabled:
        yield _plc(modbus.host, modbus.port) if worker else check_port("PLC port", modbus.host, modbus.port)
    endpoints = {"verdict stream": publisher.endpoint, "snapshot": publisher.snapshot_endpoint}
    endpoints = endpoints if publisher.enabled else {}
    if not settings.queue.endpoint.startswith(IPC):
        endpoints["queue"] = settings.queue.endpoint
    for name, endpoint in endpoints.items():
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        if worker:
            yield Finding(level=Level.OK, what=name, found=f"{endpoint}, held by the worker, process {worker}")
        else:
            yield check_port(name, host.strip("[]"), int(port))


def check_port(what: str, host: str, port: int) -> Finding:
    """Say whether this address can be listened on."""
    where = f"{host}:{port}"
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        to_do = {
            errno.EADDRINUSE: f"Another program has it (`ss -ltnp sport = :{port}` says which): end it,"
            " or choose another port in config.yaml.",
            errno.EACCES: "Ports below 1024 need the right CAP_NET_BIND_SERVICE; the systemd unit can give it.",
            errno.EADDRNOTAVAIL: "Choose an address of this machine (`ip address` lists them).",
        }.get(error.errno or 0, "Choose another address in config.yaml.")
        return Finding(level=Level.FAIL, what=what, found=f"{where}: {error.strerror}", to_do=to_do)
    except UnicodeError:
        return Finding(level=Level.FAIL, what=what, found=f"{where}: not an address", to_do="Write it in numbers.")
    return Finding(level=Level.OK, what=what, found=f"{where} is free")


def _plc(host: str, port: int) -> Finding:
    """Look at the running station as its PLC does."""
    try:
        with PlcClient(host, port) as plc:
            status = plc.status()
    except StationError as error:
        return Finding(level=Level.FAIL, what="PLC port", found=error.message, to_do=error.hint)
    online = "online" if status["Online"] else f"offline, reason {status['OfflineReason']}"
    found = f"{host}:{port} answers: {online}, fault {status['FaultCode']}, {status['CountTriggers']} results"
    return Finding(level=Level.OK if status["Online"] else Level.WARN, what="PLC port", found=found)
