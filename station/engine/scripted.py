"""An engine without a model, for tests and trials: answers what a script says, at once and always the same.

Its results are marked simulated. Without a script every slot gets its first choice, with all the probability. The
script is a JSON file with the fields of `Script`; `STATION_SCRIPT` names it. It is read anew at each start of the
child, so a script that crashes the engine can be taken away while the station runs.
"""

import hashlib
import logging
import os
import time
from pathlib import Path

import msgspec

from station.engine.base import Answer, Choice, Query, Question, Slot
from station.errors import EngineError
from station.records import ModelRef, Record

SCRIPT_VARIABLE = "STATION_SCRIPT"


class Script(Record):
    """What the scripted engine does."""

    answers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Query id -> what is chosen at each slot, in order; other queries get the first choices."""
    load_ms: float = 0
    """Time that loading takes."""
    delay_ms: float = 0
    """Time that each ask takes."""
    load_error: str = ""
    """If set, loading fails with this text."""
    refuse_on_ask: tuple[int, ...] = ()
    """The n-th asks since the start of the child (1, 2...) that fail with EngineError."""
    crash_on_ask: tuple[int, ...] = ()
    """The n-th asks that abort the process, as a failed assert in llama.cpp does."""
    lose_gpu_on_ask: tuple[int, ...] = ()
    """The n-th asks at which it does what llama.cpp does when a GPU fails: a line in the log, then an abort."""
    hang_on_ask: tuple[int, ...] = ()
    """The n-th asks that never come back."""


def script_from_environment() -> Script:
    """Return the script that `STATION_SCRIPT` names, the default without it. Raises EngineError."""
    name = os.environ.get(SCRIPT_VARIABLE)
    if not name:
        return Script()
    try:
        return msgspec.json.decode(Path(name).read_bytes(), type=Script)
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineError(
            f"The script {name} of the scripted engine cannot be read: {error}.",
            f"Correct the file or unset {SCRIPT_VARIABLE}.",
        ) from error


class ScriptedEngine:
    """Does what `script` says; see `station.engine.base.Engine`."""

    is_simulated = True

    def __init__(self, script: Script) -> None:
        self._script = script
        self._slots: tuple[Slot, ...] = ()
        self._asks = 0
        time.sleep(script.load_ms / 1000)
        if script.load_error:
            raise EngineError(script.load_error)

    def model(self) -> ModelRef:
        """Return the script as if it were a release."""
        return ModelRef(name="scripted", sha256=hashlib.sha256(msgspec.json.encode(self._script)).hexdigest())

    def prepare(self, question: Question) -> None:
        """Keep the slots."""
        self._slots = question.slots

    def ask(self, queries: tuple[Query, ...]) -> tuple[Answer, ...]:
        """Answer by the script. Raises EngineError where it says so, or names an answer that is not allowed."""
        self._asks += 1
        time.sleep(self._script.delay_ms / 1000)
        if self._asks in self._script.crash_on_ask:
            os.abort()
        if self._asks in self._script.lose_gpu_on_ask:
            logging.getLogger(__name__).error("llama.cpp: CUDA error: an illegal memory access was encountered")
            os.abort()
        while self._asks in self._script.hang_on_ask:
            time.sleep(1)
        if self._asks in self._script.refuse_on_ask:
            raise EngineError(f"The script refuses ask {self._asks}.")
        return tuple(self._answer(query.query_id) for query in queries)

    def close(self) -> None:
        """Nothing to free."""

    def _answer(self, query_id: str) -> Answer:
        chosen = self._script.answers.get(query_id, tuple(slot.choices[0] for slot in self._slots))
        if len(chosen) != len(self._slots):
            raise EngineError(
                f"The script has {len(chosen)} answers for {query_id}, the form {len(self._slots)} slots."
            )
        choices = tuple(_choose(word, slot) for word, slot in zip(chosen, self._slots, strict=True))
        text = "".join(slot.before + choice.chosen for slot, choice in zip(self._slots, choices, strict=True))
        return Answer(query_id=query_id, choices=choices, text=text)


def _choose(word: str, slot: Slot) -> Choice:
    if word not in slot.choices:
        raise EngineError(f"The script answers {word!r}, allowed are {', '.join(slot.choices)}.")
    return Choice(chosen=word, probabilities=tuple(float(word == choice) for choice in slot.choices))
