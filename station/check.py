"""`station check`: looks at everything a station needs and says what to do about each finding. Changes nothing.

In: the path of config.yaml. Out: `Finding`s, in the order in which a person would fix them. Runs beside a working
station too: ports that its own services hold are fine. llama.cpp is asked in a child process, because it may abort.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import station
from station.certificate_file import TO_DO, Certified
from station.challenge_file import folder_of, read_samples
from station.check_opcua import check_opcua
from station.check_places import check_folders, check_ports
from station.errors import ConfigurationError
from station.finding import Finding, Level
from station.inspection import Inspection
from station.key_files import guarded, programs, station_keys
from station.manifest import Manifest, load_manifest, verify
from station.memory import shortage
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import ModelRef
from station.settings import Settings
from station.settings_file import load_settings

LIBRARIES = (
    "llama-cpp-python",
    "msgspec",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydantic",
    "pymodbus",
    "pyzmq",
    "watchdog",
)
"""Those whose version can change what the station does."""
LLAMA_TIMEOUT_S = 60

_ASK_LLAMA = """
import json
import station.engine.llama
from station.engine.llama_text import devices
gpus = [(d.name, d.free_bytes) for d in devices() if d.is_gpu]
print(json.dumps(gpus))
"""
NVIDIA_DEVICE = Path("/dev/nvidia0")
"""Is there when the kernel's NVIDIA driver has found a GPU."""


def check(config: Path, only_files: bool = False) -> list[Finding]:
    """Return all findings; `only_files`: of what keeps a service from starting, and quickly.

    Raises ConfigurationError with every problem of config.yaml, the recipe, the manifest and the keys.
    """
    settings = load_settings(config)
    _check_files(settings)
    findings = [Finding(level=Level.OK, what="configuration", found=f"{settings.config_path}")]
    findings.append(_recipe(settings))
    if only_files:
        station_keys(settings)
        return findings
    findings.append(_model(settings))
    findings += _shadow(settings)
    findings += _certificates(settings)
    findings += check_folders(settings)
    findings += check_ports(settings)
    findings += check_opcua(settings)
    findings.append(_keys(settings))
    findings.append(_engine(settings))
    findings.append(_versions())
    return findings


def _check_files(settings: Settings) -> None:
    """Read recipe and manifest. Raises ConfigurationError with the problems of both together."""
    errors = []
    for load, path in _files(settings):
        try:
            load(path)
        except ConfigurationError as error:
            errors.append(error)
    if errors:
        problems = [problem for error in errors for problem in error.problems]
        raise ConfigurationError(problems, " ".join(error.hint for error in errors).strip())


def _files(settings: Settings) -> Iterator[tuple[Callable[[Path], object], Path]]:
    for path in _recipes(settings):
        yield load_recipe, path
        yield _read_samples, path
    if settings.engine.kind == "llama":
        yield load_manifest, settings.model


def _recipes(settings: Settings) -> list[Path]:
    """Return the recipe files, each once."""
    return list(dict.fromkeys((settings.recipe, *settings.recipes.values())))


def _read_samples(recipe: Path) -> object:
    """Read the recipe's challenge. Raises ConfigurationError; what is wrong with the recipe is said elsewhere."""
    try:
        loaded = load_recipe(recipe)
    except ConfigurationError:
        return None
    return read_samples(loaded)


def _recipe(settings: Settings) -> Finding:
    recipe = load_recipe(settings.recipe)
    pins = sum(len(region.pins) for region in recipe.file.regions)
    found = f"{recipe.file.recipe} {recipe.sha256[:12]}: {pins} pins, asked by {recipe.file.ask}"
    if recipe.camera:
        lens = f"lens corrected ({recipe.camera.lens.error_px:.2f} px)" if recipe.camera.lens else "lens not corrected"
        found += f"; {lens}, {recipe.camera.px_per_mm:g} px per mm"
    return Finding(level=Level.OK, what="recipe", found=found)


def _certificates(settings: Settings) -> Iterator[Finding]:
    """Say of each recipe whether its limits are known to keep a promise with this model; else nothing is ever OK."""
    if settings.engine.kind == "scripted":
        yield Finding(level=Level.OK, what="certificate", found="not asked for: every verdict is marked simulated")
        return
    for path in _recipes(settings):
        yield _certificate(load_recipe(path), load_manifest(settings.model).ref)
        yield _samples(load_recipe(path))


def _certificate(recipe: Recipe, model: ModelRef) -> Finding:
    certified = Certified(recipe, Inspection(recipe, {}).question)
    barred = certified.bar(model, is_simulated=False)
    if barred or certified.certificate is None:
        why = barred.detail.removesuffix(TO_DO).strip() if barred else ""
        found = f"{recipe.file.recipe}: no part will be OK. {why}"
        return Finding(level=Level.FAIL, what="certificate", found=found, to_do=TO_DO)
    return Finding(level=Level.OK, what="certificate", found=f"{recipe.file.recipe}: {certified.certificate.statement}")


