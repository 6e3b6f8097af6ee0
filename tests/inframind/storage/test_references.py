import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inframind.storage.errors import CidMismatch, PackageRejected, ReferenceRefused
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits, StoredPackage
from inframind.storage.references import (
    Gateways,
    Reference,
    ReferenceKind,
    open_reference,
    parse_reference,
)

from .archives import package, zipped

_CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
_TXID = "bNbA3TEQVL60xlgCcqdz4ZPHFZ711cZ3hmkpGttDt_U"
_DIGEST = "sha256:" + "ab" * 32
_FILES = {"model.yaml": b"name: x", "w": b"1" * 200_000}
_ARCHIVE = package(_FILES)

Answer = Callable[[BaseHTTPRequestHandler], None]


class Gateway:
    """A web server of the outside world with an answer per path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gateway.asked.append(self.path)
                # A client that has seen enough hangs up, which is what some tests are about.
                with contextlib.suppress(ConnectionError):
                    gateway.answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:
                """Tests stay quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    thread = threading.Thread(target=gateway.server.serve_forever, args=(0.02,))
    thread.start()
    yield gateway
    gateway.server.shutdown()
    thread.join()
    gateway.server.server_close()


def _body(data: bytes, *, announced: int | None = None, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data) if announced is None else announced))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(data)

    return answer


def _status(status: int, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def _fetch(
    store: LocalStore,
    gateway: Gateway,
    uri: str = f"ar://{_TXID}",
    *,
    expected_cid: str | None = None,
    allow_loopback: bool = True,
    max_bytes: int = 1_000_000,
    time_limit_seconds: float = 20,
) -> StoredPackage:
    with open_reference(
        uri,
        gateways=Gateways(arweave=gateway.url),
        allow_loopback=allow_loopback,
        time_limit_seconds=time_limit_seconds,
    ) as stream:
        return store.add_package(
            stream,
            limits=PackageLimits(max_bytes=max_bytes),
            expected_cid=expected_cid or _expected(store),
        )


def _expected(store: LocalStore) -> str:
    scratch = LocalStore(store.root.parent / "scratch")
    return scratch.add_package(io.BytesIO(_ARCHIVE), limits=PackageLimits()).cid


def _kept(store: LocalStore) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        (f"ipfs://{_CID}", ReferenceKind.IPFS, _CID),
        (f"ar://{_TXID}", ReferenceKind.ARWEAVE, _TXID),
        ("https://x.example/a.tar?b=1", ReferenceKind.HTTPS, "https://x.example/a.tar?b=1"),
        (f"oci://ghcr.io/me/net@{_DIGEST}", ReferenceKind.OCI, f"ghcr.io/me/net@{_DIGEST}"),
        (f"oci://localhost:5000/a@{_DIGEST}", ReferenceKind.OCI, f"localhost:5000/a@{_DIGEST}"),
        (f"oci://r.example/a:1.0@{_DIGEST}", ReferenceKind.OCI, f"r.example/a@{_DIGEST}"),
    ],
)
def test_the_four_kinds_of_reference_are_read(text: str, kind: ReferenceKind, target: str) -> None:
    reference = parse_reference(text)
    assert reference == Reference(kind, target)
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no reference"), ("x", "no reference"), ("http://x.example/a", "no reference"),
        ("file:///etc/passwd", "no reference"), ("IPFS://" + _CID, "no reference"),
        ("ipfs://", "CID"), ("ipfs://x", "CID"), (f"ipfs://{_CID}/model.yaml", "CID"),
        ("ar://short", "43"), (f"ar://{_TXID}/x", "43"), (f"ar://{_TXID[:-1]}.", "43"),
        ("https://", "https URL"), ("https://u@x.example/", "https URL"),
        ("https://x/#y", "https URL"),
        ("https://[::1", "https URL"), ("https://x y/", "https URL"),
        ("oci://ghcr.io/me/net", "digest"), ("oci://ghcr.io/me/net:latest", "digest"),
        ("oci://ghcr.io/me/net@sha256:ab", "digest"), (f"oci://net@{_DIGEST}", "digest"),
        (f"oci://ghcr.io/Me/net@{_DIGEST}", "digest"),
        (f"oci://ghcr.io/../net@{_DIGEST}", "digest"),
        ("https://x.example/" + "a" * 600, "400"),
    ],
)  # fmt: skip
def test_other_references_are_refused_with_the_remedy(text: str, words: str) -> None:
    with pytest.raises(ReferenceRefused, match=words):
        parse_reference(text)


