"""The Celery application: `celery -A inframind worker|beat`."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")

app = Celery("inframind")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
