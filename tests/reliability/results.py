"""How often each thing is tried, and what came of it: `run/reliability/reliability.json` and a one-page table.

`RELIABILITY`: reduced (part of .ci/run), full (`make reliability`) or long. With no failure in n independent trials
the rate of failure is below 3/n with 95 % confidence (rule of three).
"""

import json
import os
import platform
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import zmq

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "run" / "reliability"
FORM = os.environ.get("RELIABILITY", "reduced")
LIBRARIES = ("opencv-python-headless", "pyzmq", "watchdog", "msgspec", "pymodbus")


def count(reduced: int, full: int, long: int | None = None) -> int:
    """Return how often to try in this form of the suite."""
    return {"reduced": reduced, "full": full, "long": long or full}[FORM]


def check_time(measured: float, limit: float) -> None:
    """Raise AssertionError if it took too long. Not in the reduced form: that a machine is busy is no fault of ours."""
    assert FORM == "reduced" or measured <= limit, f"{measured} is over {limit}"


def record(test: str, trials: int, goal: str, **measured: Any) -> None:
    """Keep the result of one test; in the reduced form nothing is kept."""
    if FORM == "reduced":
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "reliability.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known["machine"] = _machine()
    rows = known.setdefault("tests", {})
    rows[test] = {
        "form": FORM,
        "trials": trials,
        "goal": goal,
        "bound_95": round(3 / trials, 6) if trials >= 30 else None,
        **measured,
    }
    path.write_text(json.dumps(known, indent=2) + "\n")
    (FOLDER / "reliability.md").write_text(table(known))


def table(known: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in known["machine"].items())
    lines = ["| Test | Goal | Trials | Measured | 95 % bound |", "| --- | --- | --- | --- | --- |"]
    for name, row in known["tests"].items():
        rest = {key: value for key, value in row.items() if key not in {"form", "trials", "goal", "bound_95"}}
        measured = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in rest.items())
        bound = "-" if row["bound_95"] is None else f"< {row['bound_95']:.2%}"
        lines.append(f"| {name} | {row['goal']} | {row['trials']} | {measured} | {bound} |")
    return f"{machine}\n\n" + "\n".join(lines) + "\n"


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout.strip()
    return {
        "commit": commit,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "ZeroMQ": zmq.zmq_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }
