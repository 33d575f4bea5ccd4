"""What this server serves of OPC 40100-1 (Machine Vision 1.0.0): names, numbers, fields, arguments. Pure data.

Facts of the specification, https://reference.opcfoundation.org/MachineVision/v100/docs/, in one table. With them the
types are built when no nodeset file is there; the instances are always built from them. `tests/unit/opcua` compares
every number with the nodeset file where one is installed.
"""

from typing import NamedTuple

from station.opcua.state_machine import State, Transition

URI = "http://opcfoundation.org/UA/MachineVision"
NODESET = "Opc.Ua.MachineVision.NodeSet2.xml"
"""File name of the nodeset; only the base model is required by it."""

Field = tuple[str, str]
"""Name and data type. A trailing `?` of the type: optional; `[]`: an array."""


class Structure(NamedTuple):
    """A structured data type."""

    number: int
    encoding: int
    """Number of its Default Binary encoding."""
    fields: tuple[Field, ...]
    base: str = "Structure"


class ObjectType(NamedTuple):
    """An object or event type with the properties that events of it carry."""

    number: int
    base: str
    properties: tuple[Field, ...] = ()


class Method(NamedTuple):
    """A method and its arguments; every one but ConfirmAll returns Error last."""

    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()


SIMPLE_TYPES = {
    "Handle": (3018, "UInt32"),
    "TrimmedString": (3017, "String"),
    "ResultStateDataType": (3009, "Int32"),
}
"""Data types that are another one by name: number, base."""

ENUMERATIONS = {"TriStateBooleanDataType": (3014, ("FALSE_0", "TRUE_1", "DONTCARE_2"))}

_ID = (("Id", "TrimmedString"),)
_DESCRIBED_ID = (*_ID, ("Description", "LocalizedText?"))
_BINARY_ID = (
    ("Id", "TrimmedString"),
    ("Version", "TrimmedString?"),
    ("Hash", "ByteString?"),
    ("HashAlgorithm", "String?"),
    ("Description", "LocalizedText?"),
)

STRUCTURES = {
    "BinaryIdBaseDataType": Structure(3019, 5027, _BINARY_ID),
    "ConfigurationIdDataType": Structure(3008, 5090, _BINARY_ID, "BinaryIdBaseDataType"),
    "RecipeIdExternalDataType": Structure(3002, 5002, _BINARY_ID, "BinaryIdBaseDataType"),
    "RecipeIdInternalDataType": Structure(3013, 5268, _BINARY_ID, "BinaryIdBaseDataType"),
    "JobIdDataType": Structure(3016, 5008, _ID),
    "MeasIdDataType": Structure(3015, 5006, _DESCRIBED_ID),
    "PartIdDataType": Structure(3004, 5013, _DESCRIBED_ID),
    "ProductIdDataType": Structure(3003, 5224, _DESCRIBED_ID),
    "ResultIdDataType": Structure(3021, 5274, _ID),
    "ProcessingTimesDataType": Structure(
        3005,
        5016,
        (
            ("StartTime", "UtcTime"),
            ("EndTime", "UtcTime"),
            ("AcquisitionDuration", "Duration?"),
            ("ProcessingDuration", "Duration?"),
        ),
    ),
    "ResultDataType": Structure(
        3006,
        5018,
        (
            ("ResultId", "ResultIdDataType"),
            ("HasTransferableDataOnFile", "Boolean?"),
            ("IsPartial", "Boolean"),
            ("IsSimulated", "Boolean?"),
            ("ResultState", "ResultStateDataType"),
            ("MeasId", "MeasIdDataType?"),
            ("PartId", "PartIdDataType?"),
            ("ExternalRecipeId", "RecipeIdExternalDataType?"),
            ("InternalRecipeId", "RecipeIdInternalDataType"),
            ("ProductId", "ProductIdDataType?"),
            ("ExternalConfigurationId", "ConfigurationIdDataType?"),
            ("InternalConfigurationId", "ConfigurationIdDataType"),
            ("JobId", "JobIdDataType"),
            ("CreationTime", "UtcTime"),
            ("ProcessingTimes", "ProcessingTimesDataType?"),
            ("ResultContent", "BaseDataType[]?"),
        ),
    ),
}

RESULT_FIELDS = STRUCTURES["ResultDataType"].fields
_JOB = (("JobId", "JobIdDataType"),)

