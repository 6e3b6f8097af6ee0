"""The manifest `model.yaml`: its fields, their rules, and errors that name the line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from inframind.lib import names, semver
from inframind.lib.pointer import pointer_of
from inframind.lib.problem import Problem, Violation
from inframind.storage.references import ReferenceKind, parse_reference
from marketplace.catalog import schemas
from marketplace.catalog.manifestparts import (
    Access,
    Example,
    Instant,
    NumberOrText,
    Part,
    Pricing,
    Resources,
    Slug,
    Tolerance,
    Whole,
)
from marketplace.catalog.tensorspec import Tensors
from marketplace.catalog.yamldoc import Document, YamlRefused, load_yaml

FILE_NAME: Final = "model.yaml"
MAX_BYTES: Final = 256 << 10
SCHEMA_PATH: Final = "/api/v1/manifest.schema.json"

TASKS: Final = {
    "summarization": "Summarization",
    "text-generation": "Text generation",
    "text-classification": "Text classification",
    "token-classification": "Token classification",
    "translation": "Translation",
    "question-answering": "Question answering",
    "embedding": "Embedding",
    "language-identification": "Language identification",
    "moderation": "Moderation",
    "file-type": "File type",
    "speech-recognition": "Speech recognition",
    "voice-activity": "Voice activity",
    "text-to-speech": "Text to speech",
    "image-classification": "Image classification",
    "object-detection": "Object detection",
    "ocr": "Text in images",
    "image-generation": "Image generation",
    "tabular": "Tabular data",
    "forecasting": "Forecasting",
}
PRIVACY_RUNTIMES: Final = ("enclave", "zkml")
# Everything outside these is text, so an unquoted 1.0 stays "1.0" there.
_TYPED_FIELDS: Final = frozenset({"input_schema", "output_schema", "tensors", "examples"})

_NAME: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9]){1,62}", re.ASCII)
_LICENSE: Final = re.compile(
    r"\(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*(?: (?:AND|OR|WITH) \(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*)*",
    re.ASCII,
)
_PATH: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\\\0:][^\\\0:]{0,239}")
_CLASS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


class Manifest(Part):
    """A published model, as its package declares it."""

    name: str = Field("", description="2 to 63 lower-case letters, digits and hyphens.")
    version: Annotated[str, NumberOrText] = Field("", description="SemVer; 1.0 is read as 1.0.0.")
    description: str = Field(min_length=1, max_length=500)
    license: str = Field(max_length=60, description="An SPDX identifier or expression.")
    tags: tuple[Slug, ...] = Field((), max_length=12)
    task: Slug = Field(description="Known tasks: " + ", ".join(TASKS) + "; or a slug of your own.")
    runtime: Literal["onnx", "python", "container"]
    entrypoint: str = Field("", max_length=240)
    streaming: bool = Field(
        False, description="Answers come in pieces, each of which keeps output_schema."
    )
    protocol: Literal["", "http", "grpc"] = ""
    port: Whole | None = Field(None, ge=1, le=65535)
    hooks: dict[str, str] = Field({}, max_length=16)
    container: str = Field("", max_length=400, description="oci://registry/image@sha256:…")
    resources: Resources = Resources()
    stability: Literal["stable", "beta", "alpha", "experimental"] = "stable"
    privacy: tuple[Literal["enclave", "zkml"], ...] = ()
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None = None
    examples: tuple[Example, ...] = Field((), max_length=50)
    access: Access = Access()
    pricing: Pricing = Pricing()
    expires_at: Instant | None = None
    replaces: str = Field(
        "", max_length=130, description="A version of this model, or name[@version]."
    )

    @field_validator("name")
    @classmethod
    def _name(cls, text: str) -> str:
        # The form only: whether a well-formed name is free is for the registry to say.
        if text and (_NAME.fullmatch(text) is None or len(text) > names.MAX_CHARACTERS):
            return names.check_name(text)
        return text

    @field_validator("version")
    @classmethod
    def _version(cls, text: str) -> str:
        return plain_version(text) if text else text

    @field_validator("license")
    @classmethod
    def _license(cls, text: str) -> str:
        if _LICENSE.fullmatch(text) is None or text.count("(") != text.count(")"):
            raise ValueError(
                "use an SPDX identifier, like MIT, Apache-2.0 or LicenseRef-Proprietary"
            )
        return text

    @field_validator("tags", "privacy")
    @classmethod
    def _once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} stands here twice; keep one")
        return values

    @field_validator("container")
    @classmethod
    def _image(cls, text: str) -> str:
        if not text:
            return text
        reference = parse_reference(text if "://" in text else f"oci://{text}")
        if reference.kind is not ReferenceKind.OCI:
            raise ValueError(
                "refer to an image by its digest, like oci://registry/image@sha256:<64 hex>"
            )
        return str(reference)

    @field_validator("replaces")
    @classmethod
    def _replaced(cls, text: str) -> str:
        name, number = read_replaces(text) if text else (None, None)
        return f"{name}@{number}" if name and number else name or number or ""

    @model_validator(mode="after")
    def _runtime_fits(self) -> Self:
        for problem in _runtime_rules(self):
            raise ValueError(problem)
        return self

    def as_document(self) -> dict[str, Any]:
        """The normalised manifest as JSON; ``Manifest.model_validate`` reads it back."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def entry_file(self) -> str:
        """The package file that the runtime starts from; empty for containers."""
        if self.runtime == "onnx":
            return self.entrypoint or "model.onnx"
        if self.runtime == "python":
            return (self.entrypoint or "model.py:Model").partition(":")[0]
        return ""

    @property
    def entry_class(self) -> str:
        """The class in ``entry_file``, for the python runtime."""
        return (self.entrypoint or "model.py:Model").partition(":")[2] or "Model"


