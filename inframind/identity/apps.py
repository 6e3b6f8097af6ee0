"""Identity: who is asking."""

from django.apps import AppConfig


class IdentityConfig(AppConfig):
    name = "inframind.identity"
    label = "identity"

    def ready(self) -> None:
        """Connects what tells of changes."""
        from inframind.identity import receivers  # noqa: F401
