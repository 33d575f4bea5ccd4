"""The registers in forms that PLC tools take in: CSV for tag lists, IEC 61131-3 Structured Text. Pure.

Both are made from the tables in `plc_map`, so they cannot differ from what the station serves. The Structured Text has
no vendor's extension: bits are masked, 32-bit values put together from two words, high word first. Its function block
does, step by step, what `plc_rules` does; its numbers come from there.
"""

import csv
import io
import re

from station.outputs import plc_rules
from station.outputs.plc_map import CONTROL, CONTROL_WORDS, MIRROR, STATUS, WORDS, Field, Type
from station.outputs.plc_rules import Step

_ST_TYPES = {Type.BIT: "BOOL", Type.UINT16: "UINT", Type.UINT32: "UDINT"}


def as_csv() -> str:
    """Return both blocks, one line per field; reserved fields too, so that addresses stay planned."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    heading = [
        "block",
        "input_register",
        "holding_register",
        "bit",
        "words",
        "name",
        "type",
        "unit",
        "served",
        "meaning",
    ]
    table.writerow(heading)
    for block, fields in (("status", STATUS), ("control", CONTROL)):
        for field in fields:
            is_status = block == "status"
            places = (field.register if is_status else "", field.register + (MIRROR if is_status else 0))
            bit = field.bit if field.type is Type.BIT else ""
            served = "yes" if field.served else "reserved"
            table.writerow(
                [block, *places, bit, field.words, field.name, field.type, field.unit, served, field.meaning]
            )
    return out.getvalue()


def as_structured_text() -> str:
    """Return the data types and the function block that triggers, waits, accepts or rejects, and acknowledges."""
    served = [field for field in STATUS if field.served and field.type is not Type.TEXT]
    control = [field for field in CONTROL if field.type is not Type.TEXT]
    steps = "; ".join(f"{step.value} {step.name.lower()}" for step in Step)
    return _TEMPLATE.format(
        words=WORDS - 1,
        control_words=CONTROL_WORDS - 1,
        status_fields="\n".join(map(_declared, served)),
        control_fields="\n".join(map(_declared, control)),
        decode="\n".join(f"Status.{field.name} := {_expression(field)};" for field in served),
        clear="\n".join(f"Control[{word}] := 16#0000;" for word in sorted({field.register for field in control})),
        encode="\n".join(filter(None, map(_written, control))),
        steps=steps,
        heartbeat_ms=plc_rules.HEARTBEAT_TIMEOUT_MS,
        beat_ms=plc_rules.PLC_BEAT_MS,
        late=plc_rules.LATE_IN_A_ROW,
        prepare_recipe=plc_rules.PREPARE_RECIPE,
        faults=" OR ".join(f"(Status.FaultCode = {fault.value})" for fault in plc_rules.CLEARED_FAULTS),
        **{step.name: step.value for step in Step},
    )


def _declared(field: Field) -> str:
    note = re.sub(r"[(*)]", "", field.meaning or field.unit)
    return f"    {field.name} : {_ST_TYPES[field.type]}; (* {note} *)"


def _expression(field: Field) -> str:
    if field.type is Type.BIT:
        mask = f"16#{1 << field.bit:04X}"
        return f"(Words[{field.register}] AND {mask}) = {mask}"
    if field.type is Type.UINT16:
        return f"WORD_TO_UINT(Words[{field.register}])"
    high, low = (f"WORD_TO_DWORD(Words[{field.register + place}])" for place in (0, 1))
    return f"DWORD_TO_UDINT(SHL({high}, 16) OR {low})"


def _written(field: Field) -> str:
    if field.type is Type.BIT:
        mask = f"16#{1 << field.bit:04X}"
        word = f"Control[{field.register}]"
        return f"IF Ctl.{field.name} THEN {word} := {word} OR {mask}; END_IF;"
    return f"Control[{field.register}] := UINT_TO_WORD(Ctl.{field.name});"


_TEMPLATE = """\
(* Made by `station plc-map --format st`; do not edit.
   Each scan of the communication task: read {words} + 1 input registers from 0 into Words with ONE request (ReadOk says
   that it worked), call the block, write Control with ONE request to holding registers 0 to {control_words}.
   Accept and Reject are TRUE for one scan, once for each part. Nothing but Accept is a pass.
   A serial goes as ASCII into Serial, two characters a word, the first in the high byte. *)
