"""The declaration that ties a document's places to a model's tensors."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inframind.lib.pointer import pointer_of

DTYPES: Final = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
)  # fmt: skip
Dtype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Encoding = Literal["plain", "base64", "utf8", "json"]

_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~0|~1)*)*")
_MAX_DIMENSIONS: Final = 8


class TensorSpec(BaseModel):
    """One tensor: its Open Inference Protocol name, type and shape, and its place in the document.

    ``shape`` is without the batch dimension; ``()`` is a JSON scalar, -1 any length.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=120, pattern=r"^[\x21-\x7e]+$")
    pointer: str = Field(max_length=400, description='JSON pointer into the document; "/" + name.')
    dtype: Dtype
    shape: tuple[int, ...] = Field(max_length=_MAX_DIMENSIONS)
    encoding: Encoding = "plain"
    default: Any = Field(None, description="Used when the property is absent; inputs only.")

    @model_validator(mode="before")
    @classmethod
    def _place_by_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "pointer" not in data and isinstance(data.get("name"), str):
            return {**data, "pointer": pointer_of([data["name"]])}
        return data

    @field_validator("pointer")
    @classmethod
    def _is_pointer(cls, pointer: str) -> str:
        if _POINTER.fullmatch(pointer) is None:
            raise ValueError("is not a JSON pointer; write it like /text or /items/0")
        return pointer

    @field_validator("shape", mode="before")
    @classmethod
    def _dimensions(cls, shape: Any) -> Any:
        if not isinstance(shape, list | tuple):
            raise ValueError("is not a list of lengths; write [] for one value, [-1] for a list")
        for length in shape:
            if type(length) is not int or not (length == -1 or 1 <= length <= 2**31):
                raise ValueError(f"has the length {length!r}; use a number from 1, or -1 for any")
        return shape

    @model_validator(mode="after")
    def _encoding_fits(self) -> Self:
        if self.encoding in ("base64", "utf8") and (self.dtype != "UINT8" or len(self.shape) != 1):
            raise ValueError(f"encoding {self.encoding} needs dtype UINT8 and a shape like [-1]")
        if self.encoding == "json" and (self.dtype != "BYTES" or self.shape):
            raise ValueError("encoding json needs dtype BYTES and shape []")
        return self

    @property
    def has_default(self) -> bool:
        """Whether a default stands in for an absent property."""
        return "default" in self.model_fields_set


class Tensors(BaseModel):
    """What goes into an ONNX model and what comes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Above 0 every tensor has a leading batch dimension that shapes do not name.",
    )
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)

    @field_validator("inputs", "outputs")
    @classmethod
    def _apart(cls, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        names = [spec.name for spec in specs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tensors are called {name!r}")
        for spec in specs:
            for other in specs:
                if spec is not other and f"{other.pointer}/".startswith(f"{spec.pointer}/"):
                    raise ValueError(
                        f"{spec.name!r} and {other.name!r} overlap at {spec.pointer or '/'}; "
                        "give each a place of its own"
                    )
        return specs

    @field_validator("outputs")
    @classmethod
    def _no_defaults(cls, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        for spec in specs:
            if spec.has_default:
                raise ValueError(f"the output {spec.name!r} has a default; only inputs may")
        return specs
