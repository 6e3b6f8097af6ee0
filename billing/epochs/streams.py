"""Streams of income and their ids, which never change once they are given."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from billing.epochs.models import Stream
from inframind.lib.merkle import HASH_BYTES, keccak

_AT_ONCE = 5_000


def ids_of(subjects: Mapping[str, bool]) -> dict[str, bytes]:
    """The id of each subject's stream, made where there is none yet. ``subjects``: to hidden.

    A public stream's is the keccak of its subject, which anyone can work out; a hidden one's is
    random, and says nothing. What a stream was when its id was made, it stays: a subject that is
    hidden later on gets a hidden one, and keeps to that.
    """
    names = list(subjects)
    found: dict[str, bytes] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        known = _known(some, subjects)
        new = [
            Stream(
                subject=subject,
                id=secrets.token_bytes(HASH_BYTES) if subjects[subject] else public_id(subject),
                hidden=subjects[subject],
            )
            for subject in some
            if subject not in known
        ]
        if new:
            # Another process may make the same ones at this moment: the first id counts.
            Stream.objects.bulk_create(new, ignore_conflicts=True)
            known = _known(some, subjects)
        found.update(known)
    return found


def public_id(subject: str) -> bytes:
    """The id of a stream that is no secret: the keccak of its subject, 32 bytes."""
    return keccak(subject.encode())


def _known(some: list[str], subjects: Mapping[str, bool]) -> dict[str, bytes]:
    # The hidden one comes last, and so it is the one that counts where there are two.
    rows = Stream.objects.filter(subject__in=some).order_by("hidden")
    return {
        subject: bytes(id)
        for subject, id, hidden in rows.values_list("subject", "id", "hidden")
        if hidden or not subjects[subject]
    }