TYPE STATION_STATUS :
STRUCT
{status_fields}
END_STRUCT
END_TYPE

TYPE STATION_CONTROL :
STRUCT
{control_fields}
END_STRUCT
END_TYPE

FUNCTION_BLOCK FB_STATION
VAR_INPUT
    Words : ARRAY[0..{words}] OF WORD; (* status block, of this scan *)
    ReadOk : BOOL; (* Words is fresh; FALSE: no connection, time-out, exception *)
    PartPresent : BOOL; (* a part is in place; hold until Accept or Reject *)
    HasSerial : BOOL;
    Serial : ARRAY[0..21] OF WORD;
    InspectWindow : TIME := T#2S; (* from PartPresent; then the part is a reject *)
    InspectWindowMs : UINT := 2000; (* the same, for the station *)
    Recipe : UINT := 0; (* number of the recipe that the parts need; 0: whatever is in force *)
    AcceptSimulated : BOOL := FALSE; (* trying out without a model; never for real parts *)
END_VAR
VAR_OUTPUT
    Accept : BOOL;
    Reject : BOOL;
    MayLeave : BOOL; (* the picture is taken *)
    LineStop : BOOL; (* {late} parts in a row without an answer of their own *)
    Control : ARRAY[0..{control_words}] OF WORD;
    Status : STATION_STATUS;
END_VAR
VAR RETAIN
    LastTriggerId : UINT;
END_VAR
VAR
    Step : INT := {RESET}; (* {steps} *)
    Ctl : STATION_CONTROL;
    Fresh, Whole, IsMine, Pass, HasAcked, ResetBegun, OldToggle, Waiting : BOOL;
    OldInspectionId, OldHeartbeat, ResetBeat, Late, Word : UINT;
    Window, BeatWatch, OwnBeat : TON;
END_VAR

Accept := FALSE;
Reject := FALSE;
Waiting := (Step <> {RESET}) AND (Step <> {IDLE}) AND (Step <> {RECIPE});
{decode}

