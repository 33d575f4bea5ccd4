"""Imports go down only, adapters do not know each other, and each foreign library has one home.

top (command line, wiring) -> services -> adapters -> pure modules. See ARCHITECTURE.md.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PURE = set(
    "__init__ records errors envelope messages camera recipe settings expectation manifest report judge composite"
    " inspection verdict_json complaints engine engine.base engine.frames outputs outputs.base outputs.plc_map"
    " outputs.plc_words outputs.plc_orders outputs.plc_state"
    " outputs.plc_export outputs.plc_document outputs.plc_control outputs.handshake outputs.handshake_state"
    " outputs.handshake_tables outputs.plc_rules"
    " outputs.plc_client_block capture worker worker.pairing finding json_text invariants failpoints"
    " certificate challenge evidence guards log_limit shadow shift_vote measurement planted orders opcua"
    " opcua.companion opcua.state_machine opcua.vision".split()
)
SERVICES = {"capture.service", "worker.service", "opcua.service"}
TOP = set(
    "__main__ cli verbs verbs.shared verbs.services verbs.looking verbs.measuring verbs.calibrating"
    " verbs.learning verbs.plc"
    " wiring processes check check_opcua check_places demo demo_station inspect_pictures status trace"
    " tables plc_simulator plc_sim plc_sim_view fsck make_keys opcua_access model_releases model_orders"
    " overrides collect bench bench_picture bench_side bench_table".split()
)

HOMES = {
    "PIL": {"bench_picture", "composite", "engine.stock", "outputs.annotation"},
    "asyncua": {"opcua"},
    "cryptography": {"opcua.credentials"},
    "cv2": {"capture"},
    "gguf": {"engine.llama_vision"},
    "llama_cpp": {"engine.llama_text", "engine.llama_vision", "engine.stock"},
    "pymodbus": {
        "outputs.modbus_server",
        "outputs.modbus_guard",
        "outputs.modbus_client",
        "plc_client",
        "plc_simulator",
    },
    "rich": {"bench_table", "demo", "tables", "plc_sim", "plc_sim_view"},
    "simplejpeg": {"capture.gate"},
    "sdnotify": {"supervisor_notify"},
    "sqlite3": {"worker.journal", "worker.journal_schema", "journal_reader"},
    "typer": {"cli", "verbs"},
    "watchdog": {"capture.hotfolder"},
    "yaml": {"yaml_data"},
    "zmq": {
        "challenge_client",
        "capture.link",
        "capture.service",
        "curve",
        "key_files",
        "opcua.service",
        "opcua.worker_line",
        "outputs.opcua_link",
        "outputs.publisher",
        "watch",
        "wiring",
        "worker.queue",
    },
}
"""Library -> the modules, or folders of modules, that may import it."""


CALIBRATION_HOMES = {
    "PIL": {"board"},
    "cv2": {"baseline", "board", "camera_overlay", "fiducials", "lattice", "lens_fit", "likeness", "stagger"},
    "rich": {"tables"},
}
"""The same for calibration/, which stands above the station."""


def modules() -> dict[str, Path]:
    """Return name without the leading `station.` -> file."""
    files = (ROOT / "station").rglob("*.py")
    return {
        ".".join(file.relative_to(ROOT / "station").with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def imports(file: Path) -> Iterator[str]:
    """Yield the full name of everything the file imports, at any place in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full, from station..."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """Return the station's module that an imported name is in, without the leading `station.`."""
    inside = name.removeprefix("station.")
    if name != "station" and inside == name:
        return None
    return next((m for m in (inside, inside.rpartition(".")[0]) if m in modules()), "__init__")


def level(module: str) -> int:
    return 0 if module in PURE else 2 if module in SERVICES else 3 if module in TOP else 1


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down_only(module: str) -> None:
    for target in filter(None, map(own, imports(modules()[module]))):
        assert level(target) <= level(module), f"station.{module} must not import station.{target}"
        if level(module) == level(target) == 1:
            folder, other = module.rpartition(".")[0], target.rpartition(".")[0]
            assert other in {folder, ""}, f"adapter station.{module} must not import adapter station.{target}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_each_foreign_library_has_one_home(module: str) -> None:
    for name in imports(modules()[module]):
        homes = HOMES.get(name.partition(".")[0])
        allowed = homes is None or module in homes or module.partition(".")[0] in homes
        assert allowed, f"station.{module} must not import {name}; its home is {homes}"


def test_of_the_station_only_the_command_line_knows_calibration() -> None:
    for module, file in modules().items():
        is_told = module in {"verbs.measuring", "verbs.calibrating"}
        assert is_told or not any(name.startswith("calibration") for name in imports(file)), module


@pytest.mark.parametrize("file", sorted((ROOT / "calibration").glob("*.py")), ids=lambda file: file.stem)
def test_foreign_libraries_have_one_home_in_calibration(file: Path) -> None:
    for name in imports(file):
        library = name.partition(".")[0]
        allowed = CALIBRATION_HOMES.get(library, set() if library in HOMES else {file.stem})
        assert file.stem in allowed, f"calibration.{file.stem} must not import {name}"
