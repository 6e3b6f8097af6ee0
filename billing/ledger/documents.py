"""Amounts and requests of the money's REST API, as they are read and written everywhere."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from django.conf import settings
from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inframind.identity.token_api import AmountDocument as AmountDocument
from inframind.lib.amounts import format_ifm, parse_ifm
from inframind.lib.problem import Problem, Violation

# What a column of the books holds, and a uint256 of the contracts besides.
AMOUNT_MAX_BASE_UNITS: Final = 10**77
_CURSOR_MAX_CHARACTERS: Final = 200


@extend_schema_field(OpenApiTypes.STR)
class AmountField(serializers.Field[int, Any, Any, Any]):
    """An amount like ``"2.5 IFM"``, above zero unless ``zero`` is let in; an ``int`` of base units
    once it is read."""

    def __init__(self, *, zero: bool = False, **kwargs: Any) -> None:
        self.zero = zero
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        """Base units. Numbers are refused: JSON's are not exact."""
        if not isinstance(data, str):
            raise serializers.ValidationError('Write the amount as a text, like "2.5 IFM".')
        try:
            return read_amount(data, zero=self.zero)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None

    def to_representation(self, value: Any) -> Any:
        """As it is read again."""
        return format_ifm(int(value))


def read_amount(text: str, *, zero: bool = False) -> int:
    """Base units, not zero unless that is let in. Raises ``ValueError`` with the remedy."""
    base_units = parse_ifm(text)
    if base_units == 0 and not zero:
        raise ValueError("Nothing would move. Name an amount above zero.")
    if base_units > AMOUNT_MAX_BASE_UNITS:
        raise ValueError("There is not so much IFM. Name a smaller amount.")
    return base_units


class StrictRequest(serializers.Serializer[Any]):
    """A request that is refused whole for a field that it does not know: a misspelt ``relay`` must
    not pass for one that was left out."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [str(key)[:80] for key in data if key not in self.fields]
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError(
                    dict.fromkeys(unknown[:20], f"There is no such field here; there is {known}.")
                )
        return super().to_internal_value(data)


def cursor_of(query: QueryDict) -> str:
    """What ``?cursor=`` says, in the words of the view that gave it out; "" for the beginning.

    Raises a 422 ``Problem`` for one that was not given out.
    """
    given = query.get("cursor", "")
    if not given:
        return ""
    try:
        if len(given) > _CURSOR_MAX_CHARACTERS:
            raise ValueError("too long")
        return base64.urlsafe_b64decode(given.encode("ascii")).decode("ascii")
    except (ValueError, binascii.Error):
        raise bad_cursor() from None


def bad_cursor() -> Problem:
    """The refusal of a cursor that nobody gave out."""
    return Problem(
        "invalid-cursor",
        "This cursor is not one that was given out.",
        status=422,
        remedy="Begin without a cursor and follow `next`.",
        violations=(Violation("/cursor", "It was not given out by this list."),),
    )


def next_url(path: str, query: QueryDict, cursor: str) -> str:
    """The address of the following page, everything else of the query kept."""
    following = query.copy()
    following["cursor"] = base64.urlsafe_b64encode(cursor.encode("ascii")).decode("ascii")
    return f"{settings.SITE_URL}{path}?{following.urlencode()}"