VARIABLE_TYPES = {"ResultType": (2002, "ResultDataType")}

OBJECT_TYPES = {
    "VisionSystemType": ObjectType(1003, "BaseObjectType"),
    "VisionStateMachineType": ObjectType(1017, "FiniteStateMachineType"),
    "VisionAutomaticModeStateMachineType": ObjectType(1021, "FiniteStateMachineType"),
    "RecipeManagementType": ObjectType(1004, "BaseObjectType"),
    "ResultManagementType": ObjectType(1007, "BaseObjectType"),
    "ResultFolderType": ObjectType(1016, "FolderType"),
    "StateChangedEventType": ObjectType(1018, "TransitionEventType"),
    "ErrorEventType": ObjectType(1019, "TransitionEventType"),
    "ErrorResolvedEventType": ObjectType(1020, "TransitionEventType"),
    "RecipePreparedEventType": ObjectType(
        1022,
        "BaseEventType",
        (("ExternalId", "RecipeIdExternalDataType?"), ("InternalId", "RecipeIdInternalDataType")),
    ),
    "JobStartedEventType": ObjectType(1013, "BaseEventType", _JOB),
    "ReadyEventType": ObjectType(1023, "BaseEventType", _JOB),
    "AcquisitionDoneEventType": ObjectType(1025, "BaseEventType", _JOB),
    "ResultReadyEventType": ObjectType(
        1024, "BaseEventType", tuple(field for field in RESULT_FIELDS if field[0] != "HasTransferableDataOnFile")
    ),
}

OUTER_STATES = {"Preoperational": (5028, 1), "Halted": (5029, 2), "Error": (5030, 3), "Operational": (5031, 4)}
"""States of VisionStateMachineType: number of the node, StateNumber."""
AUTOMATIC_STATES = {
    "Initialized": (5056, State.INITIALIZED.value),
    "Ready": (5057, State.READY.value),
    "SingleExecution": (5058, State.SINGLE_EXECUTION.value),
    "ContinuousExecution": (5059, State.CONTINUOUS_EXECUTION.value),
}
"""The same of VisionAutomaticModeStateMachineType."""

TRANSITIONS = {
    Transition.PREOPERATIONAL_TO_HALTED: ("PreoperationalToHalted", 5032),
    Transition.PREOPERATIONAL_TO_ERROR_AUTO: ("PreoperationalToErrorAuto", 5034),
    Transition.PREOPERATIONAL_TO_OPERATIONAL_AUTO: ("PreoperationalToOperationalAuto", 5254),
    Transition.PREOPERATIONAL_TO_OPERATIONAL: ("PreoperationalToOperational", 5253),
    Transition.PREOPERATIONAL_TO_INITIALIZED_AUTO: ("PreoperationalToInitializedAuto", 5036),
    Transition.PREOPERATIONAL_TO_INITIALIZED: ("PreoperationalToInitialized", 5035),
    Transition.HALTED_TO_PREOPERATIONAL: ("HaltedToPreoperational", 5037),
    Transition.ERROR_TO_PREOPERATIONAL_AUTO: ("ErrorToPreoperationalAuto", 5040),
    Transition.ERROR_TO_PREOPERATIONAL: ("ErrorToPreoperational", 5039),
    Transition.ERROR_TO_HALTED: ("ErrorToHalted", 5041),
    Transition.OPERATIONAL_TO_PREOPERATIONAL: ("OperationalToPreoperational", 5047),
    Transition.OPERATIONAL_TO_HALTED: ("OperationalToHalted", 5049),
    Transition.OPERATIONAL_TO_ERROR_AUTO: ("OperationalToErrorAuto", 5051),
    Transition.INITIALIZED_TO_READY_AUTO: ("InitializedToReadyAuto", 5061),
    Transition.INITIALIZED_TO_READY_RECIPE: ("InitializedToReadyRecipe", 5060),
    Transition.READY_TO_INITIALIZED_RECIPE: ("ReadyToInitializedRecipe", 5062),
    Transition.READY_TO_SINGLE_EXECUTION: ("ReadyToSingleExecution", 5064),
    Transition.READY_TO_CONTINUOUS_EXECUTION_AUTO: ("ReadyToContinuousExecutionAuto", 5067),
    Transition.READY_TO_CONTINUOUS_EXECUTION: ("ReadyToContinuousExecution", 5066),
    Transition.SINGLE_EXECUTION_TO_READY_AUTO: ("SingleExecutionToReadyAuto", 5070),
    Transition.SINGLE_EXECUTION_TO_READY_STOP: ("SingleExecutionToReadyStop", 5068),
    Transition.SINGLE_EXECUTION_TO_READY_ABORT: ("SingleExecutionToReadyAbort", 5069),
    Transition.CONTINUOUS_EXECUTION_TO_READY_STOP: ("ContinuousExecutionToReadyStop", 5071),
    Transition.CONTINUOUS_EXECUTION_TO_READY_ABORT: ("ContinuousExecutionToReadyAbort", 5072),
}
"""Browse name and number of the node of each transition."""

