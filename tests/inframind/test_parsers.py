"""JSON bodies of the API."""

from __future__ import annotations

from io import BytesIO

import pytest

from inframind.lib.problem import Problem
from inframind.parsers import StrictJSONParser


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        StrictJSONParser().parse(BytesIO(body))
    return caught.value


def test_json_is_read() -> None:
    assert StrictJSONParser().parse(BytesIO('{"a": [1, "ü"]}'.encode())) == {"a": [1, "ü"]}


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b'{"a": 1,}'])
def test_what_is_no_json_is_400(body: bytes) -> None:
    assert (refusal(body).status, refusal(body).code) == (400, "malformed-json")


def test_a_million_brackets_are_refused_and_do_not_crash_the_process() -> None:
    assert refusal(b"[" * 1_000_000).code == "malformed-json"


def test_a_body_above_the_limit_is_413(settings: object) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10  # type: ignore[attr-defined]
    assert refusal(b'"' + b"a" * 10 + b'"').status == 413
