"""The catalog in the admin portal: the review queue, and history and evidence to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path, reverse

from inframind.identity.admin_site import ReadOnly, may, wallet_of
from inframind.lib.access import Kind
from inframind.storage.errors import StorageError
from marketplace.catalog import packages, services
from marketplace.catalog.models import (
    AccessChange,
    AccessPolicy,
    AccessRequest,
    AllowEntry,
    Badge,
    Check,
    CodeReview,
    GroupMember,
    Model,
    PackageKey,
    Terms,
    Verification,
    Version,
    WalletGroup,
)
from marketplace.catalog.visibility import kind_of

_VERDICTS = {
    CodeReview.Verdict.APPROVED.value: "Approve: I have read it",
    CodeReview.Verdict.REFUSED.value: "Refuse",
}


def _waiting(versions: QuerySet[Version]) -> QuerySet[Version]:
    """Those whose code nobody has read yet."""
    read = CodeReview.objects.filter(cid__in=[OuterRef("content_cid"), OuterRef("cid")])
    return versions.filter(runtime=Version.Runtime.PYTHON, state=Version.State.PENDING).exclude(
        Exists(read)
    )


class WaitingFilter(admin.SimpleListFilter):
    title = "code review"
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting for it")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return _waiting(queryset) if self.value() == "waiting" else queryset


@admin.register(Model)
class ModelAdmin(ReadOnly):
    list_display = ["name", "owner", "current", "public", "restricted", "calls_30d", "created_at"]
    list_filter = ["public", "auth_required", "restricted"]
    search_fields = ["name", "owner__address"]
    list_select_related = ["owner", "current"]


@admin.register(Version)
class VersionAdmin(ReadOnly):
    """To staff every version; to curators the public ones whose code waits to be read."""

    list_display = ["__str__", "state", "runtime", "task", "short_reason", "created_at"]
    list_filter = [WaitingFilter, "state", "runtime", "stability"]
    search_fields = ["model__name", "cid", "content_cid"]
    change_form_template = "admin/with_acts.html"

    @admin.display(description="reason")
    def short_reason(self, version: Version) -> str:
        return version.state_reason[:80]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if super().has_view_permission(request):
            return True
        kind = Kind.OPEN_MODEL if obj is None else kind_of(obj.model)
        return may(request, "code.review", kind)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Version]:
        versions: QuerySet[Version] = super().get_queryset(request).select_related("model")
        if may(request, self.permission):
            return versions
        return _waiting(versions).filter(model__public=True)

    def get_list_filter(self, request: HttpRequest) -> Any:
        return self.list_filter if may(request, self.permission) else []

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {} if may(request, self.permission) else {"title": "Code that waits to be read"}
        return super().changelist_view(request, {**(extra_context or {}), **title})

    def acts_of(self, request: HttpRequest, obj: Version) -> list[tuple[str, str]]:
        acts = []
        if obj.runtime == Version.Runtime.PYTHON:
            acts.append(("../review/", "Review the code"))
        if may(request, self.permission):
            acts.append(("../verify/", "Verify again"))
        return acts

    def get_urls(self) -> list[Any]:
        def entered(view: Callable[..., Any]) -> Any:
            return self.admin_site.admin_view(view)

        return [
            path("<uuid:pk>/review/", entered(self.review_view), name="catalog_version_review"),
            path("<uuid:pk>/package/", entered(self.package_view), name="catalog_version_package"),
            path("<uuid:pk>/verify/", entered(self.verify_view), name="catalog_version_verify"),
            *super().get_urls(),
        ]

    def review_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """The verdict on publisher code, with what was looked at, which the owner is told."""
        version = self._found(request, pk)
        if not may(request, "code.review", kind_of(version.model)):
            raise Http404

        def act(verdict: str, reason: str) -> None:
            services.review_code(
                version=version, reviewer=wallet_of(request), verdict=verdict, note=reason
            )

        return self.act_page(
            request,
            version,
            title=f"Review the code of {version}",
            verbs=_VERDICTS,
            act=act,
            context={
                "files": version.files,
                "package_url": reverse("admin:catalog_version_package", args=[version.pk]),
                "content_cid": version.content_cid,
            },
        )

    def package_view(self, request: HttpRequest, pk: Any) -> HttpResponseBase:
        """The package as published, to be read; a sealed one is opened for those who may."""
        version = self._found(request, pk)
        kind = kind_of(version.model)
        if not may(request, "code.review", kind):
            raise Http404
        try:
            package = packages.Export(version)
        except StorageError as error:
            self.message_user(request, str(error), messages.ERROR)
            return redirect("admin:catalog_version_review", pk=pk)
        self.log_change(request, version, "Downloaded the package")
        name = f"{version.model_id}-{version.number}.tar"
        return StreamingHttpResponse(
            package,
            content_type="application/x-tar",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    def verify_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        version = self._found(request, pk)
        if not may(request, self.permission):
            raise Http404

        def act(verb: str, reason: str) -> None:
            services.request_verification(version=version)

        return self.act_page(
            request,
            version,
            title=f"Verify {version} again",
            verbs={"verify": "Verify again"},
            act=act,
        )

    def _found(self, request: HttpRequest, pk: Any) -> Version:
        version = self.get_queryset(request).filter(pk=pk).first()
        if version is None:
            raise Http404
        return version


@admin.register(Verification)
class VerificationAdmin(ReadOnly):
    list_display = ["version", "state", "reason_code", "node_name", "attempts", "created_at"]
    list_filter = ["state"]
    search_fields = ["version__model__name", "version__cid"]
    list_select_related = ["version"]


@admin.register(Check)
class CheckAdmin(ReadOnly):
    list_display = [
        "verification_id",
        "kind",
        "passed",
        "cases_passed",
        "cases_total",
        "created_at",
    ]
    list_filter = ["kind", "passed"]
    search_fields = ["cid"]


@admin.register(Badge)
class BadgeAdmin(ReadOnly):
    list_display = ["version", "kind", "granted_at", "expires_at"]
    list_filter = ["kind"]
    list_select_related = ["version"]


@admin.register(CodeReview)
class CodeReviewAdmin(ReadOnly):
    list_display = ["cid", "verdict", "reviewer", "note", "created_at"]
    list_filter = ["verdict"]
    list_select_related = ["reviewer"]
    search_fields = ["cid"]


@admin.register(AccessPolicy)
class AccessPolicyAdmin(ReadOnly):
    list_display = [
        "model",
        "public",
        "auth_required",
        "restricted",
        "reason",
        "changed_by",
        "created_at",
    ]
    list_select_related = ["model", "changed_by"]


@admin.register(AllowEntry)
class AllowEntryAdmin(ReadOnly):
    list_display = ["model", "address", "group_name", "expires_at", "note", "created_at"]
    list_select_related = ["model", "group"]
    search_fields = ["model__name", "address", "group__name"]

    @admin.display(description="group")
    def group_name(self, entry: AllowEntry) -> str:
        return f"@{entry.group.name}" if entry.group else ""


@admin.register(AccessChange)
class AccessChangeAdmin(ReadOnly):
    list_display = [
        "created_at",
        "model",
        "group_name",
        "kind",
        "address",
        "expires_at",
        "note",
        "changed_by",
    ]
    list_filter = ["kind"]
    list_select_related = ["model", "changed_by"]
    search_fields = ["model__name", "group_name", "address", "owner__address"]


@admin.register(AccessRequest)
class AccessRequestAdmin(ReadOnly):
    list_display = ["model_name", "wallet_id", "state", "told", "created_at", "decided_at"]
    list_filter = ["state"]
    search_fields = ["model_name", "wallet__address"]


@admin.register(WalletGroup)
class WalletGroupAdmin(ReadOnly):
    list_display = ["name", "owner_id", "created_at"]
    search_fields = ["name", "owner__address"]


@admin.register(GroupMember)
class GroupMemberAdmin(ReadOnly):
    list_display = ["group", "address", "expires_at", "note", "created_at"]
    list_select_related = ["group"]
    search_fields = ["group__name", "address"]


@admin.register(PackageKey)
class PackageKeyAdmin(ReadOnly):
    """Public halves only: the secret is wrapped, and shown to nobody here."""

    list_display = ["model", "recipient", "created_at", "disclosed_at"]
    list_select_related = ["model"]
    fields = ["model", "recipient", "created_at", "disclosed_at"]
    search_fields = ["model__name", "recipient"]


@admin.register(Terms)
class TermsAdmin(ReadOnly):
    list_display = ["version", "fee_base_units", "payout_address", "expires_at", "created_at"]
    list_select_related = ["version"]
