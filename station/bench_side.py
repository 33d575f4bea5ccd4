"""One side of `station bench`, in a process of its own so that memory is its own: `python -m station.bench_side`.

In: a `Task` as JSON on stdin. Out: a `Measured` as JSON on stdout. Times are medians; the first run of
each does not count.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

# First: where numpy was loaded before it, a CUDA build of llama.cpp has ended the process (decision 0024).
from station.engine.llama_text import devices, start_llama  # isort: skip

from station.engine.base import Answer, Picture, Query, Question
from station.engine.limits import measure
from station.engine.llama import LlamaEngine
from station.engine.stock import StockHandler
from station.records import Record


class Task(Record):
    """What to measure."""

    side: str
    """"limits", "stock" or "station"."""
    manifest: str
    threads: int
    gpu_layers: int
    question: Question
    pictures: tuple[Picture, ...]
    """As many as the most regions."""
    expected: tuple[str, ...]
    regions: tuple[int, ...]
    repeats: int


class Part(Record):
    """Milliseconds of a part with so many regions."""

    regions: int
    full_ms: float
    """The whole answer for each region; by the station choice by choice, nothing being expected."""
    verdict_ms: float
    """Only the judgement; by the stock handler one token."""
    expected_ms: float | None = None
    """By the station, when every region is answered as expected: the usual, good part."""


class Stage(Record):
    """How fast a stage goes through tokens, with the most regions."""

    name: str
    tokens: int
    ms: float


class Measured(Record):
    """What one side took."""

    load_s: float = 0.0
    parts: tuple[Part, ...] = ()
    stages: tuple[Stage, ...] = ()
    process_mib: float = 0.0
    gpu_mib: float = 0.0
    device: str = ""
    answer_tokens: int = 0
    flop_per_s: float = 0.0
    bytes_per_s: float = 0.0
    flop_per_region: float = 0.0
    """2 for each weight and image token, of tower and language model."""
    weight_bytes: int = 0


def main() -> int:
    """Measure and print."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    done = {"limits": _limits, "stock": _stock, "station": _station}[task.side](task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(msgspec.json.encode(msgspec.structs.replace(done, process_mib=peak)).decode() + "\n")
    return 0


def _limits(task: Task) -> Measured:
    limits = measure(gpu=task.gpu_layers != 0)
    return Measured(flop_per_s=limits.flop_per_s, bytes_per_s=limits.bytes_per_s)


def _median_ms(action: Callable[[], object], repeats: int) -> float:
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def _stock(task: Task) -> Measured:
    free = _free_bytes()
    started = time.perf_counter()
    stock = StockHandler(Path(task.manifest), task.threads, task.gpu_layers)
    load_s = time.perf_counter() - started
    text = "".join(slot.before + said for slot, said in zip(task.question.slots, task.expected, strict=True))
    tokens = len(stock.llama.tokenize(text.encode(), add_bos=False, special=True))

    def part(pictures: Sequence[Picture], count: int) -> None:
        for picture in pictures:
            stock.ask(task.question.instruction, picture, count)

    def ms(regions: int, count: int) -> float:
        return _median_ms(lambda: part(task.pictures[:regions], count), task.repeats)

    parts = tuple(Part(regions=n, full_ms=ms(n, tokens), verdict_ms=ms(n, 1)) for n in task.regions)
    return Measured(
        load_s=load_s,
        parts=parts,
        gpu_mib=(free - _free_bytes()) / 2**20,
        device=", ".join(device.name for device in devices() if device.is_gpu == (task.gpu_layers != 0)),
        answer_tokens=tokens,
    )


def _free_bytes() -> int:
    return sum(device.free_bytes for device in devices() if device.is_gpu)


def _station(task: Task) -> Measured:
    start_llama()
    free = _free_bytes()
    started = time.perf_counter()
    engine = LlamaEngine(Path(task.manifest), task.threads, task.gpu_layers)
    load_s = time.perf_counter() - started
    judgement = next(k for k, slot in enumerate(task.question.slots) if "judgement" in slot.before) + 1
    full = _times(engine, task, task.question)
    verdict = msgspec.structs.replace(task.question, slots=task.question.slots[:judgement])
    short = _times(engine, task, verdict)
    stages = _stages(engine, task)
    parts = tuple(
        Part(regions=n, full_ms=full[n][0], verdict_ms=min(short[n]), expected_ms=full[n][1]) for n in task.regions
    )
    measured = Measured(
        load_s=load_s,
        parts=parts,
        stages=stages,
        gpu_mib=(free - _free_bytes()) / 2**20,
        device=", ".join(device.name for device in devices() if device.is_gpu == engine.gpu),
        flop_per_region=2.0
        * (
            (engine.frame.tokens + 1) * engine.weights.parameters
            + engine.frame.tokens * engine.release.mmproj.size_bytes / 2
        ),
        weight_bytes=engine.release.text.size_bytes,
    )
    engine.close()
    return measured


def _queries(task: Task, count: int, expected: Sequence[tuple[str, ...]] = ()) -> tuple[Query, ...]:
    return tuple(
        Query(query_id=str(k), pictures=(task.pictures[k],), expected=expected[k] if expected else ())
        for k in range(count)
    )


def _times(engine: LlamaEngine, task: Task, question: Question) -> dict[int, tuple[float, float]]:
    """Return ms by number of regions: choice by choice, and with what the model says being expected."""

    def ms(queries: tuple[Query, ...]) -> float:
        return _median_ms(lambda: engine.ask(queries), task.repeats)

    found = {}
    for n in task.regions:
        engine.prepare(msgspec.structs.replace(question, queries=n))
        plain = _queries(task, n)
        said: tuple[Answer, ...] = engine.ask(plain)
        hoped = _queries(task, n, [tuple(choice.chosen for choice in answer.choices) for answer in said])
        found[n] = ms(plain), ms(hoped)
    return found


def _stages(engine: LlamaEngine, task: Task) -> tuple[Stage, ...]:
    n = max(task.regions)
    engine.prepare(msgspec.structs.replace(task.question, slots=task.question.slots[:1], queries=n))
    pictures = task.pictures[:n]
    seen = list(engine.see(pictures))
    together = range(min(n, engine.group))

    def read() -> None:
        for sequence in together:
            engine.context.share(engine.group, sequence)
        engine.look(iter(seen), together, engine.begun_length)
        engine.context.wait()

    see_ms = _median_ms(lambda: list(engine.see(pictures)), task.repeats)
    read_ms = _median_ms(read, task.repeats) * n / len(together)
    tokens = n * engine.frame.tokens
    return Stage(name="encode", tokens=tokens, ms=see_ms), Stage(name="read pictures", tokens=tokens, ms=read_ms)


if __name__ == "__main__":
    sys.exit(main())
