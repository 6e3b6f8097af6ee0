"""Reading pickles as data: numbers come out, code does not run."""

import os
import pickle
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.devstack.demo import pickles


class Touch:
    """Makes a file when a common unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_what_a_pickle_would_run_is_kept_as_a_record(tmp_path: Path) -> None:
    target = tmp_path / "made"
    record = pickles.read(pickle.dumps(Touch(target)))
    assert record.arguments == (str(target),)
    assert not target.exists()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    assert pickles.read(pickle.dumps(value)) == value


@given(st.lists(st.integers(0, 65535)))
def test_typed_arrays_and_numpy_scalars_come_out_as_numbers(values: list[int]) -> None:
    numbers, scalar = pickles.read(pickle.dumps((array("H", values), np.float64(0.5))))
    assert numbers.tolist() == values
    assert scalar == 0.5


@pytest.mark.parametrize("padding", [0, 5])
def test_an_array_behind_its_description_is_read(padding: int) -> None:
    numbers = np.arange(6.0).reshape(2, 3)
    state = {"dtype": numbers.dtype, "shape": numbers.shape, "order": "C"}
    written = b"".join(
        [
            b"\x80\x03cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81",  # an instance of the class
            pickle.dumps(state, protocol=3)[2:-1] + b"b",  # its state
            bytes([padding]) + b"\xff" * padding + numbers.tobytes(),
            b"X\x05\x00\x00\x00after\x86.",  # a text, and both as a pair
        ]
    )
    read, after = pickles.read(written)
    assert after == "after"
    assert read.numbers.tolist() == numbers.tolist()


def test_an_array_of_objects_is_refused() -> None:
    state = {"dtype": np.dtype(object), "shape": (1,), "order": "C"}
    with pytest.raises(pickle.UnpicklingError, match="objects"):
        pickles.JoblibArray().__setstate__(state)
