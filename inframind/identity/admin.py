"""Staff's view of wallets, seats, tokens and sessions. There is nothing secret to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone

from inframind.identity import seats
from inframind.identity.admin_site import Guarded, ReadOnly, Reasoned, wallet_of
from inframind.identity.models import Narrowing, Seat, Session, Token, Wallet

if TYPE_CHECKING:
    _SeatForm = forms.ModelForm[Seat]
else:
    _SeatForm = forms.ModelForm


@admin.register(Wallet)
class WalletAdmin(Reasoned):
    """Who is staff is decided by those who have a shell: `manage.py grant_staff`."""

    list_display = ["address", "display_name", "is_active", "is_staff", "created_at"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["address", "display_name"]
    readonly_fields = ["address", "is_staff", "created_at", "last_login"]
    fields = [
        "address",
        "display_name",
        "is_active",
        "reason",
        "is_staff",
        "created_at",
        "last_login",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A wallet is made when it is first seen.
        return False


class SeatForm(_SeatForm):
    wallet = forms.CharField(
        max_length=42,
        label="Wallet",
        help_text="The address, 0x…; it need not be known yet.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    class Meta:
        model = Seat
        fields = ["wallet", "ends_at", "reason"]
        labels = {"ends_at": "Ends"}
        help_texts = {
            "ends_at": "UTC. Empty: until it is ended here.",
            "reason": "Why this wallet; kept with the seat.",
        }

    def clean_wallet(self) -> Wallet:
        try:
            return Wallet.objects.of(self.cleaned_data["wallet"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


@admin.register(Seat)
class SeatAdmin(Guarded):
    """Curators are appointed and their seats ended; what was stays."""

    form = SeatForm
    list_display = ["wallet_address", "role", "standing", "begins_at", "ends_at", "reason"]
    list_filter = ["role"]
    search_fields = ["wallet__address", "wallet__display_name", "reason"]
    fields = ["wallet", "ends_at", "reason"]
    list_select_related = ["wallet"]
    change_form_template = "admin/with_acts.html"

    @admin.display(description="wallet", ordering="wallet")
    def wallet_address(self, seat: Seat) -> str:
        return seat.wallet_id

    @admin.display(description="standing")
    def standing(self, seat: Seat) -> str:
        now = timezone.now()
        if seat.ends_at is not None and seat.ends_at <= now:
            return f"ended: {seat.end_reason}" if seat.end_reason else "ended in its time"
        return "held" if seat.begins_at <= now else "to begin"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Seat | None = None) -> Any:
        if obj is None:
            return self.fields
        return [
            "wallet",
            "role",
            "begins_at",
            "ends_at",
            "reason",
            "granted_by",
            "end_reason",
            "ended_by",
        ]

    def save_model(self, request: HttpRequest, obj: Seat, form: Any, change: bool) -> None:
        seat = seats.appoint_curator(
            wallet=obj.wallet,
            ends_at=obj.ends_at,
            reason=obj.reason,
            granted_by=wallet_of(request),
        )
        obj.pk = seat.pk
        obj.refresh_from_db()

    def construct_change_message(
        self, request: HttpRequest, form: forms.Form, formsets: Any, add: bool = False
    ) -> Any:
        return f"Appointed: {form.cleaned_data['reason']}"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.end_view)
        return [path("<int:pk>/end/", view, name="identity_seat_end"), *super().get_urls()]

    def acts_of(self, request: HttpRequest, obj: Seat) -> list[tuple[str, str]]:
        is_open = seats.open_seats().filter(pk=obj.pk).exists()
        return [("../end/", "End this seat")] if is_open else []

    def end_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        seat = get_object_or_404(Seat, pk=pk)

        def act(verb: str, reason: str) -> None:
            seats.end_seat(seat=seat, reason=reason, ended_by=wallet_of(request))

        return self.act_page(
            request,
            seat,
            title=f"End the curator's seat of {seat.wallet_id}",
            verbs={"end": "End this seat"},
            act=act,
        )


@admin.register(Token)
class TokenAdmin(ReadOnly):
    list_display = [
        "id",
        "wallet_id",
        "kind",
        "name",
        "actions",
        "expires_at",
        "revoked_at",
        "last_used_at",
    ]
    list_filter = ["kind"]
    search_fields = ["id", "wallet__address", "name"]


@admin.register(Narrowing)
class NarrowingAdmin(ReadOnly):
    list_display = ["id", "token_id", "depth", "created_at", "revoked_at", "last_used_at"]
    search_fields = ["id", "token__id", "token__wallet__address"]


@admin.register(Session)
class SessionAdmin(ReadOnly):
    list_display = ["wallet_id", "user_agent", "remote_address", "created_at", "last_seen_at"]
    search_fields = ["wallet__address", "user_agent", "remote_address"]
    fields = [
        "wallet",
        "user_agent",
        "remote_address",
        "created_at",
        "last_seen_at",
        "expire_date",
    ]


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnly):
    """What was done here, by whom and why."""

    list_display = ["action_time", "user", "content_type", "object_repr", "change_message"]
    list_filter = ["action_flag"]
    list_select_related = ["user", "content_type"]
    search_fields = ["user__address", "object_repr", "change_message"]