def _samples(recipe: Recipe) -> Finding:
    samples = read_samples(recipe)
    if samples:
        return Finding(level=Level.OK, what="challenge", found=f"{recipe.file.recipe}: {len(samples)} samples")
    return Finding(
        level=Level.WARN,
        what="challenge",
        found=f"{recipe.file.recipe}: no samples, only the probes that the station makes up",
        to_do=f"Put known pictures and labels.csv into {folder_of(recipe)} (docs/guards.md).",
    )


def _model(settings: Settings) -> Finding:
    if settings.engine.kind == "scripted":
        return Finding(level=Level.OK, what="model", found="not used by the scripted engine")
    manifest = load_manifest(settings.model)
    try:
        verify(manifest)
    except ConfigurationError as error:
        return Finding(level=Level.FAIL, what="model", found=" ".join(error.problems), to_do=error.hint)
    return Finding(level=Level.OK, what="model", found=_model_text(manifest))


def _shadow(settings: Settings) -> Iterator[Finding]:
    """Say of the second model, if there is one, whether it can judge beside the active one."""
    if settings.shadow is None or settings.engine.kind == "scripted":
        return
    try:
        manifest = load_manifest(settings.shadow)
        verify(manifest)
    except ConfigurationError as error:
        yield Finding(level=Level.WARN, what="shadow", found=" ".join(error.problems), to_do=error.hint)
        return
    if problem := shortage(manifest):
        yield Finding(level=Level.WARN, what="shadow", found=problem, to_do="station model shadow --off")
        return
    yield Finding(level=Level.OK, what="shadow", found=_model_text(manifest))


def _model_text(manifest: Manifest) -> str:
    mib = (manifest.text.size_bytes + manifest.mmproj.size_bytes) / 2**20
    return f"{manifest.ref.name} {manifest.ref.sha256[:12]}: {mib:.1f} MiB, both files are the exported ones"


def _keys(settings: Settings) -> Finding:
    if not guarded(settings):
        return Finding(level=Level.OK, what="keys", found="not needed: ZeroMQ is open to this machine only")
    try:
        station_keys(settings)
    except ConfigurationError as error:
        return Finding(level=Level.FAIL, what="keys", found=" ".join(error.problems), to_do=error.hint)
    listed = {group: programs(settings.keys_folder, group)[0] for group in guarded(settings)}
    found = "; ".join(f"{group}: {', '.join(names)}" for group, names in listed.items())
    return Finding(level=Level.OK, what="keys", found=found)


def _engine(settings: Settings) -> Finding:
    if settings.engine.kind == "scripted":
        to_do = "Set engine.kind to llama before any real part is judged."
        return Finding(level=Level.WARN, what="engine", found="scripted: judges without a model", to_do=to_do)
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _ASK_LLAMA], capture_output=True, text=True, timeout=LLAMA_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        return Finding(
            level=Level.FAIL,
            what="engine",
            found=f"llama.cpp does not load: {' '.join(last)}",
            to_do="Build it again on this machine: rm -r .venv && make setup",
        )
    gpus = json.loads(answer.stdout.splitlines()[-1])
    return _gpu(settings.engine.gpu_layers, gpus, has_nvidia=NVIDIA_DEVICE.exists())


def _gpu(gpu_layers: int, gpus: Sequence[tuple[str, int]], *, has_nvidia: bool) -> Finding:
    """Say where the model runs; `gpus`: those this build of llama.cpp can use, with their free bytes."""
    found = f"llama-cpp-python {metadata.version('llama-cpp-python')}, runs on the "
    if gpus and gpu_layers:
        name, free_bytes = gpus[0]
        return Finding(level=Level.OK, what="engine", found=f"{found}GPU {name}, {free_bytes / 2**30:.1f} GiB free")
    found += "CPU"
    if gpu_layers > 0:
        to_do = "Build llama.cpp for it with make setup-cuda, or set engine.gpu_layers to 0 or -1."
        return Finding(level=Level.FAIL, what="engine", found=f"{found}; this build can use no GPU", to_do=to_do)
    if gpu_layers < 0 and has_nvidia:
        to_do = "Build llama.cpp for it with make setup-cuda; engine.gpu_layers: 0 says that the CPU is meant."
        found += ", though there is an NVIDIA GPU: built without CUDA"
        return Finding(level=Level.WARN, what="engine", found=found, to_do=to_do)
    return Finding(level=Level.OK, what="engine", found=found)


def _versions() -> Finding:
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    found = f"station {station.__version__}, Python {platform.python_version()}, {libraries}"
    return Finding(level=Level.OK, what="versions", found=found)
