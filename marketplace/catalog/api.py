"""REST of the catalog: find, register, read and verify models."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity import authority
from inframind.identity.api import caller_of, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, not_found
from inframind.storage import errors
from marketplace.catalog import (
    documents,
    intake,
    manifest,
    packagekeys,
    packages,
    queries,
    services,
)
from marketplace.catalog.access import managed
from marketplace.catalog.search import SORTS
from marketplace.catalog.visibility import kind_of, roles_on

_MAX_VALUES = 20
_TEXT = [OpenApiParameter(key, str) for key in ("q", "sort", "price", "cursor")]
_LISTS = [
    OpenApiParameter(key, str, many=True)
    for key in ("task", "runtime", "license", "badge", "stability")
]


class TarRenderer(BaseRenderer):
    """Lets ``Accept: application/x-tar`` through; the stream itself is not rendered."""

    media_type = "application/x-tar"
    format = "tar"

    def render(self, data: Any, accepted: Any = None, context: Any = None) -> bytes:
        """Only refusals come here, and those are answered before rendering."""
        raise TypeError("A package is streamed, not rendered.")


@permitted(GET="site.read", POST="model.register")
class ModelList(APIView):
    """Every model that the caller may see, and the way in for new ones."""

    parser_classes = [MultiPartParser, *APIView.parser_classes]

    @extend_schema(
        operation_id="models_list",
        parameters=[*_TEXT, *_LISTS],
        responses=documents.ModelPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """Search: free text, facets, order; 20 models a page, the next one under `next`."""
        wanted = _search_request(request)
        page = queries.search(wanted, viewer=viewer_of(request))
        more = page.page < page.pages
        return Response(
            {
                "results": [
                    documents.summary_document(model, model.current)
                    for model in page.models
                    if model.current is not None
                ],
                "next": _next_url(request, wanted.page + 1) if more else None,
                "total": page.total,
                "facets": {
                    key: [
                        {"value": facet.value, "label": facet.label, "count": facet.count}
                        for facet in values
                    ]
                    for key, values in page.facets.items()
                },
            }
        )

    @extend_schema(
        operation_id="models_register",
        request={
            "multipart/form-data": documents.RegisterSerializer,
            "application/json": documents.RegisterSerializer,
        },
        responses={
            201: documents.RegistrationSerializer,
            200: OpenApiResponse(
                documents.RegistrationSerializer, description="Exactly this was registered before."
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Register a package: uploaded as tar, or fetched once from a reference."""
        caller = caller_of(request)
        form = documents.RegisterSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        registration = services.register(
            publisher=Wallet.objects.get(pk=caller.address),
            stream=given.get("package"),
            reference=given.get("reference", ""),
            expected_cid=given.get("cid", ""),
            name=given.get("name", ""),
            version=given.get("version", ""),
            allow_list=given.get("allow_list", ()),
            caller=caller,
        )
        made = registration.version
        version = queries.get_version(made.model_id, made.number, viewer=caller)
        body = {**documents.version_document(version), "notices": list(registration.notices)}
        return Response(body, status=201 if registration.created else 200)


