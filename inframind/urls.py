"""The composition root of addresses: which app answers where."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from inframind import health
from inframind.identity.authority import permitted

public = permitted(GET="site.read")

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("inference/", include("marketplace.gateway.urls")),
    path("", include("marketplace.gateway.oip_urls")),
    path("api/v1/", include("marketplace.catalog.urls")),
    path("api/v1/", include("marketplace.mesh.urls")),
    path("api/v1/", include("marketplace.gateway.api_urls")),
    path("api/v1/", include("curation.lists.urls")),
    path("api/v1/", include("billing.ledger.urls")),
    path("api/v1/", include("billing.epochs.urls")),
    path("api/v1/", include("billing.payouts.api_urls")),
    path("api/v1/", include("inframind.identity.api_urls")),
    path("api/schema/", public(SpectacularAPIView.as_view()), name="schema"),
    path("api/docs/", public(SpectacularSwaggerSplitView.as_view(url_name="schema")), name="docs"),
    path("admin/", admin.site.urls),
    path("", include("inframind.identity.urls")),
    path("", include("billing.payouts.urls")),
    path("", include("marketplace.storefront.urls")),
]

handler404 = "inframind.problems.page_not_found"
handler500 = "inframind.problems.server_error"
