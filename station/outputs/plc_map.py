"""The PLC's registers as two tables of data. Pure: no I/O.

The tables are the only place that knows register numbers: encoding (`plc_words`), documents and exports are made from
them. Names follow what ladder programmers know from smart cameras. 32-bit values have the high word first. What a
later release will serve has its place already and reads 0. A register never moves within a major release.
"""

import enum

from station.records import Record

WORDS = 64
"""Length of the status block."""
CONTROL_WORDS = 32
"""Length of the control block."""
MIRROR = 1000
"""First holding register of the read-only copy of the status block."""


class Type(enum.StrEnum):
    """How a value lies in the registers."""

    BIT = "bit"
    UINT16 = "uint16"
    UINT32 = "uint32"
    TEXT = "text"


class Field(Record, frozen=True):
    """One value of a block."""

    name: str
    register: int
    """Counted from the block's first word."""
    type: Type
    unit: str
    meaning: str
    bit: int = 0
    """0..15, 0 is the lowest; only for bits."""
    words: int = 1
    served: bool = True
    """False: reserved, reads 0 in this release."""


def _bit(register: int, bit: int, name: str, meaning: str, *, served: bool = True) -> Field:
    return Field(name=name, register=register, type=Type.BIT, unit="", meaning=meaning, bit=bit, served=served)


def _word(register: int, name: str, unit: str, meaning: str, *, served: bool = True) -> Field:
    return Field(name=name, register=register, type=Type.UINT16, unit=unit, meaning=meaning, served=served)


def _double(register: int, name: str, unit: str, meaning: str) -> Field:
    return Field(name=name, register=register, type=Type.UINT32, unit=unit, meaning=meaning, words=2)


STATUS: tuple[Field, ...] = (
    _bit(0, 0, "Online", "the station judges parts"),
    _bit(0, 1, "TriggerReady", "a trigger would be taken; always 0 while free running"),
    _bit(0, 2, "TriggerAck", "trigger taken; AcquisitionId is its number"),
    _bit(0, 3, "ImageReceived", "the trigger's picture is complete, the part may leave"),
    _bit(0, 4, "SystemBusy", "the model is being loaded"),
    _bit(0, 5, "InspectionCompleted", "toggles with each new result"),
    _bit(0, 6, "ResultsValid", "the result fields below belong to InspectionId and may be used"),
    _bit(0, 7, "OK", "pass; only with Online and ResultsValid"),
    _bit(0, 8, "NG", "every valid result that is not OK: defective, not decidable or failed"),
    _bit(0, 9, "NotDecidable", "in addition to NG: the station could not decide"),
    _bit(0, 10, "ResultsBufferOverrun", "a result was not shown: the buffer was full; until ClearFault"),
    _bit(0, 11, "MissedTrigger", "a trigger came when none was taken; until ClearFault"),
    _bit(0, 12, "Fault", "FaultCode says which"),
    _bit(0, 13, "Warning", "WarningCode says which"),
    _bit(0, 14, "UserDataAck", "PartSerial holds the serial for the next trigger"),
    _bit(1, 0, "CommandExecuting", "the command is being carried out"),
    _bit(1, 1, "CommandCompleted", "the command was carried out; until ExecuteCommand is 0"),
    _bit(1, 2, "CommandFailed", "the command was refused or failed, WarningCode says why; until ExecuteCommand is 0"),
    _bit(1, 3, "GoldenCheckDue", "no challenge has passed yet since the model was loaded"),
    _bit(1, 4, "GoldenCheckPassed", "the last challenge passed; 0 also without a model"),
    _bit(1, 5, "Degraded", "", served=False),
    _bit(1, 6, "StorageLow", "less than 5 % of the disk is free; below 2 % the station is offline"),
    _bit(1, 7, "Simulated", "the result was made without a model: never use it for a real part"),
    _bit(1, 8, "Bypassed", "", served=False),
    _bit(1, 9, "PlcHeartbeatLost", "PlcHeartbeat did not change for 3 s"),
    _bit(1, 10, "ClockUnsynced", "", served=False),
    _word(2, "Heartbeat", "beats", "counts on each 200 ms while the worker's loop turns; wraps"),
    _word(3, "PlcHeartbeatEcho", "beats", "PlcHeartbeat, echoed"),
    _word(4, "OfflineReason", "code", "why Online is 0"),
    _word(5, "FaultCode", "code", "what is broken"),
    _word(6, "WarningCode", "code", "what needs attention; while CommandFailed is 1, why"),
    _word(7, "AcquisitionId", "", "counts triggers taken; equal to InspectionId while free running"),
    _word(8, "InspectionId", "", "low 16 bits of the verdict's seq; seq starts at 1 with each start of the worker"),
    _word(9, "TriggerId", "", "TriggerId that the result belongs to; 0: no result, or free running"),
    _word(10, "FreeResultBuffers", "results", "8: no result is kept"),
    _word(11, "ResultEvaluation", "code", "OPC 40001-101"),
    _word(12, "ResultState", "code", "OPC 40100-1"),
    _word(13, "ReasonCode", "code", "why the result is not OK"),
    _word(14, "PinsInspected", "pins", "pins of the regions that the model was asked about"),
    _word(15, "PinsNG", "pins", "pins found defective"),
    _word(16, "FirstNGPin", "pin number", "lowest defective pin; 0: none, or not known (ask: report)"),
    _double(17, "NGPins", "bitmap", "defective pins 1 to 32, pin 1 is the lowest bit; 0 with ask: report"),
    _double(19, "NotDecidablePins", "bitmap", "pins 1 to 32 without a decision; 0 with ask: report"),
    _word(21, "ProcessingTime", "ms", "from the complete file to the journal; 65535: that or more"),
    _word(22, "QueueDepth", "jobs", "at the worker without a verdict; more may wait in the spool"),
    _word(23, "ResultAge", "ms", "since the verdict of this result; 65535: that or more"),
    _word(24, "RecipeUsed", "number", "of the recipe that this result was judged with; 0: it has none (recipes)"),
    _word(25, "RecipeLoaded", "number", "of the recipe in force; 0: it has no number, or there is none now"),
    _double(26, "ConfigChecksum", "hash", "of configuration, recipe and model of this result: differs when one does"),
    _double(28, "ModelHash", "hash", "first 4 bytes of the sha256 of the manifest of the model that judged"),
    _double(30, "CountTriggers", "parts", "results since the start of the worker; the sum of the next four"),
    _double(32, "CountOK", "parts", ""),
    _double(34, "CountNG", "parts", "found defective"),
    _double(36, "CountNotDecidable", "parts", ""),
    _double(38, "CountFailed", "parts", "inspections that gave no evaluation"),
    Field(
        name="PartSerial",
        register=40,
        type=Type.TEXT,
        unit="",
        meaning="44 ASCII bytes: serial of the result, without one the serial latched",
        words=22,
    ),
    _word(62, "InspectionIdTail", "", "InspectionId again: differs from it when a read was torn"),
    _word(63, "StatusComplement", "", "register 0 with every bit inverted: shows a stuck or broken word"),
)

