"""Builds the services from the settings: the only place that sees all settings and all adapters.

In: Settings. `run_capture` and `run_worker` block until `stop` is set and raise StationError when they cannot go on;
each is one process with one ZeroMQ context. What is configured wrongly is found before anything is opened.
"""

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import msgspec
import zmq

from station.capture.crop import golden_crops
from station.capture.service import CaptureService
from station.certificate_file import Certified
from station.challenge import ChallengeRun
from station.challenge_client import challenge
from station.challenge_file import log_path, read_samples
from station.curve import ClientKeys, Door, client_keys
from station.engine.frames import EngineSpec
from station.errors import ConfigurationError
from station.evidence import evidence_probes
from station.guards import live_probes, start_probes
from station.journal_reader import JournalReader
from station.judge import judge
from station.key_files import station_keys
from station.manifest import load_manifest
from station.messages import Identity
from station.model_orders import ways
from station.outputs.archive import ArchiveOutput, day_of
from station.outputs.base import Output
from station.outputs.modbus_client import ModbusClientOutput, Target
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.opcua_link import OpcuaLink
from station.outputs.publisher import PublisherOutput
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import RegionCrop
from station.settings import Settings, is_of_this_machine
from station.shadow_file import shadow_path
from station.shift_vote import VotingInspection
from station.supervisor_notify import ServiceNotifier
from station.watch import Position, Watch
from station.worker.challenger import Challenger, Material
from station.worker.changeover import Changeover, Product
from station.worker.engine_host import EngineHost
from station.worker.journal import Journal
from station.worker.model_change import ModelChange
from station.worker.pairing import REMEMBERED_PICTURES
from station.worker.queue import JobQueue
from station.worker.retention import Folders, RetentionOutput, Rules
from station.worker.service import WorkerService
from station.worker.shadow import Shadow
from station.worker.triggers import Triggers

IN_FORCE = "recipe-in-force.json"
"""File beside the journal: the recipe in force, once the PLC has changed it."""
SWITCH_THREADS_S = 0.0005
"""How long a thread of the worker may compute while another waits; Python's own 5 ms, a few times over, are what a PLC
would wait while the archive draws."""
OPCUA_MISSING = "pip install 'edge-inspection-station[opcua]'"

Context = zmq.Context[zmq.Socket[bytes]]


def run_capture(settings: Settings, stop: threading.Event) -> None:
    """Run capture until `stop` is set. Raises StationError."""
    recipe, more = load_recipe(settings.recipe), list(_numbered_recipes(settings).values())
    keys = _shown_to(settings, settings.queue.endpoint)
    with _context() as context:
        CaptureService(settings, recipe, context, keys=keys, more=more).run(stop)


def run_worker(settings: Settings, stop: threading.Event) -> None:
    """Run the worker until `stop` is set. Raises StationError."""
    recipe = load_recipe(settings.recipe)
    if settings.engine.kind == "llama":
        load_manifest(settings.model)  # its form only; the engine's process hashes the files
    sys.setswitchinterval(SWITCH_THREADS_S)
    keys = station_keys(settings)
    with _context() as context:
        _worker(settings, recipe, context, Door(context, keys) if keys else None).run(stop)


def run_opcua(settings: Settings, stop: threading.Event) -> None:
    """Run the OPC UA server until `stop` is set. Raises StationError."""
    if not settings.outputs.opcua.enabled:
        raise ConfigurationError([f"{settings.config_path}: outputs.opcua.enabled is false."], "Set it to true.")
    try:
        from station.opcua.service import OpcuaService  # noqa: PLC0415 - an optional package, and half a second
    except ModuleNotFoundError as error:
        raise ConfigurationError([f"The OPC UA server needs a package: {error}."], OPCUA_MISSING) from error
    recipes = [load_recipe(settings.recipe), *_numbered_recipes(settings).values()]
    with _context() as context:
        OpcuaService(settings, recipes, context, partial(_subscription, settings, context)).run(stop)


def _subscription(settings: Settings, context: Context, since: Position | None, timeout_s: float | None) -> Watch:
    """Return a subscription to the station's verdict stream. Raises ConfigurationError if keys are missing."""
    publisher = settings.outputs.publisher
    keys = _shown_to(settings, publisher.endpoint, publisher.snapshot_endpoint)
    return Watch(context, publisher.endpoint, publisher.snapshot_endpoint, since, timeout_s, keys)


