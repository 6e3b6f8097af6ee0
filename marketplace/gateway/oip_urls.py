"""Addresses of the Open Inference Protocol, with and without a version."""

from django.urls import URLPattern, path

from marketplace.gateway import oip_api

_MODEL = "v2/models/<str:name>"
_VIEWS = {
    "": oip_api.MetadataView,
    "/ready": oip_api.ModelReadyView,
    "/config": oip_api.ConfigView,
    "/stats": oip_api.StatisticsView,
    "/infer": oip_api.InferView,
}

urlpatterns: list[URLPattern] = [
    path("v2", oip_api.ServerView.as_view()),
    path("v2/health/live", oip_api.LiveView.as_view()),
    path("v2/health/ready", oip_api.ReadyView.as_view()),
    *(
        path(f"{model}{rest}", view.as_view())
        for rest, view in _VIEWS.items()
        for model in (_MODEL, f"{_MODEL}/versions/<str:version>")
    ),
]
