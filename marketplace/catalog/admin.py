"""Staff's view of the catalog: history and evidence are read, code is approved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model as DjangoModel
from django.db.models import QuerySet
from django.http import HttpRequest

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import services
from marketplace.catalog.models import (
    AccessPolicy,
    Badge,
    Check,
    CodeReview,
    Model,
    Terms,
    Verification,
    Version,
)

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = admin.ModelAdmin


class ReadOnly(_Base):
    """Rows that only the catalog's own services write."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: DjangoModel | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: DjangoModel | None = None) -> bool:
        return False


@admin.register(Model)
class ModelAdmin(ReadOnly):
    list_display = ["name", "owner", "current", "public", "calls_30d", "created_at"]
    list_filter = ["public"]
    search_fields = ["name", "owner__address"]
    list_select_related = ["owner", "current"]


@admin.register(Version)
class VersionAdmin(ReadOnly):
    list_display = ["__str__", "state", "runtime", "task", "short_reason", "created_at"]
    list_filter = ["state", "runtime", "stability"]
    search_fields = ["model__name", "cid"]
    actions = ["approve_code", "verify_again"]

    @admin.display(description="reason")
    def short_reason(self, version: Version) -> str:
        return version.state_reason[:80]

    @admin.action(description="Approve code: I have read it", permissions=["view"])
    def approve_code(self, request: HttpRequest, versions: QuerySet[Version]) -> None:
        reviewer = request.user
        if not isinstance(reviewer, Wallet) or not reviewer.has_perm("catalog.add_codereview"):
            self.message_user(request, "You may not review code.", messages.ERROR)
            return
        for version in versions:
            self._each(
                request,
                version,
                lambda version=version: services.review_code(
                    version=version,
                    reviewer=reviewer,
                    verdict=CodeReview.Verdict.APPROVED,
                    note="Approved in the admin.",
                ),
            )

    @admin.action(description="Verify again", permissions=["view"])
    def verify_again(self, request: HttpRequest, versions: QuerySet[Version]) -> None:
        for version in versions:
            self._each(
                request,
                version,
                lambda version=version: services.request_verification(version=version),
            )

    def _each(self, request: HttpRequest, version: Version, act: Any) -> None:
        try:
            act()
        except Problem as problem:
            self.message_user(request, f"{version}: {problem.detail}", messages.ERROR)
        else:
            self.message_user(request, f"{version}: done.", messages.SUCCESS)


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
    list_display = ["cid", "verdict", "reviewer", "created_at"]
    list_filter = ["verdict"]
    search_fields = ["cid"]


@admin.register(AccessPolicy)
class AccessPolicyAdmin(ReadOnly):
    list_display = ["model", "public", "auth_required", "reason", "changed_by", "created_at"]
    list_select_related = ["model", "changed_by"]


@admin.register(Terms)
class TermsAdmin(ReadOnly):
    list_display = ["version", "fee_base_units", "payout_address", "expires_at", "created_at"]
    list_select_related = ["version"]
