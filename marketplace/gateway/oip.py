"""Documents of the Open Inference Protocol v2, with the binary tensor extension: pure rules.

Of a request only the JSON header is read: its names, types, shapes and sizes are held against what
the version declares, and the bytes go on as they came. Of an answer only the header is written
anew, with the model's public name in place of the node's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from inframind.lib.pointer import escape
from inframind.lib.problem import Problem, Violation
from marketplace.gateway import body as bodies
from marketplace.gateway.oiptensors import (
    Unfit,
    check_carried,
    check_octets,
    check_values,
    shaped,
)
from marketplace.mesh.tensors import BadOutput, Spec

EXTENSIONS: Final = ("binary_tensor_data", "parameters", "model_configuration", "statistics")
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_LENGTH: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_PARAMETER: Final = re.compile(r"[!-~]{1,120}", re.ASCII)
_REFUSED_PARAMETERS: Final = ("sequence_", "triton_", "shared_memory_")
_REQUEST_KEYS: Final = frozenset({"id", "parameters", "inputs", "outputs"})
_INPUT_KEYS: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_KEYS: Final = frozenset({"name", "parameters"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of the answer.

    ``rows``: the batch dimension of every tensor, None where the model has none. ``outputs``: the
    names that were asked for, in no order.
    """

    id: str | None
    rows: int | None
    outputs: frozenset[str]


def header_length(text: str | None) -> int | None:
    """The length of the JSON header in bytes, from its HTTP header; None: the body is all JSON.

    Raises a 422 ``Problem``.
    """
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None:
        raise _refused(Unfit("", f"The header {HEADER_LENGTH} is not a length in bytes."))
    return int(text)


def configured(spec: Spec) -> dict[str, Any]:
    """A tensor as a model configuration names it; its dimensions are without the batch's."""
    kind = "STRING" if spec.dtype == "BYTES" else spec.dtype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape) or [1]}


def read_request(
    body: bytes,
    length: int | None,
    *,
    inputs: Sequence[Spec],
    outputs: Sequence[Spec],
    max_batch_size: int,
) -> Wish:
    """Holds an inference request against the tensors that the version declares.

    Every input has to be there, of its type and shape, with as many bytes as that takes; what
    would reach past the model (shared memory, sequences, the node's own parameters) is refused.
    Raises a 422 ``Problem`` with pointers into the JSON header.
    """
    whole = len(body)
    size = whole if length is None else length
    try:
        if size > whole:
            raise Unfit("", f"{HEADER_LENGTH} is {size}, and the body has {whole} bytes.")
        document = bodies.read(body if size == whole else body[:size], max_bytes=whole)
        if not isinstance(document, dict):
            raise Unfit("", "An inference request is a JSON object.")
        _only(document, _REQUEST_KEYS, "")
        name = document.get("id")
        if name is not None and not isinstance(name, str):
            raise Unfit("/id", "The id of a request is a text.")
        binary = _parameters(document.get("parameters"))
        asked = _asked(document.get("outputs"), outputs, binary=binary)
        view = memoryview(body)[size:]
        rows = _inputs(
            document.get("inputs"), inputs, view, max_batch_size, framed=length is not None
        )
        return Wish(name, rows, asked)
    except Unfit as error:
        raise _refused(error) from None


def _inputs(
    given: Any, specs: Sequence[Spec], view: memoryview, max_batch_size: int, *, framed: bool
) -> int | None:
    if not isinstance(given, list):
        raise Unfit("/inputs", "The inputs are a list of tensors.")
    wanted = {spec.name: spec for spec in specs}
    rows: int | None = None
    at = 0
    for index, each in enumerate(given):
        pointer = f"/inputs/{index}"
        if not isinstance(each, dict):
            raise Unfit(pointer, "An input is an object with name, datatype, shape and data.")
        _only(each, _INPUT_KEYS, pointer)
        spec = wanted.pop(_name(each, pointer), None)
        if spec is None:
            raise Unfit(f"{pointer}/name", _all_of(specs, "input"))
        count, rows = shaped(each, spec, rows, max_batch_size, pointer)
        size = _binary_size(each.get("parameters"), pointer)
        if size is None:
            if "data" not in each:
                raise Unfit(pointer, "The input has neither data nor a binary_data_size.")
            check_values(each["data"], spec, count, f"{pointer}/data", len(each["shape"]))
            continue
        if "data" in each:
            raise Unfit(pointer, "The input has both data and a binary_data_size.")
        if not framed:
            raise Unfit(pointer, f"Binary data needs the HTTP header {HEADER_LENGTH}.")
        if at + size > len(view):
            raise Unfit(pointer, f"The body ends before this input's {size} bytes.")
        check_octets(view[at : at + size], spec, count, pointer)
        at += size
    if wanted:
        raise Unfit("/inputs", f"The input {next(iter(wanted))} is missing.")
    if at != len(view):
        raise Unfit("", f"{len(view) - at} bytes follow the last input.")
    return rows


def _binary_size(parameters: Any, pointer: str) -> int | None:
    if parameters is None:
        return None
    where = f"{pointer}/parameters"
    if not isinstance(parameters, dict):
        raise Unfit(where, "Parameters are an object.")
    _only(parameters, frozenset({"binary_data_size"}), where)
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise Unfit(f"{where}/binary_data_size", "This is a number of bytes.")
    return size


