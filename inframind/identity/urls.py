"""Addresses of identity's pages."""

from django.urls import path

from inframind.identity import views

urlpatterns = [
    path("staff/enter/<str:address>/<str:key>", views.staff_entry, name="staff-entry"),
]
