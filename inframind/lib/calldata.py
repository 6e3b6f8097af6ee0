"""What our contracts are told: call data, and the typed data that wallets sign (EIP-712).

Addresses are checksummed text, amounts ints of base units, deadlines unix seconds, roots, streams
and proofs 32 bytes each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from inframind.lib.addresses import checksum_address

Claim = tuple[str, bytes, int, Sequence[bytes]]  # account, stream, cumulative, proof

UINT256_MAX: Final = 2**256 - 1
_CLAIM: Final = "(address,bytes32,uint256,bytes32[])"
# What is handed out, with the names of the arguments in their order.
_FUNCTIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "approve": (("spender", "address"), ("amount", "uint256")),
    "transfer": (("to", "address"), ("amount", "uint256")),
    "deposit": (("account", "address"), ("amount", "uint256")),
    "depositWithPermit": (
        ("account", "address"),
        ("from", "address"),
        ("amount", "uint256"),
        ("deadline", "uint256"),
        ("v", "uint8"),
        ("r", "bytes32"),
        ("s", "bytes32"),
    ),
    "claim": (
        ("account", "address"),
        ("stream", "bytes32"),
        ("cumulative", "uint256"),
        ("proof", "bytes32[]"),
    ),
    "claimMany": (("claims", f"{_CLAIM}[]"),),
    "withdraw": (
        ("account", "address"),
        ("cumulative", "uint256"),
        ("deadline", "uint256"),
        ("signature", "bytes"),
    ),
    "proposeRoot": (
        ("epoch", "uint64"),
        ("root", "bytes32"),
        ("total", "uint256"),
        ("uri", "string"),
    ),
}
# Which contract each one is for, to whom a wallet may be asked to send it.
OF_IFM: Final = frozenset({"approve"})
OF_SETTLEMENT: Final = frozenset({"deposit", "depositWithPermit", "claim", "claimMany", "withdraw"})


@dataclass(frozen=True, slots=True)
class Call:
    """Call data, read: the function's name, and its arguments by name. Addresses are checksummed;
    a claim is a tuple of account, stream, cumulative and proof."""

    function: str
    arguments: dict[str, Any]


def approve(spender: str, amount: int) -> bytes:
    """Lets ``spender`` take ``amount`` of the sender's IFM. Sent to IFM."""
    return _encode("approve", spender, amount)


def transfer(to: str, amount: int) -> bytes:
    """Sends ``amount`` of the sender's IFM. Sent to IFM."""
    return _encode("transfer", to, amount)


def deposit(account: str, amount: int) -> bytes:
    """Adds ``amount``, approved before, to the prepaid balance of ``account``."""
    return _encode("deposit", account, amount)


def deposit_with_permit(
    account: str, owner: str, amount: int, deadline: int, signature: bytes
) -> bytes:
    """As ``deposit``, from ``owner``'s tokens, with its permit: 65 bytes, r, s, v.

    Raises ``ValueError`` for a signature of another length or with a ``v`` that does not exist.
    """
    if len(signature) != 65:
        raise ValueError(f"A permit's signature has 65 bytes, this one has {len(signature)}.")
    v = signature[64] + 27 if signature[64] < 27 else signature[64]
    if v not in (27, 28):
        raise ValueError(f"The last byte of a signature is 27 or 28, not {signature[64]}.")
    r, s = signature[:32], signature[32:64]
    return _encode("depositWithPermit", account, owner, amount, deadline, v, r, s)


def claim(account: str, stream: bytes, cumulative: int, proof: Sequence[bytes]) -> bytes:
    """Pays ``account`` what it has earned from ``stream``."""
    return _encode("claim", account, stream, cumulative, list(proof))


def claim_many(claims: Sequence[Claim]) -> bytes:
    """Several claims, all or none; those paid already are passed over."""
    return _encode(
        "claimMany",
        [(account, stream, total, list(proof)) for account, stream, total, proof in claims],
    )


def withdraw(account: str, cumulative: int, deadline: int, signature: bytes) -> bytes:
    """Pays ``account`` what a voucher releases."""
    return _encode("withdraw", account, cumulative, deadline, signature)


