"""The storefront: pages over the catalog, the mesh and the gateway."""

from django.apps import AppConfig


class StorefrontConfig(AppConfig):
    name = "marketplace.storefront"
    verbose_name = "Storefront"
