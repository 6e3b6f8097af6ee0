"""What the pages share: who looks, and from below how they refuse and number their rows."""

from __future__ import annotations

from django.http import HttpRequest

from inframind.identity.caller import Caller
from inframind.identity.pages import not_an_act as not_an_act
from inframind.identity.pages import page_view as page_view
from inframind.identity.pages import paged as paged
from inframind.identity.queries import caller_of_wallet


def viewer_of(request: HttpRequest) -> Caller | None:
    """The wallet that is signed in, if any."""
    return caller_of_wallet(str(request.user.pk)) if request.user.is_authenticated else None