@pytest.mark.parametrize("data", [_ARCHIVE, zipped(_ARCHIVE)], ids=["plain", "zipped"])
def test_an_arweave_reference_is_fetched_once_and_kept(
    store: LocalStore, gateway: Gateway, data: bytes
) -> None:
    gateway.answers[f"/{_TXID}"] = _body(data, Content_Encoding="gzip")
    stored = _fetch(store, gateway)
    assert store.files(stored.cid) == stored.files
    assert gateway.asked == [f"/{_TXID}"]


def test_redirects_are_followed_and_each_hop_is_checked(
    store: LocalStore, gateway: Gateway
) -> None:
    gateway.answers[f"/{_TXID}"] = _status(302, Location="/there")
    gateway.answers["/there"] = _body(_ARCHIVE)
    assert _fetch(store, gateway).cid == _expected(store)
    for target in ("http://169.254.169.254/latest", "http://10.0.0.1/", "file:///etc/passwd"):
        gateway.answers[f"/{_TXID}"] = _status(301, Location=target)
        with pytest.raises(ReferenceRefused, match=r"public internet|neither http"):
            _fetch(store, gateway)
    gateway.answers[f"/{_TXID}"] = _status(302, Location="http://93.184.215.14/")
    with pytest.raises(ReferenceRefused, match="over https only"):
        _fetch(store, gateway)
    gateway.answers[f"/{_TXID}"] = _status(307, Location=f"/{_TXID}")
    with pytest.raises(ReferenceRefused, match="redirects more than 5"):
        _fetch(store, gateway)


def test_without_the_setting_this_machine_is_out_of_reach(
    store: LocalStore, gateway: Gateway
) -> None:
    port = gateway.server.server_port
    for uri in (f"ar://{_TXID}", f"https://localhost:{port}/x", f"https://127.0.0.1:{port}/x"):
        with pytest.raises(ReferenceRefused, match="public internet"):
            _fetch(store, gateway, uri, allow_loopback=False)
    assert gateway.asked == []
    assert _kept(store) == set()


def test_another_content_than_declared_is_not_kept(store: LocalStore, gateway: Gateway) -> None:
    gateway.answers[f"/{_TXID}"] = _body(_ARCHIVE)
    with pytest.raises(CidMismatch):
        _fetch(store, gateway, expected_cid=_CID)
    assert _kept(store) == set()


def test_a_broken_slow_or_large_answer_keeps_nothing(store: LocalStore, gateway: Gateway) -> None:
    path = f"/{_TXID}"
    gateway.answers[path] = _body(_ARCHIVE[:150_000], announced=len(_ARCHIVE))
    with pytest.raises((ReferenceRefused, PackageRejected), match=r"broke off|end mark"):
        _fetch(store, gateway)
    gateway.answers[path] = _body(_ARCHIVE)
    with pytest.raises(PackageRejected, match="more than 1000 bytes"):
        _fetch(store, gateway, max_bytes=1000)
    for status in (404, 500, 204, 304):
        gateway.answers[path] = _status(status)
        with pytest.raises(ReferenceRefused, match=str(status)):
            _fetch(store, gateway)

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(_ARCHIVE)))
        request.end_headers()
        for byte in _ARCHIVE[:100]:
            request.wfile.write(bytes((byte,)))
            time.sleep(0.05)

    gateway.answers[path] = drip
    started = time.monotonic()
    with pytest.raises(ReferenceRefused, match="too long"):
        _fetch(store, gateway, time_limit_seconds=0.5)
    assert time.monotonic() - started < 3
    assert _kept(store) == set()


def test_what_is_recorded_only_or_has_no_gateway_is_not_fetched(
    store: LocalStore, gateway: Gateway
) -> None:
    for uri in (f"ipfs://{_CID}", f"oci://ghcr.io/a@{_DIGEST}"):
        with pytest.raises(ReferenceRefused, match="recorded, not fetched"):
            _fetch(store, gateway, uri)
    with (
        pytest.raises(ReferenceRefused, match="ARWEAVE_GATEWAY"),
        open_reference(f"ar://{_TXID}", gateways=Gateways(), allow_loopback=True),
    ):
        pass
