"""Addresses of the catalog, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from marketplace.catalog import access_api, api, standing_api

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
    path(
        "models/<str:name>/versions/<str:version>/deprecate",
        standing_api.DeprecateView.as_view(),
        name="api-deprecate",
    ),
    path(
        "models/<str:name>/versions/<str:version>/terms",
        standing_api.TermsView.as_view(),
        name="api-terms",
    ),
    path("models/<str:name>/package-key", api.PackageKeys.as_view(), name="api-package-keys"),
    path("models/<str:name>/access", access_api.AccessView.as_view(), name="api-access"),
    path(
        "models/<str:name>/access/entries",
        access_api.EntriesView.as_view(),
        name="api-access-entries",
    ),
    path(
        "models/<str:name>/access/entries/<str:who>",
        access_api.EntryView.as_view(),
        name="api-access-entry",
    ),
    path(
        "models/<str:name>/access/history",
        access_api.HistoryView.as_view(),
        name="api-access-history",
    ),
    path(
        "models/<str:name>/access/requests",
        access_api.RequestsView.as_view(),
        name="api-access-requests",
    ),
    path(
        "models/<str:name>/access/requests/<uuid:request_id>",
        access_api.RequestView.as_view(),
        name="api-access-request",
    ),
    path("account/access-requests", access_api.AskedView.as_view(), name="api-asked"),
    path("groups", access_api.GroupsView.as_view(), name="api-groups"),
    path("groups/<str:group>", access_api.GroupView.as_view(), name="api-group"),
    path("groups/<str:group>/members", access_api.MembersView.as_view(), name="api-members"),
    path(
        "groups/<str:group>/members/<str:address>",
        access_api.MemberView.as_view(),
        name="api-member",
    ),
]
