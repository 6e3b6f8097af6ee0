"""Identity: who is asking."""

from django.apps import AppConfig


class IdentityConfig(AppConfig):
    name = "inframind.identity"
    label = "identity"
