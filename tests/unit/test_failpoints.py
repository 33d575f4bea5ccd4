"""Fail points: each name is one place in the code; one that is set ends the process there, once."""

import ast
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from station import failpoints

ROOT = Path(__file__).parents[2]


def places() -> Iterator[str]:
    for file in (ROOT / "station").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.hit":
                yield ast.literal_eval(node.args[0])


def test_every_point_is_at_one_place_of_the_code() -> None:
    assert sorted(places()) == sorted(point for points in failpoints.POINTS.values() for point in points)


def visit(point: str, proof: Path) -> int:
    code = f"from station import failpoints\nfor _ in range(3): failpoints.hit({point!r}); failpoints.hit('other')"
    environment = {"PYTHONPATH": str(ROOT), failpoints.VARIABLE: f"claim-durable:3:{proof}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=10).returncode


def test_a_point_ends_the_process_at_its_visit_and_only_once(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    assert visit("job-sent", proof) == 0
    assert not proof.exists()
    assert visit("claim-durable", proof) == -signal.SIGKILL
    assert proof.exists()
    assert visit("claim-durable", proof) == 0


def test_off_a_point_does_nothing() -> None:
    failpoints.hit("claim-durable")