def propose_root(epoch: int, root: bytes, total: int, uri: str) -> bytes:
    """Publishes the root of an epoch. Only for the proposer."""
    return _encode("proposeRoot", epoch, root, total, uri)


def read(data: bytes) -> Call:
    """The call that this data makes.

    Raises ``ValueError`` for a function that is none of ours, for arguments that do not decode,
    and for data that says more than its arguments do.
    """
    from eth_abi.abi import decode, encode
    from eth_abi.exceptions import DecodingError, EncodingError

    name = _names().get(data[:4])
    if name is None:
        raise ValueError(f"0x{data[:4].hex()} is no function that InfraMind hands out.")
    types = [kind for _, kind in _FUNCTIONS[name]]
    try:
        values = decode(types, data[4:])
        whole = encode(types, values)
    except (DecodingError, EncodingError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"The arguments of {name} do not decode: {error}") from None
    if whole != data[4:]:
        raise ValueError(f"The arguments of {name} are not written in the usual form.")
    arguments = {
        argument: _shown(kind, value)
        for (argument, kind), value in zip(_FUNCTIONS[name], values, strict=True)
    }
    return Call(name, arguments)


def permit_typed_data(
    *,
    chain_id: int,
    ifm: str,
    owner: str,
    spender: str,
    amount: int,
    nonce: int,
    deadline: int,
) -> dict[str, Any]:
    """What ``owner`` signs to let ``spender`` take ``amount`` (ERC-2612), as JSON for a wallet."""
    return {
        "types": {
            "EIP712Domain": _DOMAIN_TYPE,
            "Permit": [
                {"name": "owner", "type": "address"},
                {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ],
        },
        "primaryType": "Permit",
        "domain": _domain("InfraMind", chain_id, ifm),
        # Text, since a number this long loses its last digits in a browser.
        "message": {
            "owner": owner,
            "spender": spender,
            "value": str(amount),
            "nonce": str(nonce),
            "deadline": str(deadline),
        },
    }


def withdrawal_typed_data(
    *, chain_id: int, settlement: str, account: str, cumulative: int, deadline: int
) -> dict[str, Any]:
    """What a voucher's signature stands for, as JSON for a wallet or a verifier."""
    return {
        "types": {
            "EIP712Domain": _DOMAIN_TYPE,
            "Withdrawal": [
                {"name": "account", "type": "address"},
                {"name": "cumulative", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ],
        },
        "primaryType": "Withdrawal",
        "domain": _domain("InfraMind Settlement", chain_id, settlement),
        "message": {
            "account": account,
            "cumulative": str(cumulative),
            "deadline": str(deadline),
        },
    }


def typed_data_digest(document: dict[str, Any]) -> bytes:
    """The 32 bytes that are signed for a typed data document of the two above."""
    import sha3
    from eth_account.messages import encode_typed_data

    types = document["types"][document["primaryType"]]
    whole = {field["name"] for field in types if field["type"].startswith("uint")}
    message = {
        name: int(value) if name in whole else value for name, value in document["message"].items()
    }
    signable = encode_typed_data(full_message={**document, "message": message})
    octets = b"\x19" + signable.version + signable.header + signable.body
    return bytes(sha3.keccak_256(octets).digest())


_DOMAIN_TYPE: Final = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def _domain(name: str, chain_id: int, contract: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": contract}


def _encode(name: str, *arguments: Any) -> bytes:
    from eth_abi.abi import encode

    return _selector(name) + encode([kind for _, kind in _FUNCTIONS[name]], arguments)


@lru_cache
def _selector(name: str) -> bytes:
    from eth_utils.crypto import keccak

    signature = f"{name}({','.join(kind for _, kind in _FUNCTIONS[name])})"
    return bytes(keccak(text=signature))[:4]


@lru_cache
def _names() -> dict[bytes, str]:
    return {_selector(name): name for name in _FUNCTIONS}


def _shown(kind: str, value: Any) -> Any:
    if kind == "address":
        return checksum_address(value)
    if kind == f"{_CLAIM}[]":
        return [
            (checksum_address(account), stream, total, list(proof))
            for account, stream, total, proof in value
        ]
    return list(value) if isinstance(value, tuple) else value
