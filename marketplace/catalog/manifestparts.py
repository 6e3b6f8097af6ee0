"""The parts of a manifest that seed a policy or bound a run, and the types of its fields."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from inframind.lib.addresses import checksum_address, payee_address
from inframind.lib.amounts import format_ifm, parse_ifm

_SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_CPU: Final = re.compile(
    r"(?P<number>[0-9]{1,4}(?:\.[0-9]{1,3})?)|(?P<milli>[0-9]{1,6})m", re.ASCII
)
_MEMORY: Final = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>|Ki|Mi|Gi|Ti|k|M|G|T)", re.ASCII)
_UNITS: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip
_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999


def _slug(text: str) -> str:
    if _SLUG.fullmatch(text) is None:
        raise ValueError(
            "use lower-case letters, digits and single hyphens, like text-classification"
        )
    return text


def _whole(value: Any) -> Any:
    # Outside the typed fields the reader leaves numbers as they were written.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    return value


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    text = str(value)
    if re.fullmatch(r"[0-9]{1,12}", text) and int(text) <= _LAST_SECOND:
        return datetime.fromtimestamp(int(text), UTC)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("write unix seconds like 1790000000, or a time like 2027-01-31T12:00:00Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("that time is outside the years 1 to 9999") from None


Slug = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_slug)]
Whole = Annotated[int, BeforeValidator(_whole)]
Address = Annotated[str, AfterValidator(checksum_address)]
Payee = Annotated[str, AfterValidator(payee_address)]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "date-time"}]}
    ),
]
NumberOrText = WithJsonSchema({"type": ["string", "number"]})


class Part(BaseModel):
    """A mapping of the manifest: unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(Part):
    """What the model asks of a node."""

    cpu: Annotated[str, NumberOrText] = Field("1", description="Cores: 2, 0.5 or 500m.")
    memory: Annotated[str, NumberOrText] = Field(
        "1Gi", description="Bytes, with a unit: 512Mi, 4Gi."
    )
    gpu: Whole = Field(0, ge=0, le=16, description="Number of GPUs.")

    @field_validator("cpu", mode="after")
    @classmethod
    def _cores(cls, text: str) -> str:
        if _CPU.fullmatch(text) is None:
            raise ValueError("write cores like 2, 0.5 or 500m")
        return text

    @field_validator("memory", mode="after")
    @classmethod
    def _bytes(cls, text: str) -> str:
        if _MEMORY.fullmatch(text) is None:
            raise ValueError("write bytes with a unit, like 512Mi or 4Gi")
        return text

    @property
    def cpu_millicores(self) -> int:
        match = _CPU.fullmatch(self.cpu)
        if match is None:
            raise ValueError(self.cpu)
        return int(match["milli"]) if match["milli"] else int(Decimal(match["number"]) * 1000)

    @property
    def memory_bytes(self) -> int:
        match = _MEMORY.fullmatch(self.memory)
        if match is None:
            raise ValueError(self.memory)
        return int(match["number"]) * _UNITS[match["unit"]]


class Access(Part):
    """Who may see and call the model. Seeds a policy that changes apart from the package."""

    public: bool = True
    auth_required: bool = Field(
        False,
        description="Calls need a token. Always so when not public, or with an allow_list.",
    )
    allow_list: tuple[Address, ...] = Field(
        (),
        max_length=1000,
        description="Who may call it, beside the owner. Taken out of the package on its way in.",
    )

    @model_validator(mode="before")
    @classmethod
    def _private_needs_tokens(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        private = str(data.get("public", True)).lower() in ("false", "no", "off")
        if private or data.get("allow_list"):
            return {"auth_required": True, **data}
        return data

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.public and not self.auth_required:
            raise ValueError("a private model needs auth_required: true; set it or leave it out")
        if self.allow_list and not self.auth_required:
            raise ValueError("an allow_list needs auth_required: true; set it or leave it out")
        return self


class Pricing(Part):
    """What a call costs and who is paid. Seeds terms that change apart from the package."""

    per_request_fee: Annotated[str, NumberOrText] = Field("0 IFM", description='Like "0.25 IFM".')
    payout_address: Payee | None = Field(None, description="The publisher's wallet by default.")

    @field_validator("per_request_fee")
    @classmethod
    def _amount(cls, text: str) -> str:
        return format_ifm(parse_ifm(text))

    @property
    def fee_base_units(self) -> int:
        return parse_ifm(self.per_request_fee)


class Tolerance(Part):
    """How far a number may lie from its golden value: ``absolute + relative * |golden|``."""

    absolute: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0, le=1)


class Example(Part):
    """A golden input and output that the model must reproduce."""

    name: str = Field("", max_length=80)
    input: Any
    output: Any
    tolerance: Tolerance = Tolerance()

    @field_validator("tolerance", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        return {"absolute": value} if type(value) in (int, float) else value
