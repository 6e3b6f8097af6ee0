"""``infra receipt verify``: a receipt checked down to the sum of its epoch, trusting nobody."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from inframind.cli import checks, dumps, listing, protocol, refusal
from inframind.cli import document as documents
from inframind.cli.checks import Check
from inframind.cli.client import Server
from inframind.cli.terminal import moment, out, out_json, plain
from inframind.lib import canonical, receipts
from inframind.lib.addresses import checksum_address
from inframind.lib.amounts import format_ifm
from inframind.lib.receiptdump import Reader, Sought

_MAX_RECEIPT_BYTES: Final = 16 * 1024 * 1024
_UNSEALED: Final = ("open", "closing")


@dataclass(frozen=True, slots=True)
class Documents:
    """The digests of what went in and came out, as the person has it; empty where not given."""

    input_digest: str
    output_digest: str

    @classmethod
    def read(cls, input_file: str, output_file: str) -> Self:
        """Raises Refusal (exit 2) for files that are no JSON, or where both are stdin."""
        if input_file == output_file == "-":
            raise refusal.usage("Only one of --input and --output can be stdin.")
        return cls(_digest(input_file, "--input"), _digest(output_file, "--output"))


def address(text: str) -> str:
    """A checksummed address, or an empty text. Raises Refusal (exit 2)."""
    try:
        return checksum_address(text) if text else ""
    except ValueError as error:
        raise refusal.usage(f"--signer: {error}") from error


def read(source: str) -> dict[str, Any]:
    """The receipt in a file, or on stdin for ``-``. Raises Refusal (exit 2)."""
    try:
        if source == "-":
            data = sys.stdin.buffer.read(_MAX_RECEIPT_BYTES + 1)
        else:
            with Path(source).expanduser().open("rb") as file:
                data = file.read(_MAX_RECEIPT_BYTES + 1)
    except OSError as error:
        raise refusal.usage(
            f"{source!r} is no receipt's id, and no file that can be read: {error.strerror}.",
            "`infra call` tells the id on stderr, as receipt …",
        ) from error
    try:
        if len(data) > _MAX_RECEIPT_BYTES:
            raise ValueError("it is too large")
        document = json.loads(data)
        UUID(document["id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise refusal.usage(
            f"{source!r} holds no receipt.", "infra receipt show ID --json makes such a file."
        ) from None
    found: dict[str, Any] = document
    return found


def verify(
    server: Server,
    document: dict[str, Any],
    given: Documents,
    *,
    signer: str,
    json_output: bool,
) -> None:
    """Checks a receipt and tells; raises Refusal (exit 1) where something is wrong."""
    known = protocol.of(server, quiet=json_output)
    protocol.require_chain(known.chain_id)
    signer = signer or protocol.gateway_signer(server, known)
    found = [*_itself(document, signer, known.chain_id), *_contents(document, given)]
    if not checks.failed(found):
        found += _in_epoch(server, document, signer, known)
    _show(document, found, json_output=json_output)
    if checks.failed(found):
        raise refusal.failed(
            "receipt-unsound",
            f"Receipt {plain(document['id'])} is not what it should be.",
            "Keep the document (infra receipt show --json), and ask the server's operator.",
            retry_safe=False,
        )


def _itself(document: dict[str, Any], signer: str, chain_id: int) -> Iterator[Check]:
    wrongs = receipts.verify(document, signer=signer, chain_id=chain_id)
    yield checks.unless(
        f"Signed by the gateway {signer}; the leaf is the one of id, fee and commitment, and its "
        "path leads to the signed root",
        wrongs,
    )
    words = "Model, CID, node, caller, times, outcome, input and output are what was committed to"
    if not document.get("whole"):
        yield Check(
            words, None, ("Told to the caller, the model's owner and the node's operator only.",)
        )
    elif not wrongs:
        yield Check(words, True)


def _contents(document: dict[str, Any], given: Documents) -> Iterator[Check]:
    for name, digest in (("input", given.input_digest), ("output", given.output_digest)):
        if not digest:
            continue
        words = f"The {name} is the document that you have"
        said = document.get(f"{name}_digest")
        if document.get("whole") is not True:
            yield Check(words, None, ("Its digest is hidden from you.",))
        elif said == digest:
            yield Check(words, True)
        else:
            yield Check(words, False, (f"Yours is {digest}, and the receipt says {said}.",))


def _in_epoch(
    server: Server, document: dict[str, Any], signer: str, known: protocol.Protocol
) -> Iterator[Check]:
    number = int(document["epoch"])
    inside = f"It is among the published receipts of epoch {number}"
    adds_up = f"The published receipts of epoch {number} are all signed and make its root"
    revenue = f"Their fees are the revenue of epoch {number}"
    epoch = server.get(f"/api/v1/epochs/{number}")
    if epoch.get("state") in _UNSEALED:
        ends = moment(epoch["ends_at"])
        why = f"Epoch {number} is {plain(epoch['state'])}; it is sealed after {ends}."
        yield Check(inside, None, (why,))
        yield Check(revenue, None, (why,))
        return
    reader = Reader(
        epoch=number,
        chain_id=known.chain_id,
        signer=signer,
        sought=Sought(
            UUID(document["id"]), _octets(document["batch"]["root"]), _octets(document["leaf"])
        ),
    )
    dumps.read_receipts(server, number, str(epoch.get("receipts_cid")), reader)
    yield checks.unless(inside, () if reader.found else ("It is not there.",))
    flaws = list(reader.flaws)
    if _octets(epoch["receipts_root"]) != reader.root:
        flaws.append(f"The server says root {epoch['receipts_root']}.")
    if epoch.get("receipts") != reader.count:
        flaws.append(f"The server says {epoch.get('receipts')} receipts.")
    yield checks.unless(f"{adds_up}: {reader.count} receipts, 0x{reader.root.hex()}", flaws)
    yield from _revenue(server, epoch, reader, revenue)


def _revenue(server: Server, epoch: dict[str, Any], reader: Reader, words: str) -> Iterator[Check]:
    """The sum is what the epoch says, and what its tree shares out."""
    number = int(epoch["number"])
    dump = dumps.tree(server, number, str(epoch.get("tree_cid")))
    wrong = []
    if int(epoch["revenue"]["base_units"]) != reader.fees:
        wrong.append(f"The server says {plain(epoch['revenue']['text'])}.")
    if (dump.epoch, dump.revenue) != (number, reader.fees):
        wrong.append(f"Its tree shares out {format_ifm(dump.revenue)}.")
    if dump.receipts_root != reader.root:
        wrong.append(f"Its tree was made of receipts 0x{dump.receipts_root.hex()}.")
    yield checks.unless(f"{words}, which its tree shares out: {format_ifm(reader.fees)}", wrong)


def _show(document: dict[str, Any], found: list[Check], *, json_output: bool) -> None:
    if json_output:
        out_json(
            {
                "id": document["id"],
                "sound": not checks.failed(found),
                "whole": document.get("whole") is True,
                "checks": checks.documents(found),
            }
        )
        return
    checks.show(found)
    out("")
    fee = document.get("fee") or {}
    listing.show_rows(
        [
            ("Receipt", plain(document["id"])),
            ("Model", plain(document.get("model") or "")),
            ("Outcome", plain(document.get("outcome") or "")),
            ("Fee", plain(fee.get("text") or "")),
        ]
    )


def _digest(source: str, option: str) -> str:
    if not source:
        return ""
    data = documents.read_input(source) if option == "--input" else _read_output(source)
    try:
        return canonical.digest(json.loads(data))
    except (ValueError, TypeError) as error:
        raise refusal.usage(f"{option}: {source} has no canonical form: {error}") from error


def _read_output(source: str) -> bytes:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).expanduser().read_bytes()
    except OSError as error:
        raise refusal.usage(f"--output: {source} cannot be read: {error.strerror}.") from error
    return documents.checked(data, source)


def _octets(text: Any) -> bytes:
    return bytes.fromhex(str(text).removeprefix("0x"))
