"""Model names: their form, the reserved ones, and which of them a person would confuse."""

import re
from typing import Final

MAX_CHARACTERS: Final = 63

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])", re.ASCII)
_GENERATION: Final = re.compile(r"(?P<stem>.+?)-v(?P<digits>[0-9]+(?:-[0-9]+)*)", re.ASCII)

_RESERVED_WORDS: Final = """
    about account admin administrator all anonymous api app assets auth badge badges ballots
    bounties bounty call catalog collection collections create curation curator curators dao
    default delegations delete demo deposits docs download edit elections endpoint endpoints epoch
    epochs export facets false favicon featured feed health help home ifm import index inference
    infra infradao inframind internal latest list lists livez llms login logout manage me mesh
    metrics model models my new node nodes none null official openapi owner package packages policy
    private proposal proposals public publish readyz receipt receipts register registry rewards
    robots root schema schemas search security settings signin signout signup sitemap staff static
    status support system tag tags task tasks team terms test token tokens treasury true try
    undefined unknown update upload usage user users verification verified verify version versions
    wallet wallets webhook webhooks well-known withdrawals www
"""
RESERVED: Final = frozenset(_RESERVED_WORDS.split())

# Each digit becomes the letter it imitates; no two digits share one, so digits stay distinct.
_DIGITS: Final = str.maketrans("0123456789", "olzeasgtbq")
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def check_name(text: str) -> str:
    """Returns the name when it may be registered; raises ValueError, with the remedy, otherwise."""
    if not is_name(text):
        raise ValueError(
            f"{text[:80]!r} is not a model name. Use 2 to {MAX_CHARACTERS} lower-case letters, "
            "digits and single hyphens, beginning and ending with a letter or digit, "
            'like "summarizer-v1".'
        )
    taken = _reserved_word(text)
    if taken is not None:
        raise ValueError(
            f"The name {text!r} is reserved"
            + (f" (it reads like {taken!r})" if taken != text else "")
            + ". Add what the model does, like "
            f'"{text.strip("-")[:40]}-summarizer".'
        )
    return text


def is_name(text: str) -> bool:
    """Whether a text has the form of a model name, reserved or not."""
    return _NAME.fullmatch(text) is not None and "--" not in text


def is_reserved(name: str) -> bool:
    """Whether a name is kept back, or reads like one that is."""
    return _reserved_word(name) is not None


def skeleton(name: str) -> str:
    """Returns what a reader sees at a glance: names with one skeleton would be confused.

    The digits after a last `-v` are kept, so that `-v1` and `-v2` of one model stay apart.
    """
    match = _GENERATION.fullmatch(name.lower())
    if match is None:
        return _fold(name.lower())
    return f"{_fold(match['stem'])}-v{match['digits']}"


def _fold(text: str) -> str:
    folded = text.replace("-", "").translate(_DIGITS)
    for pair, letter in _PAIRS:
        folded = folded.replace(pair, letter)
    return folded.replace("l", "i")


def _reserved_word(name: str) -> str | None:
    if name in RESERVED:
        return name
    return _RESERVED_SKELETONS.get(skeleton(name))


_RESERVED_SKELETONS: Final = {skeleton(word): word for word in sorted(RESERVED)}
