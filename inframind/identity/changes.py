"""News of what gateways remember: told to those of this process, and through Redis to all others.

A message is ``token:<id>``, ``wallet:<address>`` or ``model:<name>``: whatever is remembered of it
is not true any more. They are only to be fast: what a gateway remembers is a second old at most,
so nothing depends on a message that gets lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

CHANNEL: Final = "inframind:changed"
# A Redis that does not answer holds up the writers by no more than this in a while.
_TIMEOUT_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 5.0

_listeners: list[Callable[[str], None]] = []
_silent_until = 0.0


def token_changed(token_id: object) -> None:
    """What a token or one of its narrowings may do is another now."""
    announce(f"token:{token_id}")


def wallet_changed(address: str) -> None:
    """What a wallet is, or may see, is another now."""
    announce(f"wallet:{address}")


def model_changed(name: str) -> None:
    """A model's access, or one of its versions, is another now."""
    announce(f"model:{name}")


def announce(message: str) -> None:
    """Tells everybody once the transaction is through, at once where there is none."""
    transaction.on_commit(lambda: _tell(message))


def listen(listener: Callable[[str], None]) -> Callable[[], None]:
    """Calls the listener with every message of this process, in the thread that announced it.

    Returns what ends that.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def _tell(message: str) -> None:
    global _silent_until
    for listener in list(_listeners):
        listener(message)
    if time.monotonic() < _silent_until:
        return
    try:
        _redis(settings.REDIS_URL).publish(CHANNEL, message)
    except (RedisError, OSError) as error:
        _silent_until = time.monotonic() + _PAUSE_SECONDS
        log.warning("change not told", reason=type(error).__name__)


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    )