def _asked(given: Any, specs: Sequence[Spec], *, binary: bool) -> frozenset[str]:
    known = {spec.name: spec for spec in specs}
    if given is None or given == []:
        for spec in specs:
            check_carried(spec, binary, "/parameters")
        return frozenset(known)
    if not isinstance(given, list):
        raise Unfit("/outputs", "The outputs are a list.")
    names: set[str] = set()
    for index, each in enumerate(given):
        pointer = f"/outputs/{index}"
        if not isinstance(each, dict):
            raise Unfit(pointer, "An output that is asked for is an object with a name.")
        _only(each, _OUTPUT_KEYS, pointer)
        name = _name(each, pointer)
        if name not in known or name in names:
            raise Unfit(f"{pointer}/name", _all_of(specs, "output"))
        parameters = each.get("parameters")
        wants = binary
        if parameters is not None:
            where = f"{pointer}/parameters"
            if not isinstance(parameters, dict):
                raise Unfit(where, "Parameters are an object.")
            _only(parameters, frozenset({"binary_data"}), where)
            wants = parameters.get("binary_data", binary)
            if not isinstance(wants, bool):
                raise Unfit(f"{where}/binary_data", "This is true or false.")
        check_carried(known[name], wants, pointer)
        names.add(name)
    return frozenset(names)


def _parameters(given: Any) -> bool:
    """Whether every output is to be binary unless it says otherwise."""
    if given is None:
        return False
    if not isinstance(given, dict):
        raise Unfit("/parameters", "Parameters are an object.")
    for name, value in given.items():
        pointer = f"/parameters/{escape(name)}"
        if _PARAMETER.fullmatch(name) is None or name.startswith(_REFUSED_PARAMETERS):
            raise Unfit(pointer, "This parameter is not for callers: calls stand for themselves.")
        if type(value) not in (bool, int, float, str):
            raise Unfit(pointer, "A parameter is a text, a number, true or false.")
        if name in ("priority", "timeout") and (type(value) is not int or value < 0):
            raise Unfit(pointer, "This is a whole number from 0.")
    binary = given.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise Unfit("/parameters/binary_data_output", "This is true or false.")
    return binary


def _only(given: dict[str, Any], allowed: frozenset[str], pointer: str) -> None:
    if not given.keys() <= allowed:
        name = next(key for key in given if key not in allowed)
        known = ", ".join(sorted(allowed))
        raise Unfit(f"{pointer}/{escape(name)}", f"Only {known} can stand here.")


def _name(given: dict[str, Any], pointer: str) -> str:
    name = given.get("name")
    if not isinstance(name, str):
        raise Unfit(f"{pointer}/name", "A tensor has a name, a text.")
    return name


def _all_of(specs: Sequence[Spec], what: str) -> str:
    names = ", ".join(spec.name for spec in specs)
    if len(specs) == 1:
        return f"The model has one {what}, {names}, given once."
    return f"The model's {what}s are {names}, each once."


def _refused(error: Unfit) -> Problem:
    return Problem(
        "invalid-input",
        error.detail,
        status=422,
        violations=(Violation(error.pointer, error.detail),),
        remedy="Compare the request with the model's metadata: GET /v2/models/<name>.",
    )


def rewritten(
    content: bytes,
    length: int | None,
    wish: Wish,
    *,
    outputs: Sequence[Spec],
    max_batch_size: int,
    name: str,
    number: str,
) -> tuple[bytes, memoryview]:
    """A node's answer as the caller gets it: its JSON header, and the binary data as they came.

    Raises ``BadOutput`` for tensors that were not asked for, or are not as declared.
    """
    size = len(content) if length is None else length
    view = memoryview(content)
    try:
        if not 0 < size <= len(content):
            raise Unfit("", "its header is not as long as it says")
        document = orjson.loads(view[:size])
        given = document["outputs"]
        kept = _outputs(given, view[size:], wish, {s.name: s for s in outputs}, max_batch_size)
    except Unfit as error:
        raise BadOutput(f"The node's answer is not as declared: {error.detail}") from None
    except orjson.JSONDecodeError as error:
        raise BadOutput(f"The node's answer cannot be read: {error}.") from None
    except (KeyError, TypeError):
        raise BadOutput("The node's answer is not an inference response.") from None
    header: dict[str, Any] = {"model_name": name, "model_version": number}
    if wish.id is not None:
        header["id"] = wish.id
    header["outputs"] = kept
    return orjson.dumps(header), view[size:]


def _outputs(
    given: list[dict[str, Any]],
    data: memoryview,
    wish: Wish,
    specs: dict[str, Spec],
    max_batch_size: int,
) -> list[dict[str, Any]]:
    missing = set(wish.outputs)
    rows, at = wish.rows, 0
    kept: list[dict[str, Any]] = []
    for each in given:
        name = each["name"]
        if name not in missing:
            raise Unfit("", f"the output {str(name)[:80]!r} was not asked for, or comes twice.")
        missing.remove(name)
        spec = specs[name]
        count, _ = shaped(each, spec, rows, max_batch_size, "")
        tensor = {"name": name, "datatype": spec.dtype, "shape": each["shape"]}
        parameters = each.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise Unfit("", f"the parameters of {name} are no object.")
        size = parameters.get("binary_data_size")
        if size is None:
            values = each["data"]
            check_values(values, spec, count, "", len(each["shape"]))
            kept.append({**tensor, "data": values})
            continue
        if type(size) is not int or not 0 <= size <= len(data) - at:
            raise Unfit("", f"the data of {name} are cut short.")
        check_octets(data[at : at + size], spec, count, "")
        at += size
        kept.append({**tensor, "parameters": {"binary_data_size": size}})
    if missing:
        raise Unfit("", f"the output {min(missing)} is missing.")
    if at != len(data):
        raise Unfit("", f"{len(data) - at} bytes follow the last output.")
    return kept