_ERROR = (("Error", "Int32"),)
_WHY = (("Cause", "Int32"), ("CauseDescription", "String"))
_PAGE = (("MaxResults", "UInt32"), ("StartIndex", "UInt32"), ("Timeout", "Int32"))
_START = (
    ("MeasId", "MeasIdDataType"),
    ("PartId", "PartIdDataType"),
    ("RecipeId", "RecipeIdExternalDataType"),
    ("ProductId", "ProductIdDataType"),
    ("Parameters", "BaseDataType[]"),
)
_PREPARE = (("ExternalId", "RecipeIdExternalDataType"), ("InternalIdIn", "RecipeIdInternalDataType"))

STATE_METHODS = {
    "Halt": Method(_WHY, _ERROR),
    "Reset": Method(_WHY, _ERROR),
    "SelectModeAutomatic": Method((), _ERROR),
}
AUTOMATIC_METHODS = {
    "StartSingleJob": Method(_START, (("JobId", "JobIdDataType"), *_ERROR)),
    "StartContinuous": Method(_START, (("JobId", "JobIdDataType"), *_ERROR)),
    "Stop": Method(_WHY, _ERROR),
    "Abort": Method(_WHY, _ERROR),
}
RECIPE_METHODS = {
    "PrepareRecipe": Method(
        _PREPARE, (("InternalIdOut", "RecipeIdInternalDataType"), ("IsCompleted", "Boolean"), *_ERROR)
    ),
    "UnprepareRecipe": Method(_PREPARE, (("InternalIdOut", "RecipeIdInternalDataType"), *_ERROR)),
    "GetRecipeListFiltered": Method(
        (
            ("ExternalId", "RecipeIdExternalDataType"),
            ("ProductId", "ProductIdDataType"),
            ("IsPrepared", "TriStateBooleanDataType"),
            *_PAGE,
        ),
        (
            ("IsComplete", "Boolean"),
            ("ResultCount", "UInt32"),
            ("RecipeHandle", "Handle"),
            ("RecipeList", "RecipeIdInternalDataType[]"),
            *_ERROR,
        ),
    ),
    "ReleaseRecipeHandle": Method((("RecipeHandle", "Handle"),), _ERROR),
}
_BY_ID = (("ResultId", "ResultIdDataType"), ("Timeout", "Int32"))
RESULT_METHODS = {
    "GetResultById": Method(_BY_ID, (("ResultHandle", "Handle"), ("Result", "ResultDataType"), *_ERROR)),
    "GetResultComponentsById": Method(
        _BY_ID,
        (
            ("HasTransferableDataOnFile", "Boolean"),
            ("ResultHandle", "Handle"),
            *((name, kind.replace("?", "")) for name, kind in RESULT_FIELDS[2:]),
            *_ERROR,
        ),
    ),
    "GetResultListFiltered": Method(
        (
            ("ResultState", "ResultStateDataType"),
            ("MeasId", "MeasIdDataType"),
            ("PartId", "PartIdDataType"),
            ("ExternalRecipeId", "RecipeIdExternalDataType"),
            ("InternalRecipeId", "RecipeIdInternalDataType"),
            ("ExternalConfigurationId", "ConfigurationIdDataType"),
            ("InternalConfigurationId", "ConfigurationIdDataType"),
            ("ProductId", "ProductIdDataType"),
            ("JobId", "JobIdDataType"),
            *_PAGE,
        ),
        (
            ("IsComplete", "Boolean"),
            ("ResultCount", "UInt32"),
            ("ResultHandle", "Handle"),
            ("ResultList", "ResultDataType[]"),
            *_ERROR,
        ),
    ),
    "ReleaseResultHandle": Method((("ResultHandle", "Handle"),), _ERROR),
}
