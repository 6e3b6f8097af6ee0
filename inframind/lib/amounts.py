"""IFM amounts: exact integers of base units (18 decimals) and their readable form."""

import re
from typing import Final, SupportsInt

DECIMALS: Final = 18
BASE_UNITS_PER_IFM: Final = 10**DECIMALS

_MAX_TEXT_CHARACTERS: Final = 80
_MAX_WHOLE_DIGITS: Final = 40
_AMOUNT: Final = re.compile(r"(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?", re.ASCII)
_UNIT: Final = re.compile(r"(?P<number>.*?)\s*ifm", re.IGNORECASE | re.DOTALL)


def parse_ifm(text: str) -> int:
    """Reads `"0.25 IFM"`, `"2.5IFM"` or `"0.25"` and returns base units (10**-18 IFM).

    Raises ValueError, with the remedy, for anything but a plain non-negative decimal number of at
    most 18 decimals: no sign, exponent, thousands separator, NaN or infinity.
    """
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise ValueError(
            f"An amount has at most {_MAX_TEXT_CHARACTERS} characters, this one has {len(text)}. "
            'Write it like "0.25 IFM".'
        )
    stripped = text.strip()
    unit = _UNIT.fullmatch(stripped)
    number = unit["number"] if unit else stripped
    if not number:
        raise ValueError('There is no amount. Write it like "0.25 IFM".')
    match = _AMOUNT.fullmatch(number)
    if match is None:
        raise ValueError(
            f"{text!r} is not an amount. Write a plain positive decimal number, with or without "
            'the unit, like "0.25 IFM" or "0.25".'
        )
    if len(match["whole"]) > _MAX_WHOLE_DIGITS:
        raise ValueError(
            f"There is not so much IFM: {len(match['whole'])} digits. Name a smaller amount."
        )
    fraction = match["fraction"] or ""
    if len(fraction) > DECIMALS:
        raise ValueError(
            f"{text!r} has {len(fraction)} decimals, IFM has {DECIMALS}. Leave out the last "
            f"{len(fraction) - DECIMALS}."
        )
    return int(match["whole"]) * BASE_UNITS_PER_IFM + int(fraction.ljust(DECIMALS, "0"))


def format_ifm(base_units: int) -> str:
    """Returns base units as exact readable IFM without trailing zeros, e.g. `"0.25 IFM"`."""
    sign = "-" if base_units < 0 else ""
    whole, rest = divmod(abs(base_units), BASE_UNITS_PER_IFM)
    fraction = f"{rest:0{DECIMALS}d}".rstrip("0")
    return f"{sign}{whole}{'.' if fraction else ''}{fraction} IFM"


def amount_document(base_units: SupportsInt) -> dict[str, str]:
    """An amount as every document has it, exact and readable; a column's ``Decimal`` will do."""
    exact = int(base_units)
    return {"base_units": str(exact), "text": format_ifm(exact)}
