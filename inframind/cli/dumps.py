"""What an epoch publishes, fetched: the bytes count only if they are those that the CID names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from inframind.cli import progress, refusal
from inframind.cli.client import Server
from inframind.cli.terminal import plain
from inframind.lib.cid import FileBuilder, parse_cid
from inframind.lib.receiptdump import Reader
from inframind.lib.rewards import Dump

MAX_TREE_BYTES: Final = 1024 * 1024 * 1024
# A batch is what one commit held; what is longer than this is no line of ours.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_UNSEALED: Final = ("open", "closing")


def epoch(server: Server, number: int | None) -> dict[str, Any]:
    """What the server says of an epoch; without a number, of the newest one that is sealed.

    Raises Refusal where it is not sealed, or where none is.
    """
    if number is not None:
        found = server.get(f"/api/v1/epochs/{number}")
        if found.get("state") in _UNSEALED:
            raise refusal.failed(
                "epoch-not-sealed",
                f"Epoch {number} is {plain(found['state'])}: nothing of it is published yet.",
                "Come back when it is closed, or name an older one with --epoch.",
                retry_safe=True,
            )
        return found
    for found in every_epoch(server):
        if found.get("state") not in _UNSEALED:
            return found
    raise refusal.failed(
        "epoch-not-sealed",
        "No epoch is sealed yet: there is nothing to verify.",
        "Come back when the first one is closed.",
        retry_safe=True,
    )


def every_epoch(server: Server) -> Iterator[dict[str, Any]]:
    """The epochs that the server lists, the newest first."""
    page = server.get("/api/v1/epochs")
    while True:
        yield from page.get("results") or []
        following = str(page.get("next") or "")
        # Only at the server itself: the token goes nowhere else.
        if not following.startswith(server.url("/api/v1/epochs?")):
            return
        page = server.get(following.removeprefix(server.settings.url))


def tree(server: Server, number: int, cid: str) -> Dump:
    """The dump of an epoch's tree. Raises Refusal unless its bytes hash to the CID."""
    body = bytearray()
    for piece in _pieces(server, f"/api/v1/epochs/{number}/tree", cid, f"Tree of epoch {number}"):
        body += piece
        if len(body) > MAX_TREE_BYTES:
            raise refusal.failed(
                "answer-too-large", f"The tree of epoch {number} is more than can be held."
            )
    try:
        return Dump.parse(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise refusal.failed(
            "unreadable-dump",
            f"The tree of epoch {number} cannot be read: {error}",
            "It is what its CID says, so it was published like that: tell the server's operator.",
        ) from error


def read_receipts(server: Server, number: int, cid: str, reader: Reader) -> None:
    """Feeds an epoch's receipts to a reader as they come.

    Raises Refusal unless the bytes hash to the CID; what the reader found counts only then.
    """
    path = f"/api/v1/epochs/{number}/receipts"
    unread = b""
    try:
        for piece in _pieces(server, path, cid, f"Receipts of epoch {number}"):
            *lines, unread = (unread + piece).split(b"\n")
            if len(unread) > MAX_LINE_BYTES:
                raise ValueError("one of its lines is too long.")
            for line in lines:
                reader.feed(line)
        if unread:
            reader.feed(unread)
        reader.finish()
    except (ValueError, RecursionError) as error:
        raise refusal.failed(
            "unreadable-dump",
            f"The receipts of epoch {number} cannot be read: {error}",
            "Tell the server's operator.",
        ) from error


def _pieces(server: Server, path: str, cid: str, label: str) -> Iterator[bytes]:
    """The bytes as they come; raises Refusal at their end unless they hash to the CID."""
    try:
        expected = parse_cid(cid)
    except ValueError as error:
        raise refusal.failed(
            "cid-mismatch", f"{server.url(path)} has no CID to be checked by: {error}"
        ) from error
    builder = FileBuilder(lambda *_: None)
    with server.answer("GET", path, headers={"Accept": "*/*"}) as response:
        length = response.headers.get("Content-Length", "")
        with progress.bar(label, int(length) if length.isdigit() else None) as advance:
            for piece in response.iter_bytes():
                builder.feed(piece)
                advance(len(piece))
                yield piece
    actual = builder.finish().cid
    if actual != expected:
        raise refusal.failed(
            "cid-mismatch",
            f"What {server.url(path)} gives hashes to {actual}, and not to {expected}.",
            "Do not rely on it. Fetch it by its CID from IPFS, and tell the server's operator.",
            expected_cid=str(expected),
            actual_cid=str(actual),
        )