def _runtime_rules(manifest: Manifest) -> Iterator[str]:
    runtime, entrypoint = manifest.runtime, manifest.entrypoint
    if runtime == "onnx":
        if manifest.tensors is None:
            yield "runtime onnx needs tensors: say which property goes into which tensor"
        if entrypoint and not (_PATH.fullmatch(entrypoint) and entrypoint.endswith(".onnx")):
            yield "entrypoint of runtime onnx is a file of the package, like model.onnx"
    elif manifest.tensors is not None:
        yield f"runtime {runtime} has no tensors: remove them, the document travels as it is"
    if manifest.streaming and runtime != "python":
        yield f"streaming belongs to runtime python, not to {runtime}: remove it"
    if runtime == "python" and entrypoint:
        path, _, name = entrypoint.partition(":")
        if not (
            _PATH.fullmatch(path) and path.endswith(".py") and _CLASS.fullmatch(name or "Model")
        ):
            yield "entrypoint of runtime python is file and class, like summarizer.py:Summarizer"
    if runtime == "container":
        if not manifest.container:
            yield "runtime container needs container: oci://…@sha256:…"
    elif manifest.protocol or manifest.port or manifest.hooks:
        yield f"protocol, port and hooks belong to runtime container, not to {runtime}: remove them"


def plain_version(text: str) -> str:
    """Normalises a version. Raises ValueError, also for build metadata, which has no order."""
    number = semver.normalize(text)
    if "+" in number:
        raise ValueError(
            "build metadata (+…) does not order versions; raise the patch number instead"
        )
    return number


def read_replaces(text: str) -> tuple[str | None, str | None]:
    """Splits ``1.0``, ``name`` or ``name@1.0`` into (name, version). Raises ValueError."""
    name, at, number = text.partition("@")
    if at:
        return names.check_name(name), plain_version(number)
    try:
        return None, plain_version(text)
    except ValueError:
        return names.check_name(text), None


def parse_manifest(data: bytes) -> Manifest:
    """Reads `model.yaml`.

    Raises ``Problem`` ``manifest-invalid`` (422) whose violations carry pointer, line and remedy.
    """
    try:
        document = load_yaml(data, max_bytes=MAX_BYTES, keeps_source=_keeps_source)
    except YamlRefused as refused:
        raise _invalid((refused.violation,)) from None
    if not isinstance(document.value, dict):
        raise _invalid(
            (
                Violation(
                    "", "A manifest is a mapping.", "Begin with lines like `name: my-model`.", 1
                ),
            )
        )
    try:
        manifest = Manifest.model_validate(document.value)
    except ValidationError as error:
        raise _invalid(tuple(_violations(error, document))) from None
    found = tuple(_lined(violation, document) for violation in _schema_rules(manifest))
    if found:
        raise _invalid(found[: schemas.MAX_VIOLATIONS])
    return manifest


