"""Probes for whoever runs us: alive, ready (database, Redis, a node), and Prometheus metrics."""

from __future__ import annotations

from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django_prometheus.exports import ExportToDjangoView
from redis.exceptions import RedisError

from inframind.identity.authority import permitted
from marketplace.mesh.queries import ready_node_count


@permitted(GET="site.read")
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@permitted(GET="site.read")
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when a call could be served; 503 names the part that is missing."""
    parts: dict[str, str] = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        parts["database"] = "ok"
        parts["nodes"] = "ok" if ready_node_count() else "no node is ready"
    except DatabaseError as error:
        parts["database"] = type(error).__name__
    try:
        cache.get("readyz")
        parts["redis"] = "ok"
    except RedisError as error:
        parts["redis"] = type(error).__name__
    ready = all(value == "ok" for value in parts.values())
    return JsonResponse({"ready": ready, "parts": parts}, status=200 if ready else 503)


@permitted(GET="site.read")
def metrics(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse = ExportToDjangoView(request)
    return answer
