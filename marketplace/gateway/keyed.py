"""Calls with an ``Idempotency-Key``: made once, answered as often as they are asked again.

A key is one wallet's. The first call with it holds a row until it ends; a served one leaves its
answer there for a day, encrypted under a key that is derived from the server's and from the text of
the idempotency key, which is not kept. A call that was not served leaves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings
from psycopg import AsyncConnection

from inframind.lib import wrapping
from inframind.lib.problem import Problem, Violation

KEPT_SECONDS: Final = 86_400
_KEYS: Final = re.compile(r"[!-~]{1,255}", re.ASCII)
_RETRY_SECONDS: Final = 2
_MEASURED_SECONDS: Final = 5.0
_MEASURED_WALLETS: Final = 4_096

_CLAIM: Final = """
    INSERT INTO gateway_keyedcall AS keyed (
        wallet_id, key_digest, request_digest, call_id, expires_at, served
    ) VALUES (
        %(wallet)s, %(key)s, %(request)s, %(call_id)s,
        statement_timestamp() + make_interval(secs => %(seconds)s), false
    )
    ON CONFLICT (wallet_id, key_digest) DO UPDATE
    SET request_digest = excluded.request_digest, call_id = excluded.call_id,
        expires_at = excluded.expires_at, served = false, answer_sealed = NULL,
        created_at = statement_timestamp()
    WHERE keyed.expires_at <= statement_timestamp()
    RETURNING keyed.call_id
"""
_FIND: Final = """
    SELECT request_digest, call_id, served, answer_sealed FROM gateway_keyedcall
    WHERE wallet_id = %(wallet)s AND key_digest = %(key)s AND expires_at > statement_timestamp()
"""
_MEASURE: Final = """
    SELECT coalesce(sum(octet_length(answer_sealed)), 0)::bigint,
           coalesce(extract(epoch FROM min(expires_at) - statement_timestamp()), 0)::float8
    FROM gateway_keyedcall
    WHERE wallet_id = %(wallet)s AND served AND expires_at > statement_timestamp()
"""
_COMPLETE: Final = """
    UPDATE gateway_keyedcall keyed
    SET served = true, answer_sealed = given.answer,
        expires_at = statement_timestamp() + make_interval(secs => %(seconds)s)
    FROM unnest(%(wallets)s::text[], %(keys)s::text[], %(calls)s::uuid[], %(answers)s::bytea[])
        AS given (wallet, key, call_id, answer)
    WHERE keyed.wallet_id = given.wallet AND keyed.key_digest = given.key
      AND keyed.call_id = given.call_id AND NOT keyed.served
      AND keyed.expires_at > statement_timestamp()
    RETURNING keyed.call_id
"""
_FREE: Final = """
    DELETE FROM gateway_keyedcall keyed
    USING unnest(%(wallets)s::text[], %(keys)s::text[], %(calls)s::uuid[])
        AS given (wallet, key, call_id)
    WHERE keyed.wallet_id = given.wallet AND keyed.key_digest = given.key
      AND keyed.call_id = given.call_id AND NOT keyed.served
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer of a served call, as it went out: its document and its headers."""

    call_id: UUID
    document: bytes = field(repr=False)
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that one call has to itself until it ends."""

    wallet: str
    key_digest: str
    call_id: UUID
    key: str = field(repr=False)

    def seal(self, document: bytes, headers: dict[str, str]) -> bytes:
        """The answer, to be opened by whoever comes with the key again."""
        text = json.dumps({"headers": headers, "document": base64.b64encode(document).decode()})
        return wrapping.wrap(
            text, key=settings.PACKAGE_KEY, purpose=_purpose(self.wallet, self.key)
        )


@dataclass(slots=True)
class _Kept:
    """What a wallet's answers take as of a moment, with what this process has kept since."""

    measured_at: float  # by the monotonic clock
    answers_bytes: int = 0
    oldest_ends_at: float = 0.0


# Per process: a sum over all of a wallet's rows is too much for each of its calls.
_kept: dict[str, _Kept] = {}


class Ending(NamedTuple):
    """How a call with a key ended; ``answer`` is sealed, None where it was not served."""

    claim: Claim
    answer: bytes | None


def check(key: str) -> None:
    """Raises a 422 ``Problem`` for what is no key."""
    if _KEYS.fullmatch(key) is None:
        raise Problem(
            "invalid-idempotency-key",
            "Idempotency-Key is 1 to 255 visible ASCII characters without spaces.",
            status=422,
            violations=(Violation("", "The header Idempotency-Key cannot be used."),),
            remedy="Send a fresh UUID with each new call, and the same one when you try it again.",
        )


def request_digest(reference: str, body: bytes) -> str:
    """What two calls with one key must have in common."""
    return hashlib.sha256(reference.encode() + b"\n" + body).hexdigest()


