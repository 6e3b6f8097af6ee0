"""Addresses under /inference/."""

from django.urls import path

from marketplace.gateway import api

urlpatterns = [
    path("v1/<str:reference>", api.InferenceView.as_view(), name="inference"),
    path("v1/<str:reference>/batch", api.BatchView.as_view()),
]
