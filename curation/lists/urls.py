"""Addresses under /api/v1/."""

from django.urls import path

from curation.lists import api

urlpatterns = [
    path("collections", api.CollectionList.as_view(), name="api-collections"),
    path("collections/<slug:slug>", api.CollectionDetail.as_view(), name="api-collection"),
]
