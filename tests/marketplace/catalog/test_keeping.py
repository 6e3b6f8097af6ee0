"""What is stored: fetched references, what IPFS is never sent, and what is swept."""

from __future__ import annotations

import http.server
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import Settings

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from inframind.storage.packages import PackageLimits
from inframind.storage.store import get_store
from marketplace.catalog import services, tasks
from tests.inframind.storage.kubo import KuboNode
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import (
    MANIFEST,
    PRIVATE,
    nothing_is_there,
    onnx_package,
    refusal,
    stored_packages,
)


@pytest.fixture
def host() -> Iterator[Callable[[bytes], str]]:
    """Serves one body on this machine."""
    body = b""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def serve(content: bytes) -> str:
        nonlocal body
        body = content
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_reference_is_fetched_through_the_gateway_and_hashed(
    owner: Wallet, publish: Publish, host: Callable[[bytes], str], settings: Settings
) -> None:
    cid = publish().cid
    settings.ARWEAVE_GATEWAY = host(onnx_package(MANIFEST).getvalue())
    settings.ALLOW_LOOPBACK_NODES = True
    reference = "ar://" + "A" * 43
    again = services.register(publisher=owner, reference=reference, expected_cid=cid)
    assert (again.created, again.version.cid) == (False, cid)
    settings.ALLOW_LOOPBACK_NODES = False
    with pytest.raises(Problem) as caught:
        services.register(publisher=owner, reference=reference, expected_cid=cid)
    assert caught.value.code == "reference-refused"


def test_content_of_another_cid_never_reaches_ipfs(
    owner: Wallet, host: Callable[[bytes], str], settings: Settings
) -> None:
    settings.ARWEAVE_GATEWAY = host(onnx_package().getvalue())
    settings.ALLOW_LOOPBACK_NODES = True
    cid = get_store().add_package(onnx_package(PRIVATE), limits=PackageLimits()).cid
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        with pytest.raises(Problem) as caught:
            services.register(publisher=owner, reference="ar://" + "A" * 43, expected_cid=cid)
        assert (caught.value.code, kubo.blocks, kubo.pins) == ("cid-mismatch", {}, set())


def test_what_a_lost_process_stored_is_swept_after_a_day(publish: Publish, store_dir: Path) -> None:
    version = publish()
    other = MANIFEST.replace("1.0", "2.0")
    lost, young = (
        get_store().add_package(onnx_package(manifest), limits=PackageLimits()).cid
        for manifest in (other, MANIFEST.replace("1.0", "3.0"))
    )
    for cid in (version.cid, lost):
        os.utime(store_dir / "packages" / cid, (1, 1))
    out = io.StringIO()
    call_command("sweep_packages", stdout=out)
    assert out.getvalue() == "removed 1 packages, and 0 blocks beside them\n"
    assert stored_packages(store_dir) == sorted([version.cid, young])
    assert publish(other).cid == lost
    tasks.sweep_packages()
    assert stored_packages(store_dir) == sorted([version.cid, lost, young])


def test_a_reference_needs_its_cid(owner: Wallet) -> None:
    with pytest.raises(Problem) as caught:
        services.register(publisher=owner, reference="ar://" + "A" * 43)
    assert caught.value.code == "cid-required"


@pytest.mark.parametrize("cid", ["nonsense", "Qm" + "a" * 44, "b" * 59])
def test_a_declared_cid_that_is_none_is_refused(owner: Wallet, store_dir: Path, cid: str) -> None:
    problem = refusal(owner, onnx_package(), expected_cid=cid)
    assert (problem.code, problem.status) == ("invalid-request", 422)
    assert nothing_is_there(store_dir)
