"""A line in which everything can go wrong at any time: PLC program, handshake, pairing, camera, engine, network. Pure.

Each action is one step. After each, whatever the PLC passed must have been judged OK by its own picture. Time is a
number, so that a test makes many thousand steps a second. Where the bounds are: a camera delivers a picture late by at
most two more picture windows (docs/plc.md says so to the user).
"""

import random
from dataclasses import dataclass, field

import msgspec

from station.outputs import handshake, plc_rules
from station.outputs.handshake_state import Handshake
from station.outputs.plc_exchange import STUCK_AFTER_S
from station.outputs.plc_orders import TriggerTaken
from station.outputs.plc_rules import Acted, Part, Program, Step
from station.outputs.plc_state import FaultCode, heartbeat_at
from station.outputs.plc_words import decode_control, encode, encode_control, with_time
from station.records import Evaluation, Failure, Reason, TriggerRef, Verdict
from station.worker.pairing import CLOCK_TICK_NS, QUIET_WINDOWS, Pairing
from tests.verdicts import make_verdict

MS = 1_000_000
PICTURE_WINDOW_MS = 100
TEMPLATE = {evaluation: make_verdict(1, evaluation) for evaluation in Evaluation}


@dataclass
class Picture:
    """A picture on its way: from the camera, through capture, to the engine."""

    job_id: str
    part: int
    sha256: str
    captured_ms: int
    told_ms: int
    """When capture tells the worker."""
    is_told: bool = False
    has_known_time: bool = True


