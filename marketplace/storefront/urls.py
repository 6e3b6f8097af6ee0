"""Addresses of the pages."""

from django.urls import path

from marketplace.storefront import group_pages, manage, usage_page, views

app_name = "storefront"
urlpatterns = [
    path("", views.home, name="home"),
    path("models", views.models, name="models"),
    path("models/featured", views.featured, name="featured"),
    path("models/<str:name>", views.model, name="model"),
    path("models/<str:name>/manage", manage.manage, name="manage"),
    path("models/<str:name>/ask", group_pages.ask, name="ask"),
    path("account/groups", group_pages.groups_page, name="groups"),
    path("account/groups/<str:group>", group_pages.group_page, name="group"),
    path("account/asked", group_pages.asked, name="asked"),
    path("account/usage", usage_page.usage, name="usage"),
    path("account/usage.csv", usage_page.usage_csv, name="usage-csv"),
    path("collections/<slug:slug>", views.collection, name="collection"),
    path("publish", views.publish, name="publish"),
    path("nodes", views.nodes, name="nodes"),
    path("receipts/<uuid:call_id>", views.receipt, name="receipt"),
]
