"""``?explain=1``: where a call would go, and why. Nothing runs, nothing is charged."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from inframind.identity.authority import admit, require
from inframind.lib.problem import Problem
from marketplace.catalog.queries import Servable
from marketplace.gateway import asking, resources
from marketplace.gateway.wire import Answer, Request
from marketplace.mesh.absences import Absence, absences
from marketplace.mesh.asyncdb import in_thread
from marketplace.mesh.routing import Candidate, View

_YES: Final = frozenset({"1", "true", "yes"})


def asked_for(query: str) -> bool:
    """Whether a call's query string asks for an explanation instead of a call."""
    return "explain" in query and parse_qs(query).get("explain", [""])[-1].lower() in _YES


async def explain(request: Request, reference: str) -> Answer:
    """What the router of this process knows of the version, for its owner and staff. 401, 403,
    404, 410."""
    caller = await asking.caller_of(request)
    admit(caller, "route.explain", name=reference.partition("@")[0])
    found = await asking.version_seen(reference, caller)
    require(
        caller,
        "route.explain",
        found.kind,
        roles=found.viewer_roles,
        # Who does not see it was told so by the look-up.
        seen=True,
        otherwise=_not_told(found.name),
    )
    router = (await resources.here()).router
    view = await router.view(found.version_id, paid=found.fee_base_units > 0)
    elsewhere = await in_thread(absences, found.version_id)
    return Answer(
        200, orjson.dumps(_document(found, view, elsewhere)), {"Content-Type": "application/json"}
    )


def _not_told(name: str) -> Problem:
    return Problem(
        "forbidden",
        f"How calls of {name} are routed is told to its owner and to staff.",
        status=403,
        remedy="Use a token of the owner's wallet.",
        retry_safe=True,
    )


def _document(found: Servable, view: View, elsewhere: list[Absence]) -> dict[str, Any]:
    able = [each for each in view.candidates if not each.why_not]
    able.sort(key=lambda each: each.score)
    placed = {each.route.node_name for each in view.candidates}
    return {
        "model": f"{found.name}@{found.number}",
        "paid": found.fee_base_units > 0,
        "rule": "Of two candidates at random the one with the lower score: recent latency, times "
        "calls in flight there, over capacity and the square of its reputation.",
        "best": able[0].route.node_name if able else None,
        "candidates": [_candidate(each) for each in view.candidates],
        "elsewhere": [
            {"node": each.node_name, "node_state": each.node_state, "why_not": each.why}
            for each in elsewhere
            if each.node_name not in placed
        ],
        "loading": view.loading,
        "waiting": {"calls": view.waiting, "at_most": view.waiting_max},
        "retries_left": view.retries_left,
        "hedging": {
            # Before there are enough calls to know what is late, none is sent twice.
            "after_ms": _ms(view.hedged_after_seconds),
            "calls_seen": view.samples,
        },
        "known_for_ms": _ms(view.age_seconds),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    route = candidate.route
    return {
        "node": route.node_name,
        "state": candidate.state,
        "why_not": candidate.why_not,
        "score": round(candidate.score * 1_000_000, 3),
        "latency_ms": _ms(candidate.seconds or None),
        "in_flight": candidate.in_flight,
        "limit": candidate.limit,
        "capacity": route.capacity,
        "reputation_bps": route.reputation_bps,
        "paid_calls": route.paid_calls,
        "errors_share": round(candidate.errors, 3),
        "ejected_for_ms": _ms(candidate.ejected_seconds),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
