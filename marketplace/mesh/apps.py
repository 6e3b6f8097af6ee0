"""Mesh: where models run."""

from django.apps import AppConfig


class MeshConfig(AppConfig):
    name = "marketplace.mesh"
    label = "mesh"

    def ready(self) -> None:
        from marketplace.catalog.trial import set_lender
        from marketplace.mesh import receivers  # noqa: F401
        from marketplace.mesh.trials import lend

        set_lender(lend)
