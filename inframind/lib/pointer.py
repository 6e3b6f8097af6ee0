"""JSON pointers (RFC 6901): places inside a document, as text."""

from collections.abc import Iterable


def escape(token: str | int) -> str:
    """Returns one reference token as a pointer spells it."""
    return str(token).replace("~", "~0").replace("/", "~1")


def pointer_of(tokens: Iterable[str | int]) -> str:
    """Returns the pointer that leads through these keys and indices; "" is the whole document."""
    return "".join(f"/{escape(token)}" for token in tokens)


def tokens_of(pointer: str) -> list[str]:
    """Returns the keys and indices of a pointer, all as text."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
