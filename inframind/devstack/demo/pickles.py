"""Reads the data out of pickles at build time without running what they name.

The packages hold no pickle: their builders read the numbers here and write plain formats.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray


class Record:
    """Stands for an instance of a foreign class: its attributes, none of its behaviour."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments


class JoblibArray(Record):
    """An array whose numbers joblib wrote into the file right behind its description."""

    file: ClassVar[BinaryIO]
    numbers: NDArray[Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        dtype: np.dtype[Any] = state["dtype"]
        if dtype.hasobject:
            raise pickle.UnpicklingError("An array of objects is not plain data.")
        padding_length = self.file.read(1)[0]
        self.file.read(padding_length)
        count = int(np.prod(state["shape"], dtype=np.int64))
        flat = np.frombuffer(self.file.read(count * dtype.itemsize), dtype)
        self.numbers = flat.reshape(state["shape"], order=state["order"])


def _array(_kind: object, typecode: str, _machine_format: int, data: bytes) -> NDArray[Any]:
    return np.frombuffer(data, f"<{typecode}")


def _scalar(dtype: np.dtype[Any], data: bytes) -> np.generic:
    number: np.generic = np.frombuffer(data, dtype)[0]
    return number


PLAIN: dict[tuple[str, str], Callable[..., Any]] = {
    ("array", "_array_reconstructor"): _array,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class PlainUnpickler(pickle.Unpickler):
    """Knows numbers, text and arrays; every other class becomes a `Record`."""

    def __init__(self, data: bytes) -> None:
        # A BytesIO cannot be peeked into, so the unpickler never reads ahead into an array.
        file = io.BytesIO(data)
        super().__init__(file)
        self._array_class = type("JoblibArray", (JoblibArray,), {"file": file})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._array_class
        return PLAIN.get((module, name), Record)


def read(data: bytes) -> Any:
    """Return the data in a pickle, instances as `Record`s.

    Arrays in joblib's uncompressed files come as `JoblibArray`s. Raises pickle.UnpicklingError for
    what is not plain data.
    """
    return PlainUnpickler(data).load()
