"""The last stage: the call's one row, made of all that the others found."""

from __future__ import annotations

from inframind.lib.problem import Problem
from marketplace.gateway.batches import Row
from marketplace.gateway.committing import Entry
from marketplace.gateway.context import Context, Outcome
from marketplace.gateway.digests import digest_of_bytes
from marketplace.gateway.links import normal
from marketplace.gateway.payees import node_payee, owner_payee


async def record(call: Context, problem: Problem | None, answer: bytes | None) -> None:
    """Writes the one row of the call, before anything of it leaves; ``answer``: sealed, to keep
    under the call's idempotency key. 503."""
    version, caller = call.version, call.caller
    served = call.outcome is Outcome.SERVED
    payout = normal(owner_payee(version.payout_address, version.owner))
    operator = normal(node_payee(call.route.operator)) if call.route else ""
    if call.digesting is not None:
        call.input_digest = await call.digesting
    linked = False
    if call.viewer is not None:
        links = call.resources.links
        known = links.known(call.viewer, version.owner, payout, operator)
        linked = (
            await links.linked(call.viewer, version.owner, payout, operator)
            if known is None
            else known
        )
    row = Row(
        call_id=call.request.call_id,
        version_id=version.version_id,
        model=f"{version.name}@{version.number}",
        cid=version.cid,
        wallet=call.viewer,
        token_id=caller.token_id if caller else None,
        node_id=call.route.node_id if call.route else None,
        node_name=call.route.node_name if call.route else "",
        outcome=call.outcome.value,
        problem_code=problem.code if problem else "",
        attempts=call.attempts,
        fee_base_units=version.fee_base_units if served else 0,
        latency_us=call.latency_us,
        node_latency_us=round(call.node_seconds * 1_000_000),
        # The bytes stand for an input that has no canonical form, because it is not JSON.
        input_digest=call.input_digest or digest_of_bytes(call.request.body),
        output_digest=call.output_digest if served else "",
        payout_address=payout,
        operator_address=operator,
        linked=linked,
        missed_nodes=call.missed,
    )
    await call.resources.recorder.record(
        Entry(
            row=row,
            lease_id=call.funds.lease_id if call.funds else None,
            meters=caller.meters if caller and call.held else (),
            claim=call.claim,
            answer=answer if served else None,
        )
    )
