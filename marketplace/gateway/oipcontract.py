"""A model's contract in tensors: names, types and shapes, with the bytes going through as they are.

The digests of such a call are SHA-256 over the very bytes of the request's and the answer's body.
"""

from __future__ import annotations

import asyncio
from typing import Final

from django.conf import settings

from inframind.lib.problem import Problem, Violation
from marketplace.gateway import body, oip
from marketplace.gateway.context import Context, Outcome
from marketplace.gateway.digests import digest_of_bytes
from marketplace.gateway.problems import invalid_output
from marketplace.mesh.client import Outgoing
from marketplace.mesh.tensors import BadOutput

# Below this, handing a body to a thread takes longer than its digest.
_LONG_BYTES: Final = 64 << 10


async def read_input(call: Context) -> None:
    """Holds the request against the declared inputs; its bytes are what the node gets. 413, 422."""
    call.outcome = Outcome.INVALID_INPUT
    octets = call.request.body
    if len(octets) > settings.CALL_BODY_MAX_BYTES:
        raise body.too_large(settings.CALL_BODY_MAX_BYTES)
    length = oip.header_length(call.request.header_length)
    if len(octets) > _LONG_BYTES:
        # The node works on the input meanwhile; whoever writes the row waits for it.
        call.digesting = asyncio.get_running_loop().run_in_executor(None, digest_of_bytes, octets)
    else:
        call.input_digest = digest_of_bytes(octets)
    if _is_heavy(call, len(octets) if length is None else length):
        loop = asyncio.get_running_loop()
        call.wish = await loop.run_in_executor(None, _read, call, length)
    else:
        call.wish = _read(call, length)
    _check_paid_rows(call, call.wish)
    call.outgoing = Outgoing(octets, length)
    call.admitted_seconds = call.elapsed


async def check_output(call: Context) -> None:
    """Holds the answer against the declared outputs, and names the model in it. 502."""
    call.outcome = Outcome.INVALID_OUTPUT
    if call.incoming is None or call.wish is None:
        raise RuntimeError("No node has answered yet.")
    if len(call.incoming.content) > body.HEAVY_BYTES:
        await asyncio.get_running_loop().run_in_executor(None, _check_output, call)
    else:
        _check_output(call)
    call.outcome = Outcome.SERVED


def _check_paid_rows(call: Context, wish: oip.Wish) -> None:
    """A price is for one input: who sends several in a request would pay the owner for one."""
    if (wish.rows or 1) == 1 or not call.version.fee_base_units:
        return
    detail = f"A call of {call.version.name} is paid for one row, and this request has {wish.rows}."
    raise Problem(
        "one-row-a-call",
        detail,
        status=422,
        violations=(Violation("/inputs/0/shape", detail),),
        remedy="Send a request for each row, at the same time if you like: the node gathers them. "
        f"Documents go many at once to /inference/v1/{call.version.name}/batch.",
    )


def _is_heavy(call: Context, header_bytes: int) -> bool:
    if header_bytes > body.HEAVY_BYTES:
        return True
    # Texts are counted one by one; all else is a matter of lengths.
    return len(call.request.body) > body.HEAVY_BYTES and any(
        spec.dtype == "BYTES" for spec in call.inputs
    )


def _read(call: Context, length: int | None) -> oip.Wish:
    return oip.read_request(
        call.request.body,
        length,
        inputs=call.inputs,
        outputs=call.outputs,
        max_batch_size=call.version.max_batch_size,
    )


def _check_output(call: Context) -> None:
    incoming, wish, version = call.incoming, call.wish, call.version
    if incoming is None or wish is None:
        raise RuntimeError("No node has answered yet.")
    try:
        header, data = oip.rewritten(
            incoming.content,
            incoming.header_length,
            wish,
            outputs=call.outputs,
            max_batch_size=version.max_batch_size,
            name=version.name,
            number=version.number,
        )
    except BadOutput as error:
        raise invalid_output(str(error)) from None
    call.answer_headers = {"Content-Type": "application/json"}
    if incoming.header_length is not None:
        call.answer_headers = {
            "Content-Type": "application/octet-stream",
            oip.HEADER_LENGTH: str(len(header)),
        }
    call.output = b"".join((header, data))
    call.output_digest = digest_of_bytes(call.output)
