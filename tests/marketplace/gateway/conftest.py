"""The gateway's tests run on the mesh of ``tests/marketplace/mesh``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from ..mesh.conftest import mesh, private_mesh

__all__ = ["mesh", "private_mesh"]

Call = Callable[..., Any]


@pytest.fixture
def call() -> Call:
    """POSTs a document to a model through the whole front; returns Django's response."""
    client = Client()

    def post(reference: str, document: Any, *, token: str = "", **headers: str) -> Any:
        content = document if isinstance(document, bytes) else json.dumps(document)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return client.post(
            f"/inference/v1/{reference}", content, content_type="application/json", headers=headers
        )

    return post