def manifest_json_schema() -> dict[str, Any]:
    """The JSON Schema of the manifest, for editors and publishers' own checks."""
    schema = Manifest.model_json_schema(mode="validation")
    schema["required"] = sorted({*schema["required"], "name", "version"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_PATH,
        **schema,
        "title": "InfraMind model manifest (model.yaml)",
    }


def known_task_like(task: str) -> str | None:
    """A known task that an unknown one may be a misspelling of."""
    if task in TASKS:
        return None
    return next(iter(difflib.get_close_matches(task, TASKS, n=1, cutoff=0.8)), None)


def _keeps_source(pointer: str) -> bool:
    return pointer.split("/", 2)[1:2] != [] and pointer.split("/", 2)[1] not in _TYPED_FIELDS


def _schema_rules(manifest: Manifest) -> Iterator[Violation]:
    """Both schemas are sound, and every example keeps them."""
    broken = False
    for field in ("input_schema", "output_schema"):
        for violation in schemas.check_schema(getattr(manifest, field), pointer=f"/{field}"):
            broken = True
            yield violation
    if broken:
        return
    sides = {
        "input": schemas.Validator(manifest.input_schema),
        "output": schemas.Validator(manifest.output_schema),
    }
    for index, example in enumerate(manifest.examples):
        if manifest.streaming and not (isinstance(example.output, list) and example.output):
            yield Violation(
                f"/examples/{index}/output",
                "The output of a streaming model's example is the list of its pieces.",
                "Write output: [piece, piece, …].",
            )
            continue
        for side, place, document in _sides(example, streaming=manifest.streaming):
            for each in sides[side].violations(document):
                yield Violation(
                    f"/examples/{index}/{place}{each.pointer}",
                    f"The example breaks the {side} schema: {each.detail}",
                    f"Mend the example or {side}_schema.",
                )


def _sides(example: Example, *, streaming: bool) -> Iterator[tuple[str, str, Any]]:
    """(side, place below the example, document) of all that a schema speaks of."""
    yield "input", "input", example.input
    if not streaming:
        yield "output", "output", example.output
        return
    for position, piece in enumerate(example.output):
        yield "output", f"output/{position}", piece


def _invalid(violations: tuple[Violation, ...]) -> Problem:
    first = violations[0]
    place = f" (line {first.line})" if first.line else ""
    return Problem(
        "manifest-invalid",
        f"{FILE_NAME} cannot be used: {first.pointer or 'the file'}{place}: {first.detail}"
        + (f" And {len(violations) - 1} more." if len(violations) > 1 else ""),
        status=422,
        remedy=first.remedy,
        violations=violations,
    )


def _lined(violation: Violation, document: Document) -> Violation:
    line = document.line_of(violation.pointer)
    return Violation(violation.pointer, violation.detail, violation.remedy, line)


def _violations(error: ValidationError, document: Document) -> Iterator[Violation]:
    # A misspelt field also shows as a missing one: the cause is told first.
    found = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    for each in found[: schemas.MAX_VIOLATIONS]:
        place = list(each["loc"])
        pointer = pointer_of(place)
        message, remedy = each["msg"], ""
        match each["type"]:
            case "extra_forbidden":
                message = f"The field {str(place[-1])[:80]!r} is unknown."
                remedy = _did_you_mean(str(place[-1]), _fields_at(place[:-1]))
            case "missing":
                message = f"The field {place[-1]!r} is missing."
                remedy = f"Add `{place[-1]}: …`."
            case "value_error":
                message = message.removeprefix("Value error, ")
                message = message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")
            case "literal_error":
                expected = str(each.get("ctx", {}).get("expected", ""))
                message = f"{str(each['input'])[:80]!r} is not one of {expected}."
                options = re.findall(r"'([^']+)'", expected)
                remedy = _did_you_mean(str(each["input"]), options)
            case "dict_type" | "model_type" | "model_attributes_type":
                message = "A mapping belongs here."
        yield Violation(pointer, message, remedy, document.line_of(pointer))


def _fields_at(place: list[str | int]) -> list[str]:
    """The fields that the model at a place has."""
    here: Any = Manifest
    parts = {
        "resources": Resources, "access": Access, "pricing": Pricing, "tensors": Tensors,
        "examples": Example, "tolerance": Tolerance,
    }  # fmt: skip
    for token in place:
        if isinstance(token, str):
            if here is Tensors and token in ("inputs", "outputs"):
                here = Tensors.model_fields["inputs"].annotation.__args__[0]  # type: ignore[union-attr]
            else:
                here = parts.get(token, here)
    return list(here.model_fields)


def _did_you_mean(word: str, options: list[str]) -> str:
    close = difflib.get_close_matches(word.lower(), options, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(sorted(options))}."
