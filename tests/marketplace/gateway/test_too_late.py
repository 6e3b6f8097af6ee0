"""A call that outlasts its front goes on: nobody may be told that it cost nothing."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.conf import settings

from marketplace.gateway import bridge

from ..mesh.serving import fresh_name
from .conftest import Call

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_that_goes_on_is_not_said_to_be_free_and_names_its_receipt(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "GRACE_SECONDS", -settings.CALL_DEADLINE_SECONDS)
    answer = call(fresh_name("nothing"), {"values": [1]})
    problem = answer.json()
    assert (answer.status_code, problem["charged"], problem["retry_safe"]) == (504, None, False)
    assert str(UUID(answer["Inframind-Receipt"])) == answer["Inframind-Receipt"]
