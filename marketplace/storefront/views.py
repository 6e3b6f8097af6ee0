"""The pages: each view parses the address, asks the domain once, and renders a page or its part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from inframind.identity import authority
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.identity.pages import page_or_part
from inframind.identity.queries import authenticate, token_required
from inframind.lib.problem import Problem
from marketplace.catalog import queries as catalog
from marketplace.catalog.services import register
from marketplace.gateway import queries as gateway
from marketplace.gateway import receipts
from marketplace.mesh import queries as mesh
from marketplace.mesh.reputation import MIN_SAMPLE
from marketplace.mesh.services import HOUSE_OPERATOR
from marketplace.storefront import listing
from marketplace.storefront.cards import Card, cards_of, cards_of_lists
from marketplace.storefront.model_page import blank_form, model_context
from marketplace.storefront.pages import page_view, viewer_of
from marketplace.storefront.shelves import Shelf, source
from marketplace.storefront.tryit import try_version

HOME_CALL = "summarizer-v1"
SAMPLE_MANIFEST = """\
name: summarizer-v1
version: "1.0"
description: Picks the sentences that carry a text.
license: Apache-2.0
task: summarization
runtime: python
entrypoint: summarizer.py:Summarizer
input_schema:
  type: object
  required: [text]
  properties:
    text: {type: string, maxLength: 20000}
output_schema:
  type: object
  required: [summary]
  properties:
    summary: {type: string}
examples:
  - input: {text: "Nodes run models. Rain fell."}
    output: {summary: "Nodes run models."}
pricing:
  per_request_fee: 0.25 IFM
# access: {public: false}  # private: only you and whom you let in
"""


def _shelves(shelves: Sequence[Shelf]) -> list[tuple[Shelf, tuple[Card, ...]]]:
    cards = cards_of_lists([entry.model for entry in shelf.entries] for shelf in shelves)
    return list(zip(shelves, cards, strict=True))


@permitted(GET="site.read")
@require_safe
@page_view
def home(request: HttpRequest) -> HttpResponse:
    """What this is, the lists, and a call to copy."""
    page = catalog.search(catalog.SearchRequest(), viewer=viewer_of(request))
    shelves = source().featured()
    return render(
        request,
        "storefront/home.html",
        {
            "total": page.total,
            "ready_nodes": mesh.ready_node_count(),
            "validated": sum(
                facet.count
                for facet in page.facets.get("badge", ())
                if facet.value == "schema-validated"
            ),
            "free": sum(
                facet.count for facet in page.facets.get("price", ()) if facet.value == "free"
            ),
            "tasks": sum(1 for facet in page.facets.get("task", ()) if facet.count),
            "shelves": _shelves(shelves),
            "call": (
                f"curl {settings.SITE_URL}/inference/v1/{HOME_CALL} \\\n"
                "  -H 'Content-Type: application/json' \\\n"
                """  --data '{"text": "Nodes run models. Rain fell. Calls leave receipts."}'"""
            ),
        },
    )


@permitted(GET="site.read")
@require_safe
@page_view
def models(request: HttpRequest) -> HttpResponse:
    """Search and facets; the address is the state."""
    wanted = listing.search_request(request.GET)
    page = catalog.search(wanted, viewer=viewer_of(request))
    query = request.GET
    chips = listing.chips(query, wanted, page)
    context = {
        "text": wanted.text,
        "page": page,
        "cards": cards_of(page.models),
        "facets": listing.facet_groups(query, page),
        "chips": chips,
        "filter_count": len(chips) - bool(wanted.text),
        "sorts": listing.sort_links(query, wanted),
        "view": listing.view_of(query),
        "views": listing.view_links(query),
        # Clearing the filters keeps the way the list is shown.
        "clear_url": listing.address(query, q=[], **{key: [] for key in listing.FACETS}),
        "kept": [
            (key, value)
            for key in (*listing.FACETS, "sort", "view")
            for value in query.getlist(key)[: listing.VALUES_LIMIT]
        ],
        "previous_url": listing.page_address(query, page.page - 1) if page.page > 1 else "",
        "position": f"Page {page.page} of {page.pages}",
        "next_url": listing.page_address(query, page.page + 1) if page.page < page.pages else "",
    }
    return page_or_part(request, "storefront/models.html", "browse", context)


@permitted(GET="site.read")
@require_safe
@page_view
def featured(request: HttpRequest) -> HttpResponse:
    """The five curated lists with their rules."""
    return render(request, "storefront/featured.html", {"shelves": _shelves(source().featured())})


@permitted(GET="site.read")
@require_safe
@page_view
def collection(request: HttpRequest, slug: str) -> HttpResponse:
    """One curated list, whole."""
    shelf = source().shelf(slug)
    cards = {card.name: card for card in cards_of(entry.model for entry in shelf.entries)}
    placed = [
        (entry, cards[entry.model.name]) for entry in shelf.entries if entry.model.name in cards
    ]
    return render(request, "storefront/collection.html", {"shelf": shelf, "placed": placed})


@permitted(GET="model.see", POST="model.call")
@require_http_methods(["GET", "HEAD", "POST"])
@page_view
def model(request: HttpRequest, name: str) -> HttpResponse:
    """A model's page; a POST is the try-it form."""
    number = request.GET.get("version") or None
    version = catalog.get_version(name, number, viewer=viewer_of(request))
    if request.method != "POST":
        return page_or_part(
            request, "storefront/model.html", "body", model_context(version, request)
        )
    tried = try_version(version, blank_form(version), request)
    context = model_context(version, request, tried)
    # A refusal for want of leave has its status on a page of its own; in a part that a script
    # asked for it is content, as the model's own answers are, and no error in a console.
    refused = tried.answer is not None and bool(tried.answer.token_error)
    status = tried.answer.status if tried.answer and refused and not request.htmx else 200  # type: ignore[attr-defined]
    return page_or_part(request, "storefront/model.html", "body", context, status=status)


