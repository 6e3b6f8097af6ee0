"""Requests and answers of the Open Inference Protocol, against the client library's own encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.problem import Problem
from marketplace.gateway import oip
from marketplace.mesh.tensors import NUMPY_TYPES, BadOutput, document_specs

DTYPES = sorted(NUMPY_TYPES)
JSON_DTYPES = [each for each in DTYPES if each != "FP16"]


@dataclass(frozen=True)
class Spec:
    """What a manifest declares of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pointer: str = ""
    encoding: str = "plain"
    default: Any = None
    has_default: bool = False


@dataclass(frozen=True)
class Sent:
    """A request as the client library writes it, with what was declared for it."""

    body: bytes
    header_length: int | None
    inputs: list[Spec]
    rows: int | None
    max_batch_size: int

    def read(self, body: bytes | None = None) -> oip.Wish:
        return oip.read_request(
            self.body if body is None else body,
            self.header_length,
            inputs=self.inputs,
            outputs=OUTPUTS,
            max_batch_size=self.max_batch_size,
        )


OUTPUTS = [Spec("y", "FP32", (-1,)), Spec("word", "BYTES", ())]
NAMES = frozenset({"y", "word"})


def values(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    count = int(np.prod(shape))
    if dtype == "BYTES":
        each: st.SearchStrategy[Any] = st.text(max_size=9).map(str.encode)
    elif dtype == "BOOL":
        each = st.booleans()
    elif dtype.startswith("FP"):
        each = st.floats(width=16, allow_nan=False, allow_infinity=False)
    else:
        limits = np.iinfo(NUMPY_TYPES[dtype])
        each = st.integers(int(limits.min), int(limits.max))

    def array(items: list[Any]) -> np.ndarray[Any, Any]:
        data: np.ndarray[Any, Any] = np.empty(count, dtype=NUMPY_TYPES[dtype])
        data[:] = items
        return data.reshape(shape)

    return st.lists(each, min_size=count, max_size=count).map(array)


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    max_batch_size = draw(st.sampled_from([0, 0, 4]))
    rows = draw(st.integers(1, 4)) if max_batch_size else None
    specs, inputs = [], []
    for index in range(draw(st.integers(1, 3))):
        binary = draw(st.booleans())
        dtype = draw(st.sampled_from(DTYPES if binary else JSON_DTYPES))
        inner = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        spec = Spec(f"x{index}", dtype, tuple(draw(st.sampled_from([-1, n])) for n in inner))
        shape = (*([rows] if rows else []), *(inner or (1,)))
        item = triton.InferInput(spec.name, list(shape), dtype)
        item.set_data_from_numpy(draw(values(dtype, shape)), binary_data=binary)
        specs.append(spec)
        inputs.append(item)
    wanted = draw(st.sampled_from([None, ["y"], ["word", "y"]]))
    outputs = wanted and [
        triton.InferRequestedOutput(name, binary_data=draw(st.booleans())) for name in wanted
    ]
    body, length = triton.InferenceServerClient.generate_request_body(
        inputs,
        outputs=outputs,
        request_id=draw(st.text(max_size=5)),
        parameters=draw(st.sampled_from([None, {"mood": "calm", "n": 3, "x": 0.5, "y": True}])),
    )
    return Sent(body, length, specs, rows, max_batch_size)


@given(requests())
def test_whatever_the_client_library_encodes_is_read(sent: Sent) -> None:
    document = orjson.loads(sent.body[: sent.header_length])
    wish = sent.read()
    assert wish.id == document.get("id")
    assert wish.rows == sent.rows
    asked = document.get("outputs")
    assert wish.outputs == (frozenset(each["name"] for each in asked) if asked else NAMES)


@given(requests(), st.data())
def test_a_request_that_was_cut_or_grew_is_refused(sent: Sent, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(sent.body) - 1))
    for body in (sent.body[:cut], sent.body + b"\x00"):
        with pytest.raises(Problem) as refused:
            sent.read(body)
        assert refused.value.status == 422


@given(requests(), st.binary(max_size=300), st.none() | st.integers(0, 400))
def test_no_bytes_raise_anything_but_a_refusal(sent: Sent, body: bytes, length: int | None) -> None:
    with pytest.raises(Problem) as refused:
        oip.read_request(body, length, inputs=sent.inputs, outputs=OUTPUTS, max_batch_size=0)
    assert refused.value.status == 422


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=4),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "parameters", "data", "outputs", "y"]),
            each,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["id", "parameters", "inputs", "outputs", "other"]), ANYTHING)
def test_no_document_raises_anything_but_a_refusal(key: str, value: Any) -> None:
    told: tuple[Any, ...] = ("none",)
    try:
        _read(orjson.dumps({**_plain(), key: value}))
    except Problem as refused:
        told = refused.violations
    assert told


def _plain(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "INT8", "shape": [2], "data": [1, 2], **changes}
    return {"inputs": [tensor]}


