"""Receipts: how a call is committed to, how a batch of them is signed, and how both are checked.

A call's row gives a ``details`` hash; a random salt hides it in a ``commitment``; id, fee and
commitment make a leaf. The leaves of the calls that were committed together form a small tree, and
the gateway signs its root once (EIP-712). Everything here is a pure function of bytes and numbers:
the gateway makes receipts with it, the command line checks them with it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final, Protocol
from uuid import UUID

from inframind.lib import secp256k1
from inframind.lib.merkle import root_from

SALT_BYTES: Final = 16
NOTHING: Final = bytes(32)  # the output commitment of a call that was not served
DOMAIN_NAME: Final = "InfraMind Receipts"
DOMAIN_VERSION: Final = "1"
BATCH_FIELDS: Final = (
    ("bytes32", "root"),
    ("uint64", "epoch"),
    ("uint32", "count"),
    ("uint256", "fees"),
    ("uint64", "time"),
)
_DIGEST_PREFIX: Final = "sha256:"
_SALT_PADDING: Final = bytes(32 - SALT_BYTES)
_ADDRESS_PADDING: Final = bytes(12)
_NO_ADDRESS: Final = bytes(32)
_KEY_PURPOSE: Final = b"inframind receipts"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The keccak of the type's text, written out: the keccak extension is absent where only a part of
# the command line client is installed, and this module has to import there.
_BATCH_TYPE_HASH: Final = bytes.fromhex(
    "1aa4c53fdbc683d0b83d3f56c07dab3bf4d6212fd874ebd1411a4e1e1faedcc3"
)


def keccak(octets: bytes) -> bytes:
    """The keccak-256 of ``octets``: 32 bytes."""
    digest: bytes = _hasher()(octets).digest()
    return digest


@cache
def _hasher() -> Callable[[bytes], Any]:
    # The keccak extension is absent where only a part of the command line client is installed.
    import sha3

    hasher: Callable[[bytes], Any] = sha3.keccak_256
    return hasher


@dataclass(frozen=True, slots=True)
class Details:
    """What a receipt says of its call. ``model`` is ``name@version``; times in microseconds."""

    model: str
    cid: str
    node: str
    caller: str | None  # None: anonymous
    input_commitment: bytes
    output_commitment: bytes
    latency_us: int
    outcome: str
    time_us: int  # unix, the batch's
    parameters_version: int

    def digest(self) -> bytes:
        """The hash of all of it, as ``abi.encode`` lays out static values: 32 bytes."""
        return keccak(
            b"".join(
                (
                    _text(self.model),
                    _text(self.cid),
                    _text(self.node),
                    _account(self.caller),
                    self.input_commitment,
                    self.output_commitment,
                    _word(self.latency_us),
                    _text(self.outcome),
                    _word(self.time_us),
                    _word(self.parameters_version),
                )
            )
        )


def input_commitment(salt: bytes, digest: str) -> bytes:
    """Hides the digest (``sha256:…``) of a call's input document: 32 bytes."""
    return keccak(salt + b"input" + _octets_of(digest))


def output_commitment(salt: bytes, digest: str) -> bytes:
    """Hides the digest of a call's output document; ``NOTHING`` where nothing was served."""
    return keccak(salt + b"output" + _octets_of(digest)) if digest else NOTHING


def commitment(salt: bytes, details: bytes) -> bytes:
    """What a receipt shows in place of its details to whoever does not have the salt."""
    return keccak(salt + _SALT_PADDING + details)


def leaf(call_id: UUID, fee_base_units: int, committed: bytes) -> bytes:
    """The leaf of a receipt: hashed twice, so that no inner node can pass for one."""
    return keccak(keccak(call_id.bytes + _SALT_PADDING + _word(fee_base_units) + committed))