@contextmanager
def watch(settings: Settings, since: Position | None, timeout_s: float | None) -> Iterator[Watch]:
    """Subscribe to the station's verdict stream. Raises OutputError, ConfigurationError if keys are missing."""
    publisher = settings.outputs.publisher
    keys = _shown_to(settings, publisher.endpoint, publisher.snapshot_endpoint)
    with (
        _context() as context,
        Watch(context, publisher.endpoint, publisher.snapshot_endpoint, since, timeout_s, keys) as subscription,
    ):
        yield subscription


def run_challenge(settings: Settings, timeout_s: float) -> ChallengeRun | None:
    """Have the running worker challenge its model; None: it has none. Raises QueueError."""
    endpoint = settings.queue.endpoint
    with _context() as context:
        return challenge(context, endpoint, timeout_s, _shown_to(settings, endpoint))


def make_inspection(recipe: Recipe) -> VotingInspection:
    """Return the recipe's questions. Raises ConfigurationError if the golden picture cannot be read."""
    return VotingInspection(recipe, golden_crops(recipe))


def engine_spec(settings: Settings) -> EngineSpec:
    """Return which engine the engine's process is to build."""
    engine = settings.engine
    return EngineSpec(
        kind=engine.kind, manifest_path=str(settings.model), threads=engine.threads, gpu_layers=engine.gpu_layers
    )


def _shown_to(settings: Settings, *endpoints: str) -> ClientKeys | None:
    """Return the keys of this program if it needs some there. Raises ConfigurationError."""
    return None if all(map(is_of_this_machine, endpoints)) else client_keys(settings.keys_folder)


def _worker(settings: Settings, recipe: Recipe, context: Context, door: Door | None) -> WorkerService:
    journal = Journal(settings.journal.path)
    numbered = _numbered_recipes(settings)
    products = {number: _product(settings, each) for number, each in numbered.items()}
    start = next(
        (product for product in products.values() if product.recipe.sha256 == recipe.sha256), None
    ) or _product(settings, recipe)
    every = {product.recipe.sha256: product for product in (start, *products.values())}
    certified = {sha256: Certified(product.recipe, product.inspection.question) for sha256, product in every.items()}
    engine = EngineHost(engine_spec(settings), settings.engine.kill_ms)
    challenger = _challenger(settings, start, every.values())
    outputs = _outputs(settings, recipe, numbered, context, journal, door)
    queue = settings.queue
    return WorkerService(
        station=settings.station.name,
        config_sha256=settings.config_sha256,
        recipe=recipe,
        inspection=start.inspection,
        judge=lambda recipe, job, regions, trouble: judge(
            recipe,
            job,
            regions,
            trouble,
            certified[recipe.sha256].bar(engine.model, is_simulated=engine.is_simulated)
            or (challenger.bar if challenger else None),
        ),
        queue=JobQueue(
            context,
            queue.endpoint,
            queue.credit,
            Identity(station=settings.station.name, config_sha256=settings.config_sha256),
            None if is_of_this_machine(queue.endpoint) else door,
        ),
        door=door,
        engine=engine,
        journal=journal,
        outputs=outputs,
        notifier=ServiceNotifier(),
        triggers=_triggers(settings, recipe, outputs),
        challenger=challenger,
        shadow=_shadow(settings),
        changeover=Changeover(products, start, settings.journal.path.with_name(IN_FORCE)),
        model_change=ModelChange(ways(settings.config_path)) if _has_model(settings) else None,
        may_be_ready=lambda: all(output.is_armed for output in outputs if isinstance(output, ModbusClientOutput)),
    )


def _shadow(settings: Settings) -> Shadow | None:
    """Return the second model, None if there is none; the scripted engine judges without a model."""
    if settings.shadow is None or not _has_model(settings):
        return None
    spec = msgspec.structs.replace(engine_spec(settings), manifest_path=str(settings.shadow), is_shadow=True)
    return Shadow(settings.shadow, EngineHost(spec, settings.engine.kill_ms), shadow_path(settings.journal.path))