@permitted(GET="site.read", POST="model.register")
@require_http_methods(["GET", "HEAD", "POST"])
@page_view
def publish(request: HttpRequest) -> HttpResponse:
    """How to publish, and a form for a package."""
    context: dict[str, Any] = {"sample_manifest": SAMPLE_MANIFEST}
    if request.method != "POST":
        return page_or_part(request, "storefront/publish.html", "form", context)
    status = 200
    try:
        token = request.POST.get("token", "").strip()
        address = str(request.META.get("REMOTE_ADDR", ""))
        caller = authenticate(token, address) if token else viewer_of(request)
        if caller is None:
            raise token_required("Publishing needs a wallet: sign in, or paste a token.")
        authority.admit(caller, "model.register")
        upload = request.FILES.get("package")
        if not isinstance(upload, UploadedFile) or upload.file is None:
            raise Problem(
                "package-missing",
                "No package was chosen.",
                status=422,
                remedy="Choose a tar file of the model's directory.",
            )
        publisher = Wallet.objects.get(pk=caller.address)
        registration = register(
            publisher=publisher, stream=cast(BinaryIO, upload.file), caller=caller
        )
        context["registration"] = registration
        context["check_command"] = f"infra model verify {registration.version}"
    except Problem as problem:
        status = problem.status
        context["problem"] = problem
        context["is_token_problem"] = problem.status in (401, 403)
    return page_or_part(request, "storefront/publish.html", "form", context, status=status)


@permitted(GET="node.read")
@require_safe
@page_view
def nodes(request: HttpRequest) -> HttpResponse:
    """The servers of the mesh and what each runs."""
    return render(
        request,
        "storefront/nodes.html",
        {"nodes": mesh.nodes(), "house": HOUSE_OPERATOR, "rated_from": MIN_SAMPLE},
    )


@permitted(GET="receipt.read")
@require_safe
@page_view
def receipt(request: HttpRequest, call_id: UUID) -> HttpResponse:
    """One call: to everybody what can be checked, to whose call, model or node it was all of it."""
    found = gateway.receipt(call_id, viewer=viewer_of(request))
    call = found.call
    return render(
        request,
        "storefront/receipt.html",
        {
            "receipt": receipts.as_document(found),
            "call": call,
            "is_whole": found.whole,
            "fee_base_units": int(call.fee_base_units),
            "batch": found.batch,
            "batch_fees_base_units": int(found.batch.fees_base_units) if found.batch else 0,
            "epoch_state": found.epoch_state,
            "latency_ms": call.latency_us / 1000,
            "node_latency_ms": call.node_latency_us / 1000 if call.node_latency_us else None,
            "verify_command": f"infra receipt verify {call.pk}",
        },
    )
