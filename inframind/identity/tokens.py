"""What a token's text proves: nothing that could be used is ever stored.

The root key of a token is HKDF-SHA256 (RFC 5869) of the server key with the token's id as info;
the MACs of the token and of its narrowings follow from it (``inframind.lib.bearer``). Whoever reads
the database learns ids, caveats and revocations only.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from inframind.lib import bearer
from inframind.lib.scopes import Caveat

# A narrowing's meter has the narrowing's id, so that two first uses at once make one of each. Rows
# go in from the root on, in this order for everybody: two writers wait, and never for each other.
_MAKE: Final = """
    WITH given AS (
        SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::text[], %s::bigint[],
                             %s::numeric[], %s::boolean[])
            AS given (id, parent_id, depth, caveat, calls_limit, spend_limit, metered)
    ), meters AS (
        INSERT INTO identity_meter
            (id, calls_limit, spend_limit_base_units, calls_used, spent_base_units)
        SELECT id, calls_limit, spend_limit, 0, 0 FROM given WHERE metered ORDER BY depth
        ON CONFLICT (id) DO NOTHING
    )
    INSERT INTO identity_narrowing (id, token_id, parent_id, depth, caveat, meter_id)
    SELECT id, %s, parent_id, depth, caveat::jsonb, CASE WHEN metered THEN id END
    FROM given ORDER BY depth
    ON CONFLICT (id) DO NOTHING
"""


@dataclass(frozen=True)
class Presented:
    """A token whose MAC is right. ``chain``: the ids of its narrowings, beside their caveats."""

    token_id: UUID
    caveats: tuple[Caveat, ...] = ()
    chain: tuple[UUID, ...] = ()

    @property
    def metered_ids(self) -> tuple[UUID, ...]:
        """The narrowings that set a limit of their own, whose meters carry the same ids."""
        return tuple(
            narrowing
            for narrowing, caveat in zip(self.chain, self.caveats, strict=True)
            if caveat.metered
        )


def root_key(server_key: str, token_id: UUID) -> bytes:
    """32 bytes that belong to this token alone."""
    return HKDF(
        algorithm=SHA256(), length=32, salt=b"inframind bearer token v1", info=token_id.bytes
    ).derive(server_key.encode())


def root_mac(server_key: str, token_id: UUID) -> bytes:
    """The MAC of a token as issued, 24 bytes."""
    return bearer.root_mac(root_key(server_key, token_id), token_id)


def issue(server_key: str, token_id: UUID) -> str:
    """The token's text, to be shown once."""
    return bearer.encode(token_id, root_mac(server_key, token_id))


def verify(server_key: str, text: str) -> Presented:
    """What a token of this server, or one narrowed from it, says.

    Raises ``ValueError`` on any other text, and on a caveat that is not understood.
    """
    parsed = bearer.decode(text)
    root = root_mac(server_key, parsed.token_id)
    macs = bearer.chain(root, parsed.caveats)
    if not hmac.compare_digest(parsed.mac, macs[-1] if macs else root):
        raise ValueError("this server did not issue that token")
    return Presented(
        parsed.token_id,
        tuple(map(_parsed, parsed.caveats)),
        tuple(bearer.narrowing_id(mac) for mac in macs),
    )


def rows_of_narrowings(presented: Presented) -> tuple[str, list[Any]]:
    """SQL that makes whichever rows of a token's narrowings, and of their meters, are not there.

    The token's own row has to exist.
    """
    caveats, ids = presented.caveats, list(presented.chain)
    return _MAKE, [
        ids,
        [None, *ids[:-1]],
        list(range(1, len(ids) + 1)),
        [caveat.as_bytes().decode() for caveat in caveats],
        [caveat.calls_limit for caveat in caveats],
        [caveat.spend_limit_base_units for caveat in caveats],
        [caveat.metered for caveat in caveats],
        presented.token_id,
    ]


# What a caveat says never changes, and only those with a right MAC come here.
_parsed = lru_cache(maxsize=4096)(Caveat.parse)