def _read(body: bytes, **declared: Any) -> oip.Wish:
    given: dict[str, Any] = {
        "inputs": [Spec("x", "INT8", (-1,))],
        "outputs": OUTPUTS,
        "max_batch_size": 0,
    }
    return oip.read_request(body, None, **{**given, **declared})


def test_a_request_in_plain_json_is_read() -> None:
    assert _read(orjson.dumps(_plain())) == oip.Wish(None, None, NAMES)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({}, "/inputs"),
        ({"inputs": []}, "/inputs"),
        ({"inputs": [1]}, "/inputs/0"),
        ({**_plain(), "id": 3}, "/id"),
        ({**_plain(), "model_name": "other"}, "/model_name"),
        ({"inputs": _plain()["inputs"] * 2}, "/inputs/1/name"),
        (_plain(name="z"), "/inputs/0/name"),
        (_plain(datatype="INT16"), "/inputs/0/datatype"),
        (_plain(shape=[3]), "/inputs/0/data"),
        (_plain(shape=[1, 2]), "/inputs/0/shape"),
        (_plain(shape=[-1]), "/inputs/0/shape"),
        (_plain(shape=[True, 2]), "/inputs/0/shape"),
        (_plain(data=[1, 300]), "/inputs/0/data"),
        (_plain(data=[1, 2.0]), "/inputs/0/data"),
        (_plain(data=[True, False]), "/inputs/0/data"),
        (_plain(data=[[1], [2]]), "/inputs/0/data"),
        (_plain(data="ab"), "/inputs/0/data"),
        (_plain(parameters={"binary_data_size": 2}), "/inputs/0"),
        (_plain(parameters={"shared_memory_region": "r"}),
         "/inputs/0/parameters/shared_memory_region"),
        ({**_plain(), "parameters": {"sequence_id": 3}}, "/parameters/sequence_id"),
        ({**_plain(), "parameters": {"triton_final": True}}, "/parameters/triton_final"),
        ({**_plain(), "parameters": {"timeout": -1}}, "/parameters/timeout"),
        ({**_plain(), "parameters": {"a b": 1}}, "/parameters/a b"),
        ({**_plain(), "parameters": {"deep": {}}}, "/parameters/deep"),
        ({**_plain(), "outputs": [{"name": "z"}]}, "/outputs/0/name"),
        ({**_plain(), "outputs": [{"name": "y"}, {"name": "y"}]}, "/outputs/1/name"),
        (
            {**_plain(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
            "/outputs/0/parameters/classification",
        ),
        (
            {**_plain(), "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "/outputs/0/parameters/binary_data",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_pointed_to(document: Any, pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        _read(orjson.dumps(document))
    assert [each.pointer for each in refused.value.violations] == [pointer]


def test_a_header_with_a_key_twice_is_refused_since_two_readers_could_differ() -> None:
    inputs = orjson.dumps(_plain()["inputs"]).decode()
    body = f'{{"inputs": {inputs}, "inputs": []}}'
    with pytest.raises(Problem, match="twice"):
        _read(body.encode())


def test_nested_data_are_counted_flat() -> None:
    spec = Spec("x", "INT8", (-1, 2))
    document = _plain(shape=[2, 2], data=[[1, 2], [3, 4]])
    assert _read(orjson.dumps(document), inputs=[spec]).rows is None


@pytest.mark.parametrize("shape", [[], [0, 2], [5, 2]])
def test_a_batch_beyond_the_models_is_refused(shape: list[int]) -> None:
    document = _plain(shape=shape, data=[])
    with pytest.raises(Problem) as refused:
        _read(orjson.dumps(document), max_batch_size=4)
    assert refused.value.violations[0].pointer == "/inputs/0/shape"


def test_every_tensor_of_a_batch_has_the_same_rows() -> None:
    first = _plain(shape=[2, 1])["inputs"][0]
    second = {**first, "name": "z", "shape": [1, 2]}
    specs = [Spec("x", "INT8", (-1,)), Spec("z", "INT8", (-1,))]
    with pytest.raises(Problem) as refused:
        _read(orjson.dumps({"inputs": [first, second]}), inputs=specs, max_batch_size=4)
    assert refused.value.violations[0].pointer == "/inputs/1/shape"


@pytest.mark.parametrize("text", ["{", "", '{"a": 1} x'])
def test_a_document_tensor_holds_json(text: str) -> None:
    document = _plain(name="document", datatype="BYTES", shape=[1], data=[text])
    with pytest.raises(Problem) as refused:
        _read(orjson.dumps(document), inputs=document_specs(), outputs=document_specs())
    assert refused.value.violations[0].pointer == "/inputs/0/data"


def test_half_precision_is_asked_for_in_binary() -> None:
    outputs = [Spec("y", "FP16", (-1,))]
    with pytest.raises(Problem) as refused:
        _read(orjson.dumps(_plain()), outputs=outputs)
    assert refused.value.violations[0].pointer == "/parameters"
    asked = {**_plain(), "parameters": {"binary_data_output": True}}
    assert _read(orjson.dumps(asked), outputs=outputs).outputs == {"y"}


@pytest.mark.parametrize("text", ["", "-1", "1.0", "٣", "12345678901"])
def test_a_header_length_that_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        oip.header_length(text)
    assert refused.value.status == 422


# --- answers -------------------------------------------------------------------------------------

WISH = oip.Wish("seven", None, NAMES)
WORD = b"\x02\x00\x00\x00hi"


def _answer(**changes: Any) -> tuple[dict[str, Any], bytes]:
    y = {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    word = {
        "name": "word",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": 6},
    }
    header = {
        "id": "node's",
        "model_name": "v_0123",
        "model_version": "1",
        "parameters": {"secret": "of the node"},
        "outputs": [{**y, **changes}, word],
    }
    return header, np.array([1, 2], dtype=np.float32).tobytes() + WORD


def _rewritten(
    header: Any, data: bytes, wish: oip.Wish = WISH, max_batch_size: int = 0
) -> tuple[bytes, bytes]:
    text = header if isinstance(header, bytes) else orjson.dumps(header)
    told, rest = oip.rewritten(
        text + data,
        len(text) if data else None,
        wish,
        outputs=OUTPUTS,
        max_batch_size=max_batch_size,
        name="echo-v1",
        number="1.0.0",
    )
    return told, bytes(rest)


def test_an_answer_has_the_public_name_and_the_callers_id_and_its_bytes_as_they_came() -> None:
    header, data = _answer()
    told, rest = _rewritten(header, data)
    assert rest == data
    result = triton.InferenceServerClient.parse_response_body(told + rest, header_length=len(told))
    assert result.get_response() == {
        "model_name": "echo-v1",
        "model_version": "1.0.0",
        "id": "seven",
        "outputs": header["outputs"],
    }
    assert result.as_numpy("y").tolist() == [1.0, 2.0]
    assert result.as_numpy("word").tolist() == [b"hi"]


def test_an_answer_in_json_keeps_its_values() -> None:
    outputs = [{"name": "y", "datatype": "FP32", "shape": [3], "data": [0.1, -0.0, 1e30]}]
    told, rest = _rewritten({"outputs": outputs}, b"", oip.Wish(None, None, frozenset({"y"})))
    assert rest == b""
    document = {"model_name": "echo-v1", "model_version": "1.0.0", "outputs": outputs}
    assert orjson.loads(told) == document


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "z"},
        {"name": "word"},
        {"name": ["y"]},
        {"datatype": "FP64"},
        {"shape": [3]},
        {"shape": [1, 2]},
        {"shape": None},
        {"parameters": {"binary_data_size": 7}},
        {"parameters": {"binary_data_size": -8}},
        {"parameters": {"binary_data_size": 2**63}},
        {"parameters": {"binary_data_size": "8"}},
        {"parameters": [1]},
        {"parameters": None},
        {"parameters": None, "data": ["a", "b"]},
    ],
)
def test_an_answer_that_is_not_as_declared_is_not_delivered(changes: dict[str, Any]) -> None:
    with pytest.raises(BadOutput):
        _rewritten(*_answer(**changes))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"outputs": 3}', b'{"outputs": [3]}', b'{"outputs": []}', b"\xff"],
)
def test_an_answer_that_is_none_is_not_delivered(content: bytes) -> None:
    with pytest.raises(BadOutput):
        _rewritten(content, b"")


