"""Tensors on the wire, beside what Triton's own client writes and reads."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st

from marketplace.mesh.client import ModelFailed
from marketplace.mesh.tensors import NUMPY_TYPES, Tensor
from marketplace.mesh.wireform import Incoming, Outgoing, outgoing_of, tensors_of

DTYPES = sorted(NUMPY_TYPES)
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)


@st.composite
def tensors(draw: st.DrawFn, dtype: str | None = None) -> Tensor:
    kind = dtype or draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    count = int(np.prod(shape))
    name = draw(names)
    if kind == "BYTES":
        texts = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        return Tensor(name, kind, shape, texts)
    if kind == "BOOL":
        bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        return Tensor(name, kind, shape, bytes(bits))
    size = count * np.dtype(NUMPY_TYPES[kind]).itemsize
    return Tensor(name, kind, shape, draw(st.binary(min_size=size, max_size=size)))


def whole(outgoing: Outgoing) -> bytes:
    body = outgoing.body
    return body if isinstance(body, bytes) else b"".join(body)


@given(
    given_tensors=st.lists(tensors(), min_size=1, max_size=3),
    timeout_us=st.none() | st.integers(0, 2**40),
)
def test_a_request_says_what_tritons_own_client_would(
    given_tensors: list[Tensor], timeout_us: int | None
) -> None:
    inputs = []
    for each in given_tensors:
        inputs.append(triton.InferInput(each.name, list(each.shape), each.dtype))
        inputs[-1].set_data_from_numpy(each.array)
    expected, length = triton.InferenceServerClient.generate_request_body(
        inputs, timeout=timeout_us
    )

    found = outgoing_of(given_tensors, timeout_us=timeout_us)
    body = whole(found)

    assert found.size_bytes == len(body)
    assert found.header_length is not None
    assert json.loads(body[: found.header_length]) == json.loads(expected[:length])
    assert body[found.header_length :] == expected[length:]


@pytest.mark.parametrize("size", [10, 200_000])
def test_large_data_are_not_copied_into_one_body(size: int) -> None:
    outgoing = outgoing_of([Tensor("x", "UINT8", (size,), bytes(size))])
    assert isinstance(outgoing.body, tuple) == (size > 65536)
    assert outgoing.size_bytes == len(whole(outgoing))


def answer_of(given_tensors: list[Tensor], **changes: Any) -> Incoming:
    outputs, pieces = [], []
    for each in given_tensors:
        data = (
            b"".join(len(text).to_bytes(4, "little") + text for text in each.texts)
            if each.dtype == "BYTES"
            else each.data
        )
        assert isinstance(data, bytes)
        pieces.append(data)
        outputs.append(
            {
                "name": each.name,
                "datatype": each.dtype,
                "shape": list(each.shape),
                "parameters": {"binary_data_size": len(data)},
                **changes,
            }
        )
    header = orjson.dumps({"model_name": "m", "model_version": "1", "outputs": outputs})
    return Incoming(header + b"".join(pieces), len(header))


@given(given_tensors=st.lists(tensors(), max_size=3))
def test_an_answer_gives_its_tensors_back(given_tensors: list[Tensor]) -> None:
    assert tensors_of(answer_of(given_tensors)) == given_tensors


@given(given_tensors=st.lists(tensors(), min_size=1, max_size=3))
def test_arrays_are_those_that_tritons_own_client_reads(given_tensors: list[Tensor]) -> None:
    named = [
        Tensor(f"{index}", each.dtype, each.shape, each.data)
        for index, each in enumerate(given_tensors)
    ]
    answer = answer_of(named)
    read = triton.InferenceServerClient.parse_response_body(
        answer.content, header_length=answer.header_length
    )
    for each in tensors_of(answer):
        if np.prod(each.shape):
            theirs = read.as_numpy(each.name)
            assert theirs.dtype == each.array.dtype
            assert theirs.shape == each.array.shape
            assert theirs.tobytes() == each.array.tobytes() or each.dtype == "BYTES"
            assert each.dtype != "BYTES" or theirs.tolist() == each.array.tolist()


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "expected"),
    [
        ("INT8", [3], [1, -2, 3], b"\x01\xfe\x03"),
        ("INT16", [1, 2], [[1, 258]], b"\x01\x00\x02\x01"),
        ("INT16", [1, 2], [1, 258], b"\x01\x00\x02\x01"),
        ("BOOL", [2], [True, False], b"\x01\x00"),
        ("FP32", [1], [1.5], b"\x00\x00\xc0\x3f"),
        ("FP32", [0], [], b""),
        ("BYTES", [2], ["a", "é"], [b"a", "é".encode()]),
    ],
)
def test_data_in_the_json_are_read_too(dtype: str, shape: Any, data: Any, expected: Any) -> None:
    output = {"name": "x", "datatype": dtype, "shape": shape, "data": data}
    content = orjson.dumps({"outputs": [output]})
    for length in (None, len(content)):
        (found,) = tensors_of(Incoming(content, length))
        assert found == Tensor("x", dtype, tuple(shape), expected)


ONE = {"name": "x", "datatype": "INT8", "shape": [1]}
TEXT = {**ONE, "datatype": "BYTES"}


def binary(described: Any, data: bytes, size: Any = None, **more: Any) -> Incoming:
    described = {
        **described,
        "parameters": {"binary_data_size": len(data) if size is None else size},
        **more,
    }
    header = orjson.dumps({"outputs": [described]})
    return Incoming(header + data, len(header))


@pytest.mark.parametrize(
    "answer",
    [
        Incoming(b"", None),
        Incoming(b"null", None),
        Incoming(b"[]", None),
        Incoming(b"{}", None),
        Incoming(b'{"outputs":1}', None),
        Incoming(b'{"outputs":[1]}', None),
        Incoming(b'{"outputs":["x"]}', None),
        Incoming(b'{"outputs":[{}]}', None),
        Incoming(b'{"outputs":[]}', 0),
        Incoming(b'{"outputs":[]}', -1),
        Incoming(b'{"outputs":[]}', 99),
        Incoming(b'{"outputs":[]}x', 14),
        Incoming(b'{"outputs":[]}', 5),
        Incoming(orjson.dumps({"outputs": [ONE]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "parameters": 1}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": 1}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": [1, 2]}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": [1.5]}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": [300]}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": ["1"]}]}), None),
        Incoming(orjson.dumps({"outputs": [{**ONE, "data": {"a": 1}}]}), None),
        Incoming(orjson.dumps({"outputs": [{**TEXT, "data": [1]}]}), None),
        binary(ONE, b""),
        binary(ONE, b"\x00\x00"),
        binary(ONE, b"\x00", size=2),
        binary(ONE, b"\x00", size=-1),
        binary(ONE, b"\x00", size=True),
        binary(ONE, b"\x00", size="1"),
        binary(ONE, b"\x00", size=0),
        binary(ONE, b"\x00", name=None),
        binary(ONE, b"\x00", datatype="BF16"),
        binary(ONE, b"\x00", datatype=[]),
        binary(ONE, b"\x00", shape=1),
        binary(ONE, b"\x00", shape=[-1]),
        binary(ONE, b"\x00", shape=[1.0]),
        binary(ONE, b"\x00", shape=[2**62, 2**62]),
        binary(ONE, b"\x00", shape=[1] * 65),
        binary(TEXT, b""),
        binary(TEXT, b"\x01\x00\x00"),
        binary(TEXT, b"\x01\x00\x00\x00"),
        binary(TEXT, b"\x00\x00\x00\x00\x00"),
        binary(TEXT, b"\xff\xff\xff\xff"),
        binary(TEXT, b"\x00\x00\x00\x00" * 2),
        binary(TEXT, b"\x00\x00\x00\x00", shape=[2**62]),
    ],
)
def test_what_is_no_answer_is_the_models_failure(answer: Incoming) -> None:
    with pytest.raises(ModelFailed):
        tensors_of(answer)


@pytest.mark.parametrize(
    "described",
    [
        {**ONE, "name": "n" * 100_000, "shape": None},
        {**ONE, "datatype": "T" * 100_000},
        {**ONE, "shape": [9] * 100_000},
    ],
)
def test_what_is_told_of_a_bad_answer_is_short(described: Any) -> None:
    with pytest.raises(ModelFailed) as caught:
        tensors_of(binary(described, b"\x00"))
    assert len(str(caught.value)) < 500


@given(content=st.binary(max_size=60), length=st.none() | st.integers(-2, 70))
def test_no_octets_raise_anything_else(content: bytes, length: int | None) -> None:
    with contextlib.suppress(ModelFailed):
        tensors_of(Incoming(content, length))


@given(data=st.data())
def test_a_changed_answer_is_read_or_refused(data: st.DataObject) -> None:
    answer = answer_of([data.draw(tensors())])
    octets = bytearray(answer.content)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for content in (bytes(octets), bytes(octets[:cut])):
        with contextlib.suppress(ModelFailed):
            tensors_of(Incoming(content, answer.header_length))