@dataclass
class World:
    """One line. `random` decides what an action does exactly."""

    random: random.Random
    plc_window_ms: int = 600
    now_ms: int = 1000
    parts: int = 0
    part: int | None = None
    """In place now; parts with an even number are good."""
    accepted: int = 0
    rejected: int = 0
    acted: set[int] = field(default_factory=set)
    pictures: list[Picture] = field(default_factory=list)
    seq: int = 0
    epoch: int = 0
    hashes: list[str] = field(default_factory=list)
    """Of the pictures in the journal."""
    verdict_of: dict[int, tuple[int | None, Evaluation]] = field(default_factory=dict)
    """seq -> the part its picture shows, and what was said."""
    beat_ms: int = 1000
    is_engine_ready: bool = True
    jobs: int = 0
    last_shot: tuple[int, str] = (0, "")
    told_ms: int = 0

    def __post_init__(self) -> None:
        self.last_words = [0] * 64
        self.program = Program(window_ms=self.plc_window_ms)
        self.start_worker()

    # What can happen ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time goes on; the worker's loop turns."""
        self.now_ms += self.random.choice((1, 5, 20, 50, 90))
        self.turn()

    def scan(self) -> None:
        """The PLC scans with a good connection."""
        self._scan(self.words(), written=True)

    def scan_blind(self) -> None:
        """The PLC scans, its reading or its writing fails."""
        reads = self.random.random() < 0.5
        self._scan(self.words() if reads else None, written=not reads and self.random.random() < 0.5)

    def scan_torn(self) -> None:
        """The PLC gets words of two moments."""
        at = self.random.randrange(65)
        self._scan([*self.last_words[:at], *self.words()[at:]], written=True)

    def run(self) -> None:
        """All is well for a while: time, worker, PLC, engine."""
        for _ in range(12):
            self.tick()
            self.scan()
            if self.random.random() < 0.5:
                self.judge()

    def new_part(self) -> None:
        """A part comes if there is room; a double trigger is a camera that fires without one."""
        if self.part is None:
            self.parts += 1
            self.part = self.parts

    def shoot(self) -> None:
        """The camera fires by itself."""
        self._shoot(delay_ms=self.random.choice((0, 5, 30)))

    def judge(self) -> None:
        """The engine answers about one picture that the worker has, in any order and however late."""
        waiting = [picture for picture in self.pictures if picture.is_told]
        if not waiting:
            return
        picture = self.random.choice(waiting)
        fate = self._fate(picture)
        if isinstance(fate, TriggerRef) and self.pairing.is_open(fate):
            return
        self.pictures.remove(picture)
        self.hashes.append(picture.sha256)
        trigger = fate if isinstance(fate, TriggerRef) else None
        if trigger is None:
            evaluation = Evaluation.UNDEFINED
        else:
            unsure = self.random.random() < 0.1
            good = picture.part % 2 == 0
            evaluation = Evaluation.NOT_DECIDABLE if unsure else Evaluation.OK if good else Evaluation.NOT_OK
        self._verdict(trigger, picture.part, evaluation, Reason.NONE)
        if trigger:
            self.pairing.answered(trigger)

    def engine(self) -> None:
        """The engine dies or is back."""
        self.is_engine_ready = not self.is_engine_ready
        self.turn()

    def hang(self) -> None:
        """The worker's loop hangs; the PLC goes on for a while."""
        for _ in range(8):
            self.now_ms += 500
            self.scan()
        self.turn()

    def cut(self) -> None:
        """The cable is cut for a while; the worker and the engine go on."""
        for _ in range(10):
            self.tick()
            self._scan(None, written=False)
            self.judge()

    def start_worker(self) -> None:
        """The worker is killed and starts again; capture sends again what has no ack."""
        self.handshake = Handshake(triggered=True)
        self.pairing = Pairing(PICTURE_WINDOW_MS, self.hashes)
        self.epoch += 1
        self.seq = 0
        self.verdict_of.clear()
        self.control = [0] * 32
        self.is_engine_ready = True
        for picture in self.pictures:
            picture.is_told = False
        self.turn()

    def start_capture(self) -> None:
        """Capture is killed and starts again: it does not know when the pictures in the spool were taken."""
        for picture in self.pictures:
            picture.has_known_time = False

    def start_plc(self) -> None:
        """The PLC is restarted, with its part counter or without."""
        last = self.program.last_trigger_id if self.random.random() < 0.5 else 0
        self.program = Program(window_ms=self.plc_window_ms, last_trigger_id=last)

    def garbage(self) -> None:
        """Somebody writes nonsense into the control block."""
        words = list(self.control)
        words[self.random.randrange(6)] = self.random.randrange(0x10000)
        self._write(words)

    ACTIONS = (
        "run run run run run run run run new_part new_part new_part new_part new_part new_part tick scan judge judge"
        " shoot scan_blind scan_torn engine hang cut start_worker start_capture start_plc garbage"
    ).split()

    def act(self, number: int) -> None:
        """Do one action by its number."""
        getattr(self, self.ACTIONS[number % len(self.ACTIONS)])()

    # How the line works ------------------------------------------------------------------------------------------

    def words(self) -> list[int]:
        """Return the status block, as the server shows it."""
        shown = self.handshake
        if self.now_ms - self.beat_ms > STUCK_AFTER_S * 1000:
            shown = handshake.safe(shown, FaultCode.WORKER_STUCK)
        beat = heartbeat_at(0, self.beat_ms * MS, self.now_ms * MS)
        self.last_words = with_time(encode(handshake.view(shown)), beat, 0)
        return self.last_words

    def turn(self) -> None:
        """Turn the worker's loop once."""
        if self.now_ms - self.beat_ms > STUCK_AFTER_S * 1000:
            self.handshake = handshake.safe(self.handshake)
        self.beat_ms = self.now_ms
        self.handshake = handshake.beaten(self.handshake, ready=self.is_engine_ready, now_ns=self.now_ms * MS)
        for picture in self.pictures:
            if not picture.is_told and picture.told_ms <= self.now_ms:
                picture.is_told = True
                self._fate(picture)
        self.pairing.closed(self.now_ms * MS)
        for trigger in self.pairing.reopened(self.now_ms * MS):
            self.handshake = handshake.window_closed(self.handshake, trigger.acquisition_id)
        for pair in self.pairing.unanswered(self.now_ms * MS):
            reason = pair.trouble.reason if pair.trouble else Reason.DEADLINE_PASSED
            self._verdict(pair.trigger, None, Evaluation.UNDEFINED, reason)

    def _fate(self, picture: Picture) -> TriggerRef | Failure:
        captured_ns = picture.captured_ms * MS if picture.has_known_time else None
        fate = self.pairing.picture(picture.job_id, picture.sha256, captured_ns)
        if isinstance(fate, Failure):
            self.handshake = handshake.mismatched(self.handshake)
        return fate

    def _verdict(self, trigger: TriggerRef | None, part: int | None, evaluation: Evaluation, reason: Reason) -> None:
        self.seq += 1
        self.verdict_of[self.seq] = (part, evaluation)
        template = TEMPLATE[evaluation]
        verdict: Verdict = msgspec.structs.replace(template, seq=self.seq, trigger=trigger, reason=reason)
        self.handshake = handshake.judged(self.handshake, verdict)

    def _scan(self, words: list[int] | None, *, written: bool) -> None:
        in_place = None if self.part is None else Part()
        before = self.program.step
        self.program, acted = plc_rules.scan(self.program, words, in_place, self.now_ms)
        if written:
            self._write(encode_control(self.program.control))
        if before is Step.TRIGGER and self.program.step is Step.RESULT:
            self._camera()
        if acted:
            self._check(acted, words)

    def _write(self, words: list[int]) -> None:
        self.control = words
        self.handshake, orders = handshake.written(self.handshake, decode_control(words), self.now_ms * MS)
        for order in orders:
            if isinstance(order, TriggerTaken):
                due_ms = self.now_ms + (order.window_ms or 500)
                self.pairing.trigger(order.trigger, self.now_ms * MS, due_ms * MS)

    def _camera(self) -> None:
        """Fire as the PLC wants: mostly well, sometimes not at all, twice, late, or with the picture of before."""
        case = self.random.random()
        if case < 0.1:
            return
        self._shoot(delay_ms=20 if case < 0.7 else self.random.randrange(20, self._latest_ms()), frozen=case > 0.9)
        if 0.65 < case < 0.7:
            self._shoot(delay_ms=self.random.choice((0, 30, 60)))

    def _latest_ms(self) -> int:
        return PICTURE_WINDOW_MS * (1 + QUIET_WINDOWS) - CLOCK_TICK_NS // MS - 100

    def _shoot(self, delay_ms: int, *, frozen: bool = False) -> None:
        """Take a picture of what is in place; it is complete after `delay_ms`."""
        if self.part is None:
            return
        self.jobs += 1
        if not frozen or not self.last_shot[1]:
            self.last_shot = (self.part, f"{self.jobs:064x}")
        captured_ms = self.now_ms + delay_ms
        told_ms = captured_ms + (self.random.randrange(800) if self.random.random() < 0.1 else 0)
        told_ms = self.told_ms = max(told_ms, self.told_ms)  # capture tells in order
        self.pictures.append(Picture(f"job-{self.jobs}", *self.last_shot, captured_ms, told_ms))

    def _check(self, acted: Acted, words: list[int] | None) -> None:
        part, self.part = self.part, None
        if part is None:  # the PLC was told of a part that left; nothing passes
            assert not acted.accepted
            return
        assert part not in self.acted, "acted twice on a part"
        self.acted.add(part)
        if not acted.accepted:
            self.rejected += 1
            return
        assert words is not None
        shown, evaluation = self.verdict_of[words[8]]
        assert (shown, evaluation) == (part, Evaluation.OK), f"part {part} passed with the picture of {shown}"
        assert part % 2 == 0
        self.accepted += 1
