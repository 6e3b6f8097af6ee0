"""Catalog: what is listed."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "marketplace.catalog"
    label = "catalog"

    def ready(self) -> None:
        """Connects what tells of changes."""
        from marketplace.catalog import receivers  # noqa: F401