@pytest.mark.parametrize("length", [-1, 0])
def test_an_answer_whose_header_has_no_length_is_not_delivered(length: int) -> None:
    header, data = _answer()
    # Counted from the end, that would be the header.
    from_the_end = length * len(data)
    with pytest.raises(BadOutput, match="as long as it says"):
        oip.rewritten(
            orjson.dumps(header) + data,
            from_the_end,
            WISH,
            outputs=OUTPUTS,
            max_batch_size=0,
            name="e",
            number="1",
        )


@given(st.binary(max_size=200), st.none() | st.integers(0, 300))
def test_no_bytes_of_a_node_raise_anything_else(content: bytes, length: int | None) -> None:
    with pytest.raises(BadOutput):
        oip.rewritten(
            content, length, WISH, outputs=OUTPUTS, max_batch_size=0, name="e", number="1"
        )


@given(ANYTHING)
def test_no_outputs_of_a_node_raise_anything_else(outputs: Any) -> None:
    with pytest.raises(BadOutput):
        _rewritten({"outputs": outputs}, b"")


@pytest.mark.parametrize(
    ("header", "data"),
    [(_answer()[0], _answer()[1][:-1]), (_answer()[0], _answer()[1] + b"x")],
)
def test_an_answer_that_was_cut_or_grew_is_not_delivered(header: Any, data: bytes) -> None:
    with pytest.raises(BadOutput):
        _rewritten(header, data)


def test_an_answer_of_other_rows_than_were_sent_is_not_delivered() -> None:
    outputs = [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [1.0, 2.0]}]
    asked = frozenset({"y"})
    _rewritten({"outputs": outputs}, b"", oip.Wish(None, 2, asked), max_batch_size=4)
    with pytest.raises(BadOutput):
        _rewritten({"outputs": outputs}, b"", oip.Wish(None, 1, asked), max_batch_size=4)
