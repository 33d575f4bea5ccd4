"""A result and the ids of a request as the companion model's structures, and back."""

from typing import Any

from asyncua import ua

from station.opcua import companion
from station.opcua.results import HASH_ALGORITHM, Identity, Result
from station.opcua.types import Types


class Structures:
    """Makes values of structured types. Pure but for the classes that `Types` made."""

    def __init__(self, types: Types) -> None:
        self._types = types

    def identity(self, kind: str, identity: Identity) -> Any:
        """Return an id with its hash."""
        return self._types.structure(
            kind,
            Id=identity.id,
            Version=identity.version or None,
            Hash=bytes.fromhex(identity.sha256) if identity.sha256 else None,
            HashAlgorithm=HASH_ALGORITHM if identity.sha256 else None,
        )

    def named(self, kind: str, text: str) -> Any:
        """Return an id that is only a text."""
        return self._types.structure(kind, Id=text)

    def fields(self, result: Result, content: list[ua.Variant]) -> dict[str, Any]:
        """Return the fields of ResultDataType by name, in its order; what is not known is None."""
        times = self._types.structure(
            "ProcessingTimesDataType",
            StartTime=result.started,
            EndTime=result.created,
            AcquisitionDuration=result.acquisition_ms,
            ProcessingDuration=result.processing_ms,
        )
        return {
            "ResultId": self.named("ResultIdDataType", result.result_id),
            "HasTransferableDataOnFile": False,
            "IsPartial": False,
            "IsSimulated": result.is_simulated,
            "ResultState": result.result_state,
            "MeasId": self.named("MeasIdDataType", result.measurement) if result.measurement else None,
            "PartId": self.named("PartIdDataType", result.part_id) if result.part_id else None,
            "ExternalRecipeId": self.identity("RecipeIdExternalDataType", Identity(id=result.recipe.id)),
            "InternalRecipeId": self.identity("RecipeIdInternalDataType", result.recipe),
            "ProductId": None,
            "ExternalConfigurationId": self.identity("ConfigurationIdDataType", result.model),
            "InternalConfigurationId": self.identity("ConfigurationIdDataType", result.configuration),
            "JobId": self.named("JobIdDataType", result.job_id),
            "CreationTime": result.created,
            "ProcessingTimes": times,
            "ResultContent": content,
        }

    def result(self, result: Result, content: list[ua.Variant]) -> Any:
        """Return the whole ResultDataType."""
        return self._types.structure("ResultDataType", **self.fields(result, content))

    def empty(self, kind: str) -> Any:
        """Return a structure without content."""
        return self._types.structure(kind)

    def part(self, name: str, value: Any) -> ua.Variant:
        """Return one field of a result as an argument of its own; what is not known is empty."""
        kind = _KINDS[name].rstrip("?")
        if kind in companion.STRUCTURES:
            return ua.Variant(self.empty(kind) if value is None else value, ua.VariantType.ExtensionObject)
        if kind == "BaseDataType[]":
            return ua.Variant(value, ua.VariantType.Variant, is_array=True)
        plain = {"Boolean": ua.VariantType.Boolean, "UtcTime": ua.VariantType.DateTime}
        return ua.Variant(value, plain.get(kind, ua.VariantType.Int32))


_KINDS = dict(companion.RESULT_FIELDS)


def content_of(result: Result, verdict_json: bytes) -> list[ua.Variant]:
    """Return ResultContent: evaluation and its code of OPC 40001-101, then the verdict as JSON."""
    return [
        ua.Variant(result.evaluation, ua.VariantType.Int32),
        ua.Variant(result.reason, ua.VariantType.Int64),
        ua.Variant(verdict_json.decode(), ua.VariantType.String),
    ]


def id_in(argument: ua.Variant) -> str:
    """Return the Id of a structure that a client sent; empty: none."""
    found = getattr(argument.Value, "Id", None)
    return found.strip() if isinstance(found, str) else ""


def hash_in(argument: ua.Variant) -> str:
    """Return the hash of an id that a client sent, hex; empty: none."""
    found = getattr(argument.Value, "Hash", None)
    return found.hex() if isinstance(found, bytes) else ""


def number_in(argument: ua.Variant) -> int:
    """Return a number that a client sent; what is none is 0."""
    return argument.Value if isinstance(argument.Value, int) else 0
