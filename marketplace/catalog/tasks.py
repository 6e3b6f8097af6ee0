"""Background work of the catalog. A queued row makes it happen; a lost message loses nothing."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from marketplace.catalog import services, verification

# The beat comes again, so a message that waited this long has a younger twin.
_MESSAGE_EXPIRES_SECONDS = 15


@shared_task(name="catalog.verify_pending")
def verify_pending() -> None:
    """Sends every due run to a worker."""
    for verification_id in verification.due_ids():
        verify.apply_async((str(verification_id),), expires=_MESSAGE_EXPIRES_SECONDS)


@shared_task(name="catalog.verify")
def verify(verification_id: str) -> None:
    """Does one run, unless another worker has it."""
    verification.verify(verification_id=UUID(verification_id))


@shared_task(name="catalog.choose_unexpired")
def choose_unexpired() -> None:
    """Lets an older version stand for a model whose current one expired."""
    services.choose_unexpired()


@shared_task(name="catalog.sweep_packages")
def sweep_packages() -> None:
    """Removes stored packages that no version refers to."""
    services.sweep_packages()
