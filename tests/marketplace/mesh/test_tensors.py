"""Documents to tensors and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.problem import Problem
from marketplace.catalog.tensorspec import TensorSpec
from marketplace.mesh.tensors import BadOutput, Tensor, decode, document_specs, encode

RANGES = {
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}


def spec(dtype: str = "FP32", shape: Any = (-1,), **extra: Any) -> TensorSpec:
    return TensorSpec.model_validate({"name": "x", "dtype": dtype, "shape": shape, **extra})


def holding(dtype: str, shape: tuple[int, ...], array: Any) -> Tensor:
    return Tensor("x", dtype, shape, array.tobytes())


def there_and_back(value: Any, each: TensorSpec, batch: int) -> Any:
    tensors = encode({"x": value}, [each], max_batch_size=batch)
    return decode(tensors, [each], max_batch_size=batch)["x"]


@given(data=st.data(), batch=st.sampled_from([0, 4]))
def test_whole_numbers_of_every_type_survive(data: st.DataObject, batch: int) -> None:
    dtype = data.draw(st.sampled_from(sorted(RANGES)))
    low, high = RANGES[dtype]
    value = data.draw(st.lists(st.integers(low, high), max_size=6))
    assert there_and_back(value, spec(dtype), batch) == value


@given(value=st.lists(st.text(), max_size=5), batch=st.sampled_from([0, 4]))
def test_texts_survive(value: list[str], batch: int) -> None:
    encodable = [text.encode("utf-8", "replace").decode() for text in value]
    assert there_and_back(encodable, spec("BYTES"), batch) == encodable


@given(value=st.text(), encoding=st.sampled_from(["utf8"]))
def test_text_as_octets_survives(value: str, encoding: str) -> None:
    encodable = value.encode("utf-8", "replace").decode()
    assert there_and_back(encodable, spec("UINT8", encoding=encoding), 0) == encodable


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abc"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    )
)
def test_whole_documents_survive(value: Any) -> None:
    tensors = encode(value, document_specs(), max_batch_size=0)
    assert tensors[0].shape == (1,)
    assert decode(tensors, document_specs(), max_batch_size=0) == value


@pytest.mark.parametrize(
    ("each", "value", "shape", "batch_shape"),
    [
        (spec("INT64", ()), 7, (1,), (1, 1)),
        (spec("BOOL", ()), True, (1,), (1, 1)),
        (spec("FP32", (2, 3)), [[1, 2, 3], [4, 5, 6]], (2, 3), (1, 2, 3)),
        (spec("FP32", (-1, 3)), [], (0, 3), (1, 0, 3)),
        (spec("UINT8", encoding="base64"), "aGk=", (2,), (1, 2)),
    ],
)
def test_shapes_on_the_wire(each: TensorSpec, value: Any, shape: Any, batch_shape: Any) -> None:
    assert encode({"x": value}, [each], max_batch_size=0)[0].shape == shape
    assert encode({"x": value}, [each], max_batch_size=2)[0].shape == batch_shape
    assert there_and_back(value, each, 0) == value


@pytest.mark.parametrize(
    ("each", "value", "pointer"),
    [
        (spec(), 1, "/x"),
        (spec(), [1, "2"], "/x/1"),
        (spec(), [1, True], "/x/1"),
        (spec(), [1e39], "/x/0"),
        (spec("FP64"), [10**400], "/x/0"),
        (spec("FP32", (2,)), [1], "/x"),
        (spec("FP32", (-1, -1)), [[1], [1, 2]], "/x/1"),
        (spec("FP32", (-1, 2)), [[1, 2], 3], "/x/1"),
        (spec("INT8"), [0, 128], "/x/1"),
        (spec("UINT8", ()), -1, "/x"),
        (spec("INT32"), [1.5], "/x/0"),
        (spec("BYTES"), [None], "/x/0"),
        (spec("BOOL"), [1], "/x/0"),
        (spec("UINT8", encoding="base64"), "a", "/x"),
        (spec("UINT8", encoding="base64"), [1], "/x"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(
    each: TensorSpec, value: Any, pointer: str
) -> None:
    with pytest.raises(Problem) as caught:
        encode({"x": value}, [each], max_batch_size=0)
    assert caught.value.status == 422
    assert [violation.pointer for violation in caught.value.violations] == [pointer]


def test_an_absent_property_takes_its_default_or_is_missed() -> None:
    assert encode({}, [spec("INT64", (), default=3)], max_batch_size=0)[0].array.tolist() == [3]
    with pytest.raises(Problem) as caught:
        encode({}, [spec()], max_batch_size=0)
    assert caught.value.violations[0].pointer == "/x"


def test_pointers_lead_into_nested_documents() -> None:
    inner = spec("INT64", (), pointer="/a/b~1c")
    assert encode({"a": {"b/c": 5}}, [inner], max_batch_size=0)[0].array.tolist() == [5]
    tensor = holding("INT64", (1,), np.array([5]))
    assert decode([tensor], [inner], max_batch_size=0) == {"a": {"b/c": 5}}


@pytest.mark.parametrize(
    ("tensors", "each"),
    [
        ([], spec()),
        ([holding("FP64", (1,), np.ones(1))], spec()),
        ([holding("FP32", (1, 1), np.ones((1, 1), np.float32))], spec()),
        ([holding("FP32", (3,), np.ones(3, np.float32))], spec("FP32", (2,))),
        ([holding("FP32", (1,), np.array([math.nan], np.float32))], spec()),
        ([holding("FP32", (1,), np.array([-math.inf], np.float32))], spec()),
        ([holding("UINT8", (1,), np.array([255], np.uint8))], spec("UINT8", encoding="utf8")),
        (
            [Tensor("x", "BYTES", (1,), [b"{"])],
            spec("BYTES", (), encoding="json"),
        ),
        ([Tensor("x", "BYTES", (1,), [b"\xff"])], spec("BYTES")),
    ],
)
def test_a_bad_output_is_never_a_document(tensors: list[Tensor], each: Any) -> None:
    with pytest.raises(BadOutput):
        decode(tensors, [each], max_batch_size=0)


@pytest.mark.parametrize("shape", [(2**62, 0), (0, 2**62), (2**20, 2**20, 0), (2**16 + 1, 0)])
def test_a_tensor_without_elements_is_no_cause_for_endless_lists(shape: tuple[int, ...]) -> None:
    tensor = Tensor("x", "FP32", shape, b"")
    with pytest.raises(BadOutput, match="no elements"):
        decode([tensor], [spec("FP32", (-1,) * len(shape))], max_batch_size=0)


@pytest.mark.parametrize(("shape", "expected"), [((3, 0), [[], [], []]), ((0, 3), [])])
def test_empty_rows_are_a_fine_output(shape: tuple[int, ...], expected: Any) -> None:
    tensor = Tensor("x", "FP32", shape, b"")
    assert decode([tensor], [spec("FP32", (-1, -1))], max_batch_size=0) == {"x": expected}


def test_an_empty_list_is_a_fine_output() -> None:
    tensor = holding("FP32", (0,), np.empty(0, np.float32))
    assert decode([tensor], [spec()], max_batch_size=0) == {"x": []}


def test_a_batched_answer_has_exactly_the_row_asked_for() -> None:
    tensor = holding("FP32", (2, 1), np.ones((2, 1), np.float32))
    with pytest.raises(BadOutput, match="one row"):
        decode([tensor], [spec()], max_batch_size=4)