@permitted(GET="model.see")
class ModelDetail(APIView):
    @extend_schema(operation_id="models_retrieve", responses=documents.ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        """A model: its current version with schemas and price, and the line of its versions."""
        viewer = viewer_of(request)
        version = queries.get_version(name, None, viewer=viewer)
        is_owner = viewer is not None and viewer.owns(version.model.owner_id, name)
        listed = [
            each
            for each in queries.versions_of(version.model)
            if each.state != each.State.PENDING or is_owner
        ]
        return Response(documents.model_document(version, listed))


@permitted(GET="model.see")
class VersionDetail(APIView):
    @extend_schema(operation_id="versions_retrieve", responses=documents.VersionSerializer)
    def get(self, request: Request, name: str, version: str) -> Response:
        """One version with its manifest, files and badges."""
        found = queries.get_version(name, version, viewer=viewer_of(request))
        return Response(documents.version_document(found))


@permitted(GET="model.see", POST="version.verify")
class VersionVerification(APIView):
    @extend_schema(operation_id="verification_retrieve", responses=documents.VerificationSerializer)
    def get(self, request: Request, name: str, version: str) -> Response:
        """The newest run of the checks, check by check."""
        found = queries.get_version(name, version, viewer=viewer_of(request))
        run = queries.latest_verification(found)
        return Response(documents.verification_document(found, run))

    @extend_schema(
        operation_id="verification_request",
        request=None,
        responses={202: documents.VerificationSerializer},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Queue the checks again. The owner's to ask; one run at a time."""
        caller = viewer_of(request)
        managed(name, caller, "version.verify")
        found = queries.get_version(name, version, viewer=caller)
        services.request_verification(version=found)
        run = queries.latest_verification(found)
        return Response(documents.verification_document(found, run), status=202)


@permitted(GET="package.read")
class VersionPackage(APIView):
    renderer_classes = [JSONRenderer, TarRenderer]

    @extend_schema(
        operation_id="package_retrieve",
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(
        self, request: Request, name: str, version: str
    ) -> HttpResponse | StreamingHttpResponse:
        """Exactly the files that were published, as a tar; every block is hashed on the way out.

        A sealed package is opened here for those who may read it.
        """
        viewer = viewer_of(request)
        found = queries.get_version(name, version, viewer=viewer)
        authority.require(
            viewer,
            "package.read",
            kind_of(found.model),
            roles=roles_on(viewer, found.model),
            seen=True,
        )
        etag = f'"{found.content_cid}"'
        headers = {
            "ETag": etag,
            "Inframind-Cid": found.content_cid,
            "Inframind-Stored-Cid": found.cid,
            "Cache-Control": "private, no-cache",
        }
        if request.headers.get("If-None-Match") == etag:
            return HttpResponse(status=304, headers=headers)
        with intake.translated():
            try:
                package = packages.Export(found)
            except (errors.HashMismatch, errors.ContentNotFound) as error:
                raise Problem(
                    "package-damaged",
                    str(error),
                    status=503,
                    retry_after_seconds=60,
                    remedy="The owner can repair it by publishing the same package again.",
                ) from error
        headers["Content-Disposition"] = (
            f'attachment; filename="{found.model_id}-{found.number}.tar"'
        )
        return StreamingHttpResponse(package, content_type="application/x-tar", headers=headers)


@permitted(GET="model.see")
class PackageKeys(APIView):
    @extend_schema(operation_id="package_keys_retrieve", responses=documents.PackageKeysSerializer)
    def get(self, request: Request, name: str) -> Response:
        """The age identities that open what was sealed while this model was private.

        They are everybody's since it became public; a model that is private tells none.
        """
        model = queries.get_model(name, viewer=viewer_of(request))
        if not model.public:
            raise not_found("disclosed package key of this model")
        with intake.translated():
            keys = [documents.package_key_document(key) for key in packagekeys.disclosed(model)]
        return Response({"keys": keys})


@permitted(GET="site.read")
class ManifestSchema(APIView):
    authentication_classes = []

    @extend_schema(
        operation_id="manifest_schema",
        responses={(200, "application/schema+json"): OpenApiTypes.OBJECT},
        auth=[],
    )
    def get(self, request: Request) -> Response:
        """The JSON Schema of `model.yaml`, for editors and checks before publishing."""
        return Response(manifest.manifest_json_schema(), content_type="application/schema+json")


def _search_request(request: Request) -> queries.SearchRequest:
    query = request.query_params
    sort = query.get("sort") or ("relevance" if query.get("q") else "name")
    if sort not in SORTS:
        raise Problem(
            "invalid-request",
            f"sort is one of {', '.join(SORTS)}.",
            status=422,
            remedy="Choose one.",
        )
    price = query.get("price", "")
    if price not in ("", "free", "paid"):
        raise Problem("invalid-request", "price is free or paid.", status=422)

    def values(key: str) -> tuple[str, ...]:
        found = (value.replace("\0", "")[:100] for value in query.getlist(key)[:_MAX_VALUES])
        return tuple(value for value in found if value)

    return queries.SearchRequest(
        text=query.get("q", ""),
        tasks=values("task"),
        runtimes=values("runtime"),
        licenses=values("license"),
        badges=values("badge"),
        stabilities=values("stability"),
        price=price,
        sort=sort,
        page=_cursor_page(query.get("cursor", "")),
    )


def _cursor_page(cursor: str) -> int:
    if not cursor:
        return 1
    try:
        page = int(base64.urlsafe_b64decode(cursor.encode()).decode()[:8])
    except (ValueError, binascii.Error, UnicodeError):
        page = 0
    if page < 1:
        raise Problem(
            "invalid-cursor",
            "This cursor is not one that was given out.",
            status=422,
            remedy="Begin without a cursor and follow `next`.",
        )
    return page


def _next_url(request: Request, page: int) -> str:
    query = {key: values for key, values in request.query_params.lists() if key != "cursor"}
    query["cursor"] = [base64.urlsafe_b64encode(str(page).encode()).decode()]
    return f"{settings.SITE_URL}/api/v1/models?{urlencode(query, doseq=True)}"
