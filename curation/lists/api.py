"""REST: the curated collections, with the figures each rank was computed from."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from curation.lists import queries
from inframind.identity.authority import permitted


class EntrySerializer(serializers.Serializer[Any]):
    position = serializers.IntegerField()
    name = serializers.CharField()
    version = serializers.CharField()
    description = serializers.CharField()
    score = serializers.CharField(help_text="Exact decimal text.")
    figures = serializers.DictField(help_text="What the rule was fed: recount it.")


class CollectionSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    title = serializers.CharField()
    rule = serializers.CharField()
    computed_at = serializers.DateTimeField(allow_null=True)
    total = serializers.IntegerField()
    url = serializers.URLField()
    entries = EntrySerializer(many=True)


def _document(shelf: queries.Shelf) -> dict[str, Any]:
    return {
        "slug": shelf.slug,
        "title": shelf.title,
        "rule": shelf.rule,
        "computed_at": shelf.computed_at,
        "total": shelf.total,
        "url": f"{settings.SITE_URL}/collections/{shelf.slug}",
        "entries": [
            {
                "position": position,
                "name": entry.model_id,
                "version": entry.model.current.number,
                "description": entry.model.current.description,
                "score": entry.score,
                "figures": entry.figures,
            }
            for position, entry in enumerate(shelf.entries, start=1)
            if entry.model.current is not None
        ],
    }


@permitted(GET="site.read")
class CollectionList(APIView):
    @extend_schema(responses=CollectionSerializer(many=True), operation_id="collections_list")
    def get(self, request: Request) -> Response:
        """The five curated lists, the first four entries of each."""
        shelves = [_document(shelf) for shelf in queries.featured()]
        return Response(CollectionSerializer(shelves, many=True).data)


@permitted(GET="site.read")
class CollectionDetail(APIView):
    @extend_schema(responses=CollectionSerializer, operation_id="collections_retrieve")
    def get(self, request: Request, slug: str) -> Response:
        """One curated list, whole."""
        return Response(CollectionSerializer(_document(queries.shelf(slug))).data)