CONTROL: tuple[Field, ...] = (
    _bit(0, 0, "TriggerEnable", "triggers are wanted; 1 to 0 gives up every trigger without a result"),
    _bit(0, 1, "Trigger", "a part is in place; hold until TriggerAck"),
    _bit(0, 2, "ResultsAck", "the result is taken; hold until ResultsValid is 0"),
    _bit(0, 3, "BufferResultsEnable", "hold each result until ResultsAck; up to 8 are kept"),
    _bit(0, 4, "ClearFault", "0 to 1 clears FaultCode 23 and 40, MissedTrigger and ResultsBufferOverrun"),
    _bit(0, 5, "SetOffline", "while 1 the station is offline"),
    _bit(0, 6, "ExecuteCommand", "0 to 1 carries out CommandCode; hold until CommandCompleted or CommandFailed"),
    _bit(0, 7, "SetUserData", "0 to 1 takes Serial for the next trigger; hold until UserDataAck"),
    _bit(0, 8, "ClearExposureComplete", "0 to 1 clears ImageReceived"),
    _bit(0, 9, "BufferClear", "0 to 1 drops every result shown or kept"),
    _word(1, "PlcHeartbeat", "beats", "any other value at least once a second"),
    _word(2, "CommandCode", "code", "what ExecuteCommand does"),
    _word(3, "CommandArgument", "", "1 prepare recipe: its number in the configuration (recipes)"),
    _word(4, "TriggerId", "", "the PLC's own part counter, 1 to 65535, another one for each trigger"),
    _word(5, "InspectWindow", "ms", "the result comes within this time of the trigger; 0: the recipe's deadline"),
    Field(name="Serial", register=8, type=Type.TEXT, unit="", meaning="44 ASCII bytes, padded with 0", words=22),
)
