"""The development stack as an app, so that `manage.py seed_demo` exists where a stack runs."""

from django.apps import AppConfig


class DevstackConfig(AppConfig):
    name = "inframind.devstack"
    label = "devstack"
