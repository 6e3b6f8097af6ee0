"""The store on an IPFS node (Kubo's RPC API): the same CIDs, and none of the trust."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import requests

from inframind.lib.cid import CHUNK_BYTES, FAN_OUT, Cid, parse_cid
from inframind.lib.dagpb import MAX_BLOCK_BYTES
from inframind.storage.dag import BlockReader
from inframind.storage.errors import ContentNotFound, HashMismatch, StoreUnavailable
from inframind.storage.local import staging_directory, sweep_staging
from inframind.storage.packages import (
    PackageLimits,
    StoredPackage,
    read_package,
    require_cid,
)
from inframind.storage.tar import Readable

# The client's own patch of requests passes what urllib3 is about to refuse; it goes without.
os.environ.setdefault("PY_IPFS_HTTP_CLIENT_PATCH_REQUESTS", "no")
import ipfshttpclient
from ipfshttpclient import exceptions as ipfs_errors

READ_TIMEOUT_SECONDS: Final = 30.0
WRITE_TIMEOUT_SECONDS: Final = 300.0


class IpfsStore(BlockReader):
    """Packages on an IPFS node, pinned there while they are kept.

    `api` is a multiaddr or an http(s) URL without a path; `root` a directory of this machine with
    `staging/` (uploads under way) and `pinned/` (a mark for each package that was sent, since the
    node's other pins are not ours to remove). Blocks from the node are hashed like any others.
    """

    def __init__(
        self, api: str, *, root: Path, read_timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> None:
        self._address = multiaddr_of(api)
        self._staging = root / "staging"
        self._pinned = root / "pinned"
        self._read_timeout_seconds = read_timeout_seconds
        self._threads = threading.local()

    def add_package(
        self, stream: Readable, *, limits: PackageLimits, expected_cid: str | None = None
    ) -> StoredPackage:
        """Checks a tar stream wholly on this machine, then adds and pins its files on the node.

        Raises PackageRejected, CidMismatch, and StoreUnavailable when the node fails or computes
        another CID than we do.
        """
        with staging_directory(self._staging) as staged, contextlib.ExitStack() as open_file:
            content = staged / "package"

            def copy(path: str) -> Callable[[bytes], object]:
                open_file.close()
                target = content / path
                target.parent.mkdir(parents=True, exist_ok=True)
                file: IO[bytes] = open_file.enter_context(target.open("wb"))
                return file.write

            package = read_package(stream, limits=limits, emit=_drop, copy=copy)
            open_file.close()
            require_cid(package, expected_cid)
            # Marked first: a process that dies while sending leaves something to sweep.
            self._pinned.mkdir(parents=True, exist_ok=True)
            (self._pinned / package.cid).touch()
            self._upload(content, package.cid)
        return package

    def exists(self, cid: str) -> bool:
        """Says whether the node pins the package; raises StoreUnavailable."""
        try:
            with self._node_errors():
                self._client.pin.ls(
                    _checked(cid), type="recursive", timeout=self._read_timeout_seconds
                )
        except ContentNotFound:
            return False
        return True

    def delete(self, cid: str) -> None:
        """Unpins the package, so that the node may collect it; raises StoreUnavailable."""
        with contextlib.suppress(ContentNotFound), self._node_errors():
            self._client.pin.rm(_checked(cid), timeout=self._read_timeout_seconds)
        with contextlib.suppress(ContentNotFound):
            (self._pinned / _checked(cid)).unlink(missing_ok=True)

    def kept(self) -> Iterator[tuple[str, float]]:
        """Yields the CID of each package sent from here and when, in unix seconds."""
        if self._pinned.is_dir():
            for mark in self._pinned.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    yield mark.name, mark.stat().st_mtime

    def collect(self) -> int:
        """Sweeps abandoned uploads; the blocks are the node's to collect, so the answer is 0."""
        if self._staging.is_dir():
            sweep_staging(self._staging)
        return 0

    def load_block(self, cid: Cid) -> bytes:
        """Fetches a block from the node, unchecked; raises ContentNotFound, StoreUnavailable."""
        block = b""
        with (
            self._node_errors(),
            self._client.block.get(
                str(cid), stream=True, timeout=self._read_timeout_seconds
            ) as pieces,
        ):
            for piece in pieces:
                block += piece
                if len(block) > MAX_BLOCK_BYTES:
                    raise HashMismatch(str(cid), "it is larger than any block")
        return block

    def _upload(self, content: Path, cid: str) -> None:
        with self._node_errors():
            answers = self._client.add(
                str(content),
                recursive=True,
                cid_version=1,
                raw_leaves=True,
                chunker=f"size-{CHUNK_BYTES}",
                pin=True,
                # Nodes outside the 2025 profile would link only 174 chunks per node.
                opts={"max-file-links": FAN_OUT},
                timeout=WRITE_TIMEOUT_SECONDS,
            )
        roots = [answer["Hash"] for answer in answers if answer["Name"] == content.name]
        # The text may come in another base, so the bytes are what is compared.
        if len(roots) == 1 and _same(roots[0], cid):
            return
        with contextlib.suppress(ContentNotFound, StoreUnavailable), self._node_errors():
            for root in roots:
                self._client.pin.rm(root, timeout=self._read_timeout_seconds)
        raise StoreUnavailable(
            f"The IPFS node computed {', '.join(roots) or 'no root'} for a package that is {cid}. "
            "Give the node the import profile unixfs-v1-2025."
        )

    @property
    def _client(self) -> Any:
        """A session of this thread; `Client` skips the version check that refuses current nodes."""
        client = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = ipfshttpclient.Client(
                self._address, session=True, timeout=self._read_timeout_seconds
            )
        return client

    @contextlib.contextmanager
    def _node_errors(self) -> Iterator[None]:
        """Translates what the client library raises into our errors."""
        try:
            yield
        except ipfs_errors.ErrorResponse as error:
            text = str(error)
            if "not found" in text or "not pinned" in text:
                raise ContentNotFound(f"The IPFS node does not have it: {text}") from error
            raise StoreUnavailable(f"The IPFS node refused: {text}") from error
        except ipfs_errors.TimeoutError as error:
            raise StoreUnavailable(
                "The IPFS node did not answer in time; it may not have the content. Try again, or "
                "check that some reachable node provides it."
            ) from error
        except (ipfs_errors.Error, requests.RequestException) as error:
            raise StoreUnavailable(
                f"The IPFS node at {self._address} cannot be used: {error}. Check IPFS_API and "
                "that the node runs."
            ) from error


def multiaddr_of(api: str) -> str:
    """Returns the multiaddr of an RPC API given as multiaddr or as http(s) URL.

    Raises ValueError for anything else.
    """
    if api.startswith("/"):
        return api
    url = urlsplit(api)
    if url.scheme not in ("http", "https") or not url.hostname or url.path not in ("", "/"):
        raise ValueError(
            f"{api!r} is no address of an IPFS API. Write it like http://127.0.0.1:5001 or "
            "/ip4/127.0.0.1/tcp/5001."
        )
    host = url.hostname
    named = "ip4" if host.replace(".", "").isdigit() else "dns"
    kind = "ip6" if ":" in host else named
    port = url.port or (443 if url.scheme == "https" else 80)
    return f"/{kind}/{host}/tcp/{port}/{url.scheme}"


def _checked(cid: str) -> str:
    try:
        return str(parse_cid(cid))
    except ValueError as error:
        raise ContentNotFound(str(error)) from error


def _same(answer: str, cid: str) -> bool:
    try:
        return parse_cid(answer) == parse_cid(cid)
    except ValueError:
        return False


def _drop(cid: Cid, block: bytes) -> None:
    """The node makes its own blocks; ours were only needed for their CIDs."""
