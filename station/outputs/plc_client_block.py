"""The 16 registers that the station writes into a PLC, each time all of them. Pure: no I/O.

Writing a block twice does no harm: the PLC acts only on a new (epoch, sequence), and knows a torn block by the tail and
the CRC. Only GOOD with its complement is a pass; 0 and anything else is a reject.
"""

import enum
from collections.abc import Sequence

from station.outputs.plc_state import is_pass
from station.records import Evaluation, Reason, Record, Verdict

BLOCK_WORDS = 16


class VerdictCode(enum.IntEnum):
    """Codes far from each other and from 0 and 65535."""

    NONE = 0
    GOOD = 0x5A5A
    REJECT = 0x3C3C
    ERROR = 0x6969
    LATE = 0x9696


class StatusBit(enum.IntFlag):
    """Register 1."""

    READY = 1
    FAULT = 2
    SIMULATED = 64


class Report(Record, frozen=True):
    """What is written."""

    heartbeat: int
    """1..65535; 0 only in the first block after the start."""
    status: StatusBit
    verdict: Verdict | None
    age_ms: int
    """Of the verdict, when it is written."""
    valid_for_ms: int


def encode(report: Report) -> list[int]:
    """Return the 16 registers. A verdict older than `valid_for_ms` is LATE: it is never a pass for a later part."""
    verdict = report.verdict
    code = VerdictCode.NONE if verdict is None else code_of(verdict, report)
    sequence, epoch, part = (0, 0, 0) if verdict is None else (verdict.seq, verdict.epoch, part_number(verdict))
    words = [
        report.heartbeat & 0xFFFF,
        int(report.status),
        epoch & 0xFFFF,
        sequence >> 16 & 0xFFFF,
        sequence & 0xFFFF,
        part >> 16 & 0xFFFF,
        part & 0xFFFF,
        int(code),
        0 if code is VerdictCode.NONE else int(code) ^ 0xFFFF,
        min(report.age_ms, 0xFFFF),
        report.valid_for_ms,
        0 if verdict is None else int(verdict.reason),
        0,
        0,
        sequence & 0xFFFF,
    ]
    return [*words, crc16(words)]


def code_of(verdict: Verdict, report: Report) -> VerdictCode:
    """Return the code of a verdict that is written now."""
    if report.age_ms > report.valid_for_ms or verdict.reason is Reason.DEADLINE_PASSED:
        return VerdictCode.LATE
    if is_pass(verdict):
        return VerdictCode.GOOD if StatusBit.READY in report.status else VerdictCode.ERROR
    return VerdictCode.ERROR if verdict.evaluation is Evaluation.UNDEFINED else VerdictCode.REJECT


def part_number(verdict: Verdict) -> int:
    """Return the PLC's trigger id, without one the sequence."""
    return verdict.trigger.trigger_id if verdict.trigger else verdict.seq


def crc16(words: Sequence[int]) -> int:
    """Return the CRC of Modbus RTU over the words' bytes, high byte first."""
    crc = 0xFFFF
    for word in words:
        for byte in word.to_bytes(2, "big"):
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