class Recorded(Protocol):
    """A call as it is written down: all that its leaf is made of but for what its batch gives."""

    @property
    def call_id(self) -> UUID: ...
    @property
    def model(self) -> str: ...  # name@version
    @property
    def cid(self) -> str: ...
    @property
    def node_name(self) -> str: ...
    @property
    def wallet(self) -> str | None: ...
    @property
    def input_digest(self) -> str: ...
    @property
    def output_digest(self) -> str: ...
    @property
    def latency_us(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def fee_base_units(self) -> int: ...
    @property
    def salt(self) -> bytes: ...


def head_of(call: Recorded) -> bytes:
    """All that ``Details`` hashes of a call but for what its batch gives it: 256 bytes.

    Raises ValueError for digests that are none, OverflowError for a number beyond 256 bits.
    """
    hasher = _hasher()
    salt = call.salt
    output = call.output_digest
    return b"".join(
        (
            _texts(call.model, call.cid, call.node_name),
            _account(call.wallet),
            hasher(salt + b"input" + _octets_of(call.input_digest)).digest(),
            hasher(salt + b"output" + _octets_of(output)).digest() if output else NOTHING,
            call.latency_us.to_bytes(32, "big"),
            _text(call.outcome),
        )
    )


def leaves_of(
    calls: Sequence[Recorded],
    *,
    time_us: int,
    parameters_version: int,
    heads: Sequence[bytes] | None = None,
) -> list[bytes]:
    """The ``leaf`` of each call of a batch of that time, in their order.

    What ``Details``, ``commitment`` and ``leaf`` say, in one go: every paid call waits for it.
    ``heads``: the ``head_of`` each, where they are known already. Raises as ``head_of`` does.
    """
    hasher = _hasher()
    of_batch = _word(time_us) + _word(parameters_version)
    leaves = []
    for call, head in zip(calls, heads or map(head_of, calls), strict=True):
        committed = hasher(call.salt + _SALT_PADDING + hasher(head + of_batch).digest()).digest()
        named = call.call_id.bytes + _SALT_PADDING + call.fee_base_units.to_bytes(32, "big")
        leaves.append(hasher(hasher(named + committed).digest()).digest())
    return leaves


def epoch_leaf(root: bytes, count: int, fees_base_units: int) -> bytes:
    """The leaf of a batch in the tree of its epoch's receipts."""
    return keccak(keccak(root + _word(count) + _word(fees_base_units)))


def batch_digest(
    *, root: bytes, epoch: int, count: int, fees_base_units: int, time_us: int, chain_id: int
) -> bytes:
    """What is signed of a batch: the EIP-712 digest of ``typed_data``, built by hand."""
    struct = keccak(
        b"".join(
            (
                _BATCH_TYPE_HASH,
                root,
                _word(epoch),
                _word(count),
                _word(fees_base_units),
                _word(time_us),
            )
        )
    )
    return keccak(b"\x19\x01" + _domain_separator(chain_id) + struct)


def typed_data(
    *, root: bytes, epoch: int, count: int, fees_base_units: int, time_us: int, chain_id: int
) -> dict[str, Any]:
    """The same batch as an EIP-712 document, for tools that hash such documents themselves."""
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Batch": [{"name": name, "type": kind} for kind, name in BATCH_FIELDS],
        },
        "primaryType": "Batch",
        "domain": {"name": DOMAIN_NAME, "version": DOMAIN_VERSION, "chainId": chain_id},
        "message": {
            "root": root,
            "epoch": epoch,
            "count": count,
            "fees": fees_base_units,
            "time": time_us,
        },
    }


def signing_key(configured: str, secret: str) -> bytes:
    """The gateway's private key: the configured one (hex), or one derived from the server's secret.

    Raises ValueError for hex that is no key.
    """
    if configured:
        key = bytes.fromhex(configured.removeprefix("0x"))
        secp256k1.address_of_key(key)
        return key
    # HKDF (RFC 5869) of 48 bytes, by hand: this module is also the command line's, which does not
    # bring the cryptography package.
    pseudorandom = hmac.digest(bytes(32), secret.encode(), hashlib.sha256)
    first = hmac.digest(pseudorandom, _KEY_PURPOSE + b"\x01", hashlib.sha256)
    second = hmac.digest(pseudorandom, first + _KEY_PURPOSE + b"\x02", hashlib.sha256)
    return secp256k1.key_from((first + second)[:48])


def verify(document: Mapping[str, Any], *, signer: str, chain_id: int) -> list[str]:
    """What is wrong with a receipt (the document of ``/api/v1/receipts/<id>``); empty when right.

    ``signer`` is the gateway's address and ``chain_id`` the chain, both as the caller knows them
    and not as the receipt says. The whole receipt is checked down to the digests of input and
    output and to who called; what a stranger sees, down to its commitment. Never raises.
    """
    try:
        return list(_wrongs(document, signer, chain_id))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        return [f"It is not a receipt that can be read: {type(error).__name__}: {error}"]


