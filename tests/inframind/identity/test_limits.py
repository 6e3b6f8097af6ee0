"""Who a stranger is, to whatever counts strangers."""

from __future__ import annotations

import pytest

from inframind.identity.limits import line_of


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", "unknown"),
    ],
)
def test_one_line_is_one_caller(address: str, line: str) -> None:
    assert line_of(address) == line
