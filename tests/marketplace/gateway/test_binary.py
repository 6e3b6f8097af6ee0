"""What is sent in binary is what PostgreSQL reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.gateway import batches, binary

pytestmark = pytest.mark.django_db

in_the_database = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=80)
uuids = st.uuids()


def read(octets: bytes, kind: str) -> Any:
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.adapters.register_dumper(batches.Encoded, batches.EncodedDumper)
        cursor.execute(f"SELECT %s::{kind}", [batches.Encoded(octets)])
        [(found,)] = cursor.fetchall()
    return found


@in_the_database
@given(st.lists(st.none() | uuids, max_size=5))
def test_uuids(values: list[UUID | None]) -> None:
    assert read(binary.uuids(values), "uuid[]") == values


@in_the_database
@given(st.lists(texts, max_size=5), st.lists(st.none() | texts, max_size=5))
def test_texts(values: list[str], with_nulls: list[str | None]) -> None:
    assert read(binary.rare_texts(values), "text[]") == values
    assert read(binary.texts(with_nulls), "text[]") == with_nulls


@in_the_database
@given(st.lists(st.integers(0, 10**78 - 1), max_size=5))
def test_numerics(values: list[int]) -> None:
    assert [int(each) for each in read(binary.numerics(values), "numeric[]")] == values
    for each in values:
        assert int(read(binary.numeric(each), "numeric")) == each


@in_the_database
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.booleans(), max_size=5),
    st.lists(st.binary(max_size=40), max_size=5),
    st.lists(st.lists(uuids, max_size=3), max_size=3),
)
def test_the_others(
    numbers: list[int], flags: list[bool], octets: list[bytes], lists: list[list[UUID]]
) -> None:
    assert read(binary.bigints(numbers), "bigint[]") == numbers
    assert read(binary.booleans(flags), "boolean[]") == flags
    assert read(binary.octets(octets), "bytea[]") == octets
    literals = read(binary.uuid_lists(lists), "text[]")
    assert [read(each.encode(), "text") for each in literals] == literals
    assert [each[1:-1].split(",") if each != "{}" else [] for each in literals] == [
        [str(one) for one in each] for each in lists
    ]


def test_single_values() -> None:
    assert read(binary.bigint(-5), "bigint") == -5
    assert read(binary.integer(2**31 - 1), "integer") == 2**31 - 1
    assert read(binary.numeric(10**40), "numeric") == 10**40
    at = datetime(2026, 11, 24, 19, 30, 5, 123_456, tzinfo=UTC)
    unix_us = batches.microseconds(at)
    assert read(binary.timestamp(unix_us), "timestamptz") == at
    assert binary.unix_us(binary.timestamp(unix_us)) == unix_us


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_what_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        binary.bigints([number])
    with pytest.raises(OverflowError):
        binary.integer(number)


def test_a_numeric_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below zero"):
        binary.numerics([-1])