async def claim_on(
    database: AsyncConnection[Any],
    *,
    wallet: str,
    key: str,
    request: str,
    call_id: UUID,
    seconds: float,
) -> Claim | StoredAnswer:
    """Takes the key for a call, for ``seconds`` at most; the answer where it was served already.

    Raises ``Problem``: 409 ``idempotency-key-in-flight``, 422 ``idempotency-key-reused``, 429
    ``too-many-kept-answers`` for a new key of a wallet that has ``KEYED_ANSWERS_MAX_BYTES`` of
    them.
    """
    parameters = {
        "wallet": wallet,
        "key": hashlib.sha256(key.encode()).hexdigest(),
        "request": request,
        "call_id": call_id,
        "seconds": float(seconds),
    }
    found = None
    kept = await _measured(database, wallet)
    full = kept.answers_bytes > settings.KEYED_ANSWERS_MAX_BYTES
    # Between the two statements the row can go, when its call fails: then the key is free.
    for _ in range(3):
        if not full and await (await database.execute(_CLAIM, parameters)).fetchone() is not None:
            return Claim(wallet, str(parameters["key"]), call_id, key)
        found = await (await database.execute(_FIND, parameters)).fetchone()
        if found is not None:
            break
    if found is None:
        raise _too_many(kept) if full else _in_flight()
    known_request, first_id, served, answer = found
    if known_request != request:
        raise Problem(
            "idempotency-key-reused",
            "This Idempotency-Key came with another call before. Nothing was charged for this one.",
            status=422,
            remedy="Use a fresh key for every call; send one again with the same body only.",
        )
    if not served:
        raise _in_flight()
    try:
        text = wrapping.unwrap(answer, key=settings.PACKAGE_KEY, purpose=_purpose(wallet, key))
    except wrapping.WrappedUnder:
        raise Problem(
            "stored-answer-lost",
            "The call was served and charged once; its answer cannot be opened any more, since the "
            "server's key has changed. Nothing was charged now.",
            status=410,
            remedy=f"Look at its receipt {first_id}; call again with a new key.",
        ) from None
    stored = json.loads(text)
    return StoredAnswer(first_id, base64.b64decode(stored["document"]), stored["headers"])


async def end_on(database: AsyncConnection[Any], endings: Sequence[Ending]) -> frozenset[UUID]:
    """Keeps the answers of calls that were served and frees the keys of the others.

    Has to run inside the transaction that writes the calls' rows. Returns the served calls that had
    lost their key meanwhile: where there are any the transaction has to be rolled back.
    """
    served = [each for each in endings if each.answer is not None]
    freed = [each.claim for each in endings if each.answer is None]
    if freed:
        await database.execute(_FREE, _columns(freed))
    if not served:
        return frozenset()
    claims = [each.claim for each in served]
    cursor = await database.execute(
        _COMPLETE,
        {
            **_columns(claims),
            "answers": [each.answer for each in served],
            "seconds": float(KEPT_SECONDS),
        },
    )
    kept = {call_id for (call_id,) in await cursor.fetchall()}
    for each in served:
        known = _kept.get(each.claim.wallet)
        if known is not None:
            known.answers_bytes += len(each.answer or b"")
    return frozenset(claim.call_id for claim in claims if claim.call_id not in kept)


async def _measured(database: AsyncConnection[Any], wallet: str) -> _Kept:
    """What the wallet's answers take, some seconds old at most."""
    now = time.monotonic()
    known = _kept.get(wallet)
    if known is not None and now - known.measured_at < _MEASURED_SECONDS:
        return known
    if known is None:
        if len(_kept) >= _MEASURED_WALLETS:
            _kept.clear()
        known = _kept[wallet] = _Kept(now)
    # Those that come while it is measured go by what was known before.
    known.measured_at = now
    row = await (await database.execute(_MEASURE, {"wallet": wallet})).fetchone()
    if row is not None:
        known.answers_bytes, known.oldest_ends_at = int(row[0]), now + float(row[1])
    return known


def _columns(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "wallets": [claim.wallet for claim in claims],
        "keys": [claim.key_digest for claim in claims],
        "calls": [claim.call_id for claim in claims],
    }


def _purpose(wallet: str, key: str) -> str:
    return f"answer to {wallet} under {key}"


def _in_flight() -> Problem:
    return Problem(
        "idempotency-key-in-flight",
        "A call with this Idempotency-Key is under way.",
        status=409,
        remedy="Try again as Retry-After says, with the same key: you get its answer.",
        retry_safe=True,
        retry_after_seconds=_RETRY_SECONDS,
    )


def _too_many(kept: _Kept) -> Problem:
    wait = max(1, math.ceil(kept.oldest_ends_at - time.monotonic()))
    goes = datetime.now(UTC) + timedelta(seconds=wait)
    return Problem(
        "too-many-kept-answers",
        f"The answers that are kept for this wallet's idempotency keys take {kept.answers_bytes} "
        f"bytes, above {settings.KEYED_ANSWERS_MAX_BYTES}. Nothing ran and nothing was charged.",
        status=429,
        remedy="Calls without an Idempotency-Key still work, and so do keys that were answered. "
        f"The oldest answer goes at {goes:%Y-%m-%d %H:%M} UTC.",
        retry_safe=True,
        retry_after_seconds=wait,
    )