(* The station's heartbeat: it must change within {heartbeat_ms} ms. *)
BeatWatch(IN := NOT (ReadOk AND (Status.Heartbeat <> OldHeartbeat)), PT := T#{heartbeat_ms}MS);
IF ReadOk THEN OldHeartbeat := Status.Heartbeat; END_IF;
Fresh := NOT BeatWatch.Q;
(* The PLC's own: never 0, a new value each {beat_ms} ms. *)
OwnBeat(IN := NOT OwnBeat.Q, PT := T#{beat_ms}MS);
IF OwnBeat.Q OR ((Step = {RESET}) AND NOT ResetBegun) THEN
    IF Ctl.PlcHeartbeat = 65535 THEN Ctl.PlcHeartbeat := 1; ELSE Ctl.PlcHeartbeat := Ctl.PlcHeartbeat + 1; END_IF;
END_IF;
Window(IN := Waiting, PT := InspectWindow);

Whole := (Words[63] = (NOT Words[0])) AND (Status.InspectionId = Status.InspectionIdTail);
IsMine := Status.TriggerId = Ctl.TriggerId;
(* The acceptance rule. *)
Pass := Whole AND Fresh AND ReadOk AND Status.Online AND Status.ResultsValid AND HasAcked AND IsMine
    AND (Status.InspectionCompleted <> OldToggle) AND (Status.InspectionId <> OldInspectionId)
    AND ((Recipe = 0) OR (Status.RecipeUsed = Recipe))
    AND (AcceptSimulated OR NOT Status.Simulated) AND NOT Status.NG AND Status.OK
    AND (Status.ResultEvaluation = 1) AND NOT Window.Q;

IF Waiting AND (Step <> {ACK}) AND Window.Q THEN
    Reject := TRUE; (* no answer in the window *)
    Late := Late + 1;
    Step := {RESET};
    ResetBegun := FALSE;
ELSE
    CASE Step OF
    {RESET}: (* make the station forget every trigger and result of before, and see that it did *)
        Ctl.TriggerEnable := FALSE; Ctl.Trigger := FALSE; Ctl.ResultsAck := FALSE; Ctl.SetUserData := FALSE;
        Ctl.BufferResultsEnable := FALSE; Ctl.ExecuteCommand := FALSE;
        IF NOT ResetBegun THEN
            ResetBeat := Ctl.PlcHeartbeat;
            ResetBegun := TRUE;
        ELSIF ReadOk AND Ctl.BufferClear AND ((Status.PlcHeartbeatEcho - ResetBeat) <= 1000)
            AND NOT Status.TriggerReady AND NOT Status.TriggerAck AND NOT Status.ResultsValid
            AND (Status.FreeResultBuffers = 8) THEN
            Ctl.TriggerEnable := TRUE; Ctl.BufferResultsEnable := TRUE;
            Step := {IDLE};
        END_IF;
        Ctl.BufferClear := Step = {RESET};
        Ctl.ClearFault := Step = {RESET};
    {IDLE}:
        IF ReadOk AND (Recipe <> 0) AND (Status.RecipeLoaded <> Recipe) THEN
            Ctl.CommandCode := {prepare_recipe};
            Ctl.CommandArgument := Recipe;
            Ctl.ExecuteCommand := TRUE;
            Step := {RECIPE};
        ELSIF ReadOk AND ({faults}) THEN (* that part was rejected; ends with ClearFault *)
            Step := {RESET};
            ResetBegun := FALSE;
        ELSIF PartPresent THEN
            IF LastTriggerId = 65535 THEN LastTriggerId := 1; ELSE LastTriggerId := LastTriggerId + 1; END_IF;
            Ctl.TriggerId := LastTriggerId;
            Ctl.SetUserData := HasSerial;
            HasAcked := FALSE;
            MayLeave := FALSE;
            Step := {SERIAL};
        END_IF;
    {RECIPE}: (* parts wait; again and again until the station has it *)
        IF ReadOk THEN
            IF Ctl.ExecuteCommand THEN
                Ctl.ExecuteCommand := NOT (Status.CommandCompleted OR Status.CommandFailed);
            ELSIF NOT Status.CommandCompleted AND NOT Status.CommandFailed THEN
                Step := {IDLE};
            END_IF;
        END_IF;
    {SERIAL}:
        IF ReadOk THEN
            IF Ctl.SetUserData THEN
                Ctl.SetUserData := NOT Status.UserDataAck;
            ELSIF NOT Status.UserDataAck AND NOT Status.TriggerAck AND Status.TriggerReady THEN
                OldToggle := Status.InspectionCompleted;
                OldInspectionId := Status.InspectionId;
                Ctl.InspectWindow := InspectWindowMs;
                Ctl.Trigger := TRUE;
                Step := {TRIGGER};
            END_IF;
        END_IF;
    {TRIGGER}: (* fire the camera when TriggerAck is there, not before *)
        IF ReadOk AND Status.TriggerAck THEN
            Ctl.Trigger := FALSE;
            HasAcked := TRUE;
            Step := {RESULT};
        END_IF;
    {RESULT}:
        MayLeave := MayLeave OR (ReadOk AND Status.ImageReceived);
        IF ReadOk AND Status.ResultsValid AND Whole AND Fresh THEN (* else: look again *)
            Accept := Pass;
            Reject := NOT Pass;
            IF IsMine THEN
                Late := 0;
                Ctl.ResultsAck := TRUE;
                Step := {ACK};
            ELSE (* of another part *)
                Late := Late + 1;
                Step := {RESET};
                ResetBegun := FALSE;
            END_IF;
        END_IF;
    {ACK}:
        IF ReadOk AND NOT Status.ResultsValid THEN
            Ctl.ResultsAck := FALSE;
            Step := {IDLE};
        ELSIF Window.Q THEN
            Step := {RESET};
            ResetBegun := FALSE;
        END_IF;
    END_CASE;
END_IF;
LineStop := Late >= {late};

{clear}
{encode}
FOR Word := 0 TO 21 DO
    Control[8 + Word] := Serial[Word];
END_FOR;
END_FUNCTION_BLOCK
"""
