import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.ids import new_uuid7, uuid7

_TIMES = st.integers(0, 2**48 - 1)
_RANDOM = st.binary(min_size=10, max_size=10)


def test_the_example_of_rfc_9562() -> None:
    random = ((0xCC3 << 62) | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert uuid7(0x017F22E279B0, random) == uuid.UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@given(_TIMES, _TIMES, _RANDOM, _RANDOM)
def test_ids_sort_by_time_and_are_of_version_7(
    earlier: int, later: int, one: bytes, other: bytes
) -> None:
    first, second = uuid7(earlier, one), uuid7(later, other)
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    if earlier != later:
        assert (first < second) == (earlier < later)


def test_ids_of_this_moment_are_distinct() -> None:
    assert len({new_uuid7() for _ in range(1000)}) == 1000


def test_values_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        uuid7(2**48, bytes(10))
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(0, bytes(9))
