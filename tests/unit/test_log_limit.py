"""Of one cause at most ten messages a minute reach the log, and what was held back is counted exactly."""

import logging
import subprocess
import sys
import time

import pytest

from station.complaints import Complaints
from station.log_limit import MAX_CAUSES, MESSAGES_A_MINUTE, LogLimit


class Clock:
    """A monotonic clock that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


class Log(logging.Handler):
    """A limited log that remembers its lines; a logger of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(LogLimit())
        self.lines: list[str] = []
        self.logger = logging.Logger("engine")  # noqa: LOG001 - of this test alone
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log(clock: Clock) -> Log:  # noqa: ARG001 - the clock first
    return Log()


def test_an_hour_of_one_fault_is_ten_lines_a_minute_with_exact_counts(log: Log, clock: Clock) -> None:
    for _second in range(3600):
        log.logger.error("Engine lost, restart %d", _second)
        clock.now_s += 1
    assert len(log.lines) == 60 * MESSAGES_A_MINUTE
    counted = [line for line in log.lines if "held back" in line]
    assert len(counted) == 59
    assert all("before it 50 more like it were held back" in line for line in counted)


def test_numbers_do_not_make_another_cause_words_do(log: Log) -> None:
    for number in range(100):
        log.logger.error(f"Connection to 10.0.0.{number} failed")  # noqa: G004 - as libraries do
        log.logger.error("another")
    assert len(log.lines) == 2 * MESSAGES_A_MINUTE


def test_complaints_are_a_cause_by_kind_and_count_all(log: Log, clock: Clock) -> None:
    complaints = Complaints(log.logger)
    for _tenth in range(36_000):
        complaints.say("away", "The PLC took nothing")
        complaints.say("full", "The archive is too slow")
        clock.now_s += 0.1
    assert complaints.counts == {"away": 36_000, "full": 36_000}
    for kind in complaints.counts:
        assert 350 <= sum(f"({kind}: " in line for line in log.lines) <= 360
    assert not any("held back" in line for line in log.lines)


def test_ever_new_messages_fill_no_memory(log: Log) -> None:
    for number in range(3 * MAX_CAUSES):
        log.logger.error("x" * (number + 1))
    assert len(log.lines) == 3 * MAX_CAUSES
    (limit,) = log.filters
    assert isinstance(limit, LogLimit)
    assert len(limit._minutes) <= MAX_CAUSES


def test_the_services_log_is_limited_for_libraries_too() -> None:
    talk = "for n in range(1000): logging.getLogger('pymodbus.logging').error(f'Connection {n} failed')"
    code = f"import logging; from station.verbs.shared import start_log; start_log()\n{talk}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr.count("failed") == MESSAGES_A_MINUTE
