"""Addresses of the catalog, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from marketplace.catalog import api

urlpatterns = [
    path("manifest.schema.json", api.ManifestSchema.as_view(), name="manifest-schema"),
    path("models", api.ModelList.as_view(), name="api-models"),
    path("models/<str:name>", api.ModelDetail.as_view(), name="api-model"),
    path(
        "models/<str:name>/versions/<str:version>",
        api.VersionDetail.as_view(),
        name="api-version",
    ),
    path(
        "models/<str:name>/versions/<str:version>/verification",
        api.VersionVerification.as_view(),
        name="api-verification",
    ),
    path(
        "models/<str:name>/versions/<str:version>/package",
        api.VersionPackage.as_view(),
        name="api-package",
    ),
]
