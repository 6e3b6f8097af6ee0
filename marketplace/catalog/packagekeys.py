"""The keys that packages of private models are sealed with: one in use a model, wrapped at rest.

A key is the model's own until the model becomes public. Then it is disclosed, since everybody may
read what it sealed; should the model be private again, later packages are sealed with a new one.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db.models.functions import Now

from inframind.lib.wrapping import WrappedUnder, unwrap, wrap
from inframind.storage.errors import KeyUnreadable
from inframind.storage.sealed import new_key_pair
from marketplace.catalog.models import Model, PackageKey

_PURPOSE: Final = "inframind package keys"


def key_in_use(model: Model) -> PackageKey:
    """The key for the next package, made where there is none. The model's row must be locked."""
    found = PackageKey.objects.filter(model=model, disclosed_at__isnull=True).first()
    if found is not None:
        return found
    pair = new_key_pair()
    wrapped = wrap(pair.secret, key=settings.PACKAGE_KEY, purpose=_PURPOSE)
    return PackageKey.objects.create(model=model, recipient=pair.recipient, secret_wrapped=wrapped)


def secret_of(key: PackageKey) -> str:
    """The age identity `AGE-SECRET-KEY-1…`. Raises ``KeyUnreadable``."""
    try:
        return unwrap(key.secret_wrapped, key=settings.PACKAGE_KEY, purpose=_PURPOSE)
    except WrappedUnder:
        raise KeyUnreadable(
            "The package's key was stored under another PACKAGE_KEY. The registry's operator has "
            "to restore that setting; the package itself is unharmed."
        ) from None


def disclose(*, model: Model) -> bool:
    """Makes the key in use everybody's to read; says whether there was one.

    Call it, with the model's row locked, where the model becomes public.
    """
    in_use = PackageKey.objects.filter(model=model, disclosed_at__isnull=True)
    return in_use.update(disclosed_at=Now()) > 0


def disclosed(model: Model) -> list[PackageKey]:
    """The keys that everybody may read, the newest first, each with its versions."""
    keys = PackageKey.objects.filter(model=model, disclosed_at__isnull=False)
    return list(keys.prefetch_related("versions"))