def _wrongs(document: Mapping[str, Any], signer: str, chain_id: int) -> Iterator[str]:
    batch = document["batch"]
    if batch is None:
        yield "It is from before receipts were signed: there is nothing to check it by."
        return
    call_id, fee = UUID(document["id"]), int(document["fee"]["base_units"])
    epoch, time_us = int(document["epoch"]), int(batch["time"])
    count, fees = int(batch["count"]), int(batch["fees"]["base_units"])
    root, committed = _hash(batch["root"]), _hash(document["commitment"])
    made = leaf(call_id, fee, committed)
    if made != _hash(document["leaf"]):
        yield "Its leaf is not the one of its id, its fee and its commitment."
    if root_from(made, [_hash(each) for each in document["proof"]]) != root:
        yield "Its path does not lead to the root of its batch."
    if not 0 <= fee <= fees or count < 1:
        yield "Its batch is of less than its fee."
    digest = batch_digest(
        root=root,
        epoch=epoch,
        count=count,
        fees_base_units=fees,
        time_us=time_us,
        chain_id=chain_id,
    )
    signed_by = secp256k1.recover(digest, bytes.fromhex(batch["signature"].removeprefix("0x")))
    if signed_by != signer:
        yield f"Its batch is signed by {signed_by}, and the gateway is {signer}."
    if _microseconds(document["created_at"]) != time_us:
        yield "Its time is not the one that was signed."
    if document["outcome"] != "served" and (fee or document["output_commitment"] is not None):
        yield "It was not served, and has a fee or an output all the same."
    if document["whole"]:
        yield from _wrongs_within(document, committed, time_us)


def _wrongs_within(document: Mapping[str, Any], committed: bytes, time_us: int) -> Iterator[str]:
    """What only those can check who have the salt."""
    salt = bytes.fromhex(document["salt"].removeprefix("0x"))
    hidden_input = input_commitment(salt, document["input_digest"])
    if hidden_input != _hash(document["input_commitment"]):
        yield "The commitment to its input is not the one of its input's digest."
    hidden_output = output_commitment(salt, document["output_digest"] or "")
    told = document["output_commitment"]
    if hidden_output != (_hash(told) if told is not None else NOTHING):
        yield "The commitment to its output is not the one of its output's digest."
    details = Details(
        model=document["model"],
        cid=document["cid"],
        node=document["node"] or "",
        caller=document["caller"],
        input_commitment=hidden_input,
        output_commitment=hidden_output,
        latency_us=round(document["latency_ms"] * 1000),
        outcome=document["outcome"],
        time_us=time_us,
        parameters_version=int(document["parameters_version"]),
    )
    if commitment(salt, details.digest()) != committed:
        yield "What it says of the call is not what was committed to."


@lru_cache(maxsize=4096)
def _text(text: str) -> bytes:
    return keccak(text.encode())


@lru_cache(maxsize=4096)
def _texts(*texts: str) -> bytes:
    return b"".join(map(_text, texts))


@lru_cache(maxsize=4096)
def _account(address: str | None) -> bytes:
    return _ADDRESS_PADDING + bytes.fromhex(address[2:]) if address else _NO_ADDRESS


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _octets_of(digest: str) -> bytes:
    octets = bytes.fromhex(digest[len(_DIGEST_PREFIX) :])
    if len(octets) != 32 or digest[: len(_DIGEST_PREFIX)] != _DIGEST_PREFIX:
        raise ValueError(f"{digest[:80]!r} is no SHA-256 digest.")
    return octets


@lru_cache(maxsize=16)
def _domain_separator(chain_id: int) -> bytes:
    return keccak(
        b"".join(
            (
                keccak(b"EIP712Domain(string name,string version,uint256 chainId)"),
                keccak(DOMAIN_NAME.encode()),
                keccak(DOMAIN_VERSION.encode()),
                _word(chain_id),
            )
        )
    )


def _hash(text: str) -> bytes:
    octets = bytes.fromhex(text.removeprefix("0x"))
    if len(octets) != 32:
        raise ValueError(f"{text[:80]!r} is no hash of 32 bytes.")
    return octets


def _microseconds(moment: str | datetime) -> int:
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return (at - _EPOCH) // timedelta(microseconds=1)
