"""Addresses of the pages."""

from django.urls import path

from marketplace.storefront import views

app_name = "storefront"
urlpatterns = [
    path("", views.home, name="home"),
    path("models", views.models, name="models"),
    path("models/featured", views.featured, name="featured"),
    path("models/<str:name>", views.model, name="model"),
    path("collections/<slug:slug>", views.collection, name="collection"),
    path("publish", views.publish, name="publish"),
    path("nodes", views.nodes, name="nodes"),
    path("receipts/<uuid:call_id>", views.receipt, name="receipt"),
]
