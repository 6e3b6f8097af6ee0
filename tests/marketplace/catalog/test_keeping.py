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
    onnx_model,
    onnx_package,
    refusal,
    stored_packages,
    tar_of,
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


def test_a_private_package_is_not_sent_to_ipfs_by_reference_either(
    owner: Wallet, host: Callable[[bytes], str], settings: Settings
) -> None:
    settings.ARWEAVE_GATEWAY = host(onnx_package(PRIVATE).getvalue())
    settings.ALLOW_LOOPBACK_NODES = True
    reference = "ar://" + "A" * 43
    cid = get_store().add_package(onnx_package(PRIVATE), limits=PackageLimits()).cid
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        with pytest.raises(Problem) as caught:
            services.register(publisher=owner, reference=reference, expected_cid=cid)
        assert (caught.value.code, kubo.blocks, kubo.pins) == ("private-not-encrypted", {}, set())
        settings.ARWEAVE_GATEWAY = host(onnx_package().getvalue())
        with pytest.raises(Problem) as caught:
            services.register(publisher=owner, reference=reference, expected_cid=cid)
        assert (caught.value.code, kubo.blocks) == ("cid-mismatch", {})


@pytest.mark.parametrize("spelling", ["./model.yaml", "././model.yaml", "a.yaml"])
def test_on_ipfs_the_manifest_is_looked_for_as_the_store_reads_paths(
    owner: Wallet, settings: Settings, spelling: str
) -> None:
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        stream = tar_of({spelling: PRIVATE.encode(), "model.onnx": onnx_model()})
        problem = refusal(owner, stream)
        found = problem.code == "private-not-encrypted"
        assert (found, kubo.blocks) == (spelling != "a.yaml", {})


def test_a_private_package_is_not_sent_to_ipfs(owner: Wallet, settings: Settings) -> None:
    settings.IPFS_API = "/ip4/127.0.0.1/tcp/9/http"  # refused before it is asked
    problem = refusal(owner, onnx_package(PRIVATE))
    assert (problem.code, problem.status) == ("private-not-encrypted", 422)


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
