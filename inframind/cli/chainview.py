"""What the contract itself says, asked over a JSON-RPC of one's own (INFRA_RPC_URL); optional."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from inframind.cli import refusal
from inframind.cli.client import ANSWER_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS
from inframind.lib.merkle import keccak

RPC_VARIABLE: Final = "INFRA_RPC_URL"
_WORD_BYTES: Final = 32
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the contract has for an epoch: 32 bytes of root, zeros where nothing was proposed;
    base units; unix seconds."""

    root: bytes
    total: int
    claimable_at: int


def given() -> str:
    """The RPC's address, or an empty text. Raises Refusal (exit 2) for what is no address."""
    url = os.environ.get(RPC_VARIABLE, "").strip()
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        # An RPC's address often carries a key, so it is not shown.
        raise refusal.usage(
            f"{RPC_VARIABLE} is not the address of an RPC.", "Like http://127.0.0.1:8545."
        )
    return url


def proposal(url: str, *, chain_id: int, settlement: str, epoch: int) -> Proposal:
    """The root of an epoch in the contract. Raises Refusal for an RPC that does not answer that."""
    import httpx

    local = (urlsplit(url).hostname or "") in _LOOPBACK
    timeout = httpx.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    with httpx.Client(timeout=timeout, trust_env=not local) as client:
        found = int(_ask(client, url, "eth_chainId"), 16)
        if found != chain_id:
            raise refusal.usage(
                f"{RPC_VARIABLE} is of chain {found}, and the server is on chain {chain_id}.",
                f"Name an RPC of chain {chain_id}, or unset {RPC_VARIABLE}.",
            )
        data = keccak(b"rootOf(uint64)")[:4] + epoch.to_bytes(_WORD_BYTES, "big")
        call = {"to": settlement, "data": "0x" + data.hex()}
        answer = bytes.fromhex(_ask(client, url, "eth_call", call, "latest")[2:])
    if len(answer) != 3 * _WORD_BYTES:
        raise refusal.failed(
            "rpc-failed",
            f"The RPC of {RPC_VARIABLE} has no Settlement contract at {settlement}.",
            f"Ask another RPC of chain {chain_id}.",
        )
    root, total, claimable_at = (
        answer[at : at + _WORD_BYTES] for at in range(0, len(answer), _WORD_BYTES)
    )
    return Proposal(root, int.from_bytes(total, "big"), int.from_bytes(claimable_at, "big"))


def _ask(client: Any, url: str, method: str, *params: Any) -> str:
    import httpx

    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    try:
        answer = client.post(url, json=request).json()
        result = answer.get("result")
        why = (answer.get("error") or {}).get("message", "it gives no result")
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        result, why = None, type(error).__name__
    if not isinstance(result, str) or not result.startswith("0x"):
        raise refusal.failed(
            "rpc-failed",
            f"The RPC of {RPC_VARIABLE} does not answer {method}: {why}.",
            f"Check {RPC_VARIABLE}, or unset it: the server's word is compared then.",
            retry_safe=True,
        )
    return result