def _outputs(
    settings: Settings,
    recipe: Recipe,
    numbered: Mapping[int, Recipe],
    context: Context,
    journal: Journal,
    door: Door | None,
) -> list[Output]:
    """Return the enabled outputs in the order in which they are told: the PLC first."""
    outputs: list[Output] = []
    modbus, client, publisher, opcua, archive = (
        settings.outputs.modbus_server,
        settings.outputs.modbus_client,
        settings.outputs.publisher,
        settings.outputs.opcua,
        settings.outputs.archive,
    )
    if modbus.enabled:
        outputs.append(
            ModbusServerOutput(
                modbus.host,
                modbus.port,
                triggered=modbus.mode == "triggered",
                allow=modbus.allow,
                recipe_sha256=recipe.sha256,
                recipes={each.sha256: number for number, each in numbered.items()},
            )
        )
    if client.enabled:
        target = Target(
            host=client.host,
            port=client.port,
            unit_id=client.unit_id,
            is_coupler=client.kind == "coupler",
            register=client.address,
            valid_for_ms=client.valid_for_ms,
            watchdog_register=client.watchdog_register,
            watchdog_value=client.watchdog_value,
        )
        outputs.append(ModbusClientOutput(target))
    if publisher.enabled:
        outputs.append(
            PublisherOutput(
                settings.station.name,
                publisher.endpoint,
                publisher.snapshot_endpoint,
                context,
                lambda: (journal.epoch, journal.last_seq),
                journal.verdicts_since,
                door,
            )
        )
    if opcua.enabled:
        outputs.append(
            OpcuaLink(
                opcua.orders_endpoint,
                context,
                lambda: (journal.epoch, journal.last_seq),
                triggered=opcua.mode == "triggered",
                recipe_sha256=recipe.sha256,
                recipes={each.sha256: number for number, each in numbered.items()},
                config_sha256=settings.config_sha256,
            )
        )
    if archive.enabled:
        outputs.append(ArchiveOutput(archive.folder, recipe, list(numbered.values())))
    outputs.append(_retention(settings, journal))
    return outputs


def _retention(settings: Settings, journal: Journal) -> RetentionOutput:
    archive = settings.outputs.archive
    rules = Rules(archive.keep_ok_days, archive.keep_other_days, archive.free_percent)
    folders = Folders(archive.folder, settings.capture.spool, lambda job_id: archive.folder / day_of(job_id) / job_id)
    return RetentionOutput(journal, rules, folders)


def _triggers(settings: Settings, recipe: Recipe, outputs: list[Output]) -> Triggers | None:
    """Return the triggers and commands of the PLC and of OPC UA; None when nobody can give any."""
    modbus, opcua = settings.outputs.modbus_server, settings.outputs.opcua
    sources = [output for output in outputs if isinstance(output, ModbusServerOutput | OpcuaLink)]
    if not sources:
        return None
    is_opcua = opcua.enabled and (opcua.mode == "triggered" or not modbus.enabled)
    source, *others = sorted(sources, key=lambda source: isinstance(source, OpcuaLink) is not is_opcua)
    mode, window_ms = (opcua.mode, opcua.picture_window_ms) if is_opcua else (modbus.mode, modbus.picture_window_ms)
    journal = settings.journal.path
    last = JournalReader(journal).last(REMEMBERED_PICTURES) if journal.exists() else []
    return Triggers(
        source,
        window_ms,
        recipe,
        is_free_running=mode == "free_running",
        known=[verdict.image.sha256 for verdict in reversed(last)],
        others=others,
    )


def _numbered_recipes(settings: Settings) -> dict[int, Recipe]:
    """Return the recipes that the PLC can have. Raises ConfigurationError."""
    recipes = {number: load_recipe(path) for number, path in settings.recipes.items()}
    if len({recipe.sha256 for recipe in recipes.values()}) < len(recipes):
        problem = f"{settings.config_path}: recipes: one recipe has two numbers; each needs one of its own."
        raise ConfigurationError([problem])
    return recipes


def _product(settings: Settings, recipe: Recipe) -> Product:
    """Return what the worker needs of a recipe. Raises ConfigurationError if its files cannot be read."""
    crops = golden_crops(recipe)
    return Product(recipe, VotingInspection(recipe, crops), _material(recipe, crops) if _has_model(settings) else None)


def _has_model(settings: Settings) -> bool:
    return settings.engine.kind != "scripted"


def _material(recipe: Recipe, golden: dict[str, RegionCrop]) -> Material:
    """Return what the model is challenged with."""
    return Material(
        start_probes(recipe, golden),
        tuple(read_samples(recipe).values()),
        lambda job, turn: live_probes(recipe, golden, job, turn),
        lambda job, regions: evidence_probes(recipe, golden, job, regions),
    )


def _challenger(settings: Settings, start: Product, products: Iterable[Product]) -> Challenger | None:
    """Return what challenges the model; None for the scripted engine, which has none."""
    if start.material is None:
        return None
    log, every_min = log_path(settings.journal.path), settings.challenge.every_min
    known = [sample for product in products if product.material for sample in product.material.samples]
    return Challenger(start.recipe, start.material, log, every_min=every_min, known=known)


@contextmanager
def _context() -> Iterator[Context]:
    """Yield this process's one ZeroMQ context; nothing of it is left afterwards."""
    context = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)
