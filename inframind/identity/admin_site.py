"""The admin portal: entered by wallet and second factor, every right of it asked of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.db import transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver, reverse
from django.views.decorators.cache import never_cache

from inframind.identity import second_factor
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.identity.queries import caller_of_wallet
from inframind.lib.access import Kind, Role, holds
from inframind.lib.problem import Problem

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
    _Form = forms.ModelForm[Any]
else:
    _Base = admin.ModelAdmin
    _Form = forms.ModelForm

# Second factors show their secrets; groups and their permissions decide nothing here.
_UNLISTED: Final = frozenset({"auth", "otp_static", "otp_totp"})
# There are no passwords; and who may enter may not therefore ask which rows there are.
_DROPPED: Final = frozenset({"password_change", "password_change_done", "view_on_site"})
_ROLES: Final = "_admin_roles"


def roles_of(request: HttpRequest) -> frozenset[Role]:
    """The roles of who is signed in, as they are at this request."""
    if not request.user.is_authenticated:
        return frozenset()
    roles: frozenset[Role] | None = getattr(request, _ROLES, None)
    if roles is None:
        roles = caller_of_wallet(str(request.user.pk)).roles
        setattr(request, _ROLES, roles)
    return roles


def wallet_of(request: HttpRequest) -> Wallet:
    """Who is signed in, behind Django's lazy object."""
    return Wallet.objects.get(pk=request.user.pk)


def may(request: HttpRequest, permission: str, kind: Kind = Kind.ADMIN) -> bool:
    """What the table says of who is signed in."""
    return holds(permission, kind, roles_of(request))


class Guarded(_Base):
    """Rows that the holders of ``permission`` read and write. Nothing is deleted in the portal."""

    permission = "admin.administer"

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, self.permission)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, self.permission)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.permission)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """As Django's; a NUL, which PostgreSQL takes in no text, is in no row's address."""
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """As Django's; a refusal of the domain is told on the form."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Problem as problem:
            self.message_user(request, f"{problem.detail} {problem.remedy}", messages.ERROR)
            return redirect(request.get_full_path())

    def acts_of(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        """What may be done to a row besides, as (address, words); shown by `with_acts.html`."""
        return []

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        obj = self.get_object(request, object_id)
        acts = [] if obj is None else self.acts_of(request, obj)
        return super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "acts": acts}
        )

    def act_page(
        self,
        request: HttpRequest,
        obj: Model,
        *,
        title: str,
        verbs: Mapping[str, str],
        act: Callable[[str, str], None],
        context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """A page that does one of ``verbs`` (value and button) to a row, for a reason that is
        logged. ``act`` is given the verb and the reason."""
        form = ReasonForm(request.POST or None)
        verb = request.POST.get("verb", "")
        if request.method == "POST" and form.is_valid() and verb in verbs:
            reason = form.cleaned_data["reason"]
            try:
                with transaction.atomic():
                    act(verb, reason)
                    self.log_change(request, obj, f"{verbs[verb]}: {reason}")
            except Problem as problem:
                form.add_error(None, f"{problem.detail} {problem.remedy}".strip())
            else:
                self.message_user(request, f"{obj}: done.", messages.SUCCESS)
                return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return render(
            request,
            "admin/act.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "original": obj,
                "title": title,
                "form": form,
                "verbs": list(verbs.items()),
                **(context or {}),
            },
            status=422 if form.errors else 200,
        )


class ReadOnly(Guarded):
    """Rows that only services write."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=200,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
        help_text="Kept in the log.",
    )


class ReasonedForm(_Form):
    reason = forms.CharField(
        max_length=200,
        help_text="Why this is changed; kept in the log.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )


class Reasoned(Guarded):
    """Rows that staff change, each time for a reason."""

    form = ReasonedForm

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Writes what was changed only: the rest of the row may have moved on meanwhile."""
        changed = [name for name in form.changed_data if name != "reason"]
        obj.save(update_fields=changed if change else None)

    def construct_change_message(
        self,
        request: HttpRequest,
        form: forms.Form,
        formsets: Iterable[forms.BaseFormSet[Any]] | None,
        add: bool = False,
    ) -> Any:
        changed = [name for name in form.changed_data if name != "reason"]
        done = "Added" if add else f"Changed {', '.join(changed) or 'nothing'}"
        return f"{done}: {form.cleaned_data['reason']}"


class Library(ReadOnly):
    """What a library brings along: it knows nothing of the table, so it is only read."""

    def get_actions(self, request: HttpRequest) -> dict[Any, Any]:
        return {}


class StaffSite(admin.AdminSite):
    """Nobody learns that it is there but those whom the table lets in."""

    site_header = site_title = "InfraMind"
    index_title = "Admin portal"

    def register(
        self, model_or_iterable: Any, admin_class: type[Any] | None = None, **options: Any
    ) -> None:
        models: Sequence[type[Model]] = (
            [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        )
        given = admin_class or admin.ModelAdmin
        if not issubclass(given, Guarded):
            models = [each for each in models if each._meta.app_label not in _UNLISTED]
            given = type(f"Library{given.__name__}", (Library, given), {})
        super().register(models, given, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return may(request, "admin.enter") and second_factor.is_verified(request)

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """What is told to one who may not enter, or not yet; None for one who may.

        Raises ``Http404`` for a wallet without a role here.
        """
        if self.has_permission(request):
            return None
        safe = request.method in ("GET", "HEAD") and request.path != reverse("admin:login")
        target = urlencode({"next": request.get_full_path() if safe else reverse("admin:index")})
        if not request.user.is_authenticated:
            return redirect(f"{settings.LOGIN_URL}?{target}")
        if not may(request, "admin.enter"):
            raise Http404
        enrolled = second_factor.factor_of(wallet_of(request)) is not None
        page = reverse("account-verify" if enrolled else "account-second-factor")
        return redirect(f"{page}?{target}")

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        def entered(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return self.refusal(request) or inner(request, *args, **kwargs)

        return never_cache(entered)

    def get_urls(self) -> list[Any]:
        urls = [
            each
            for each in super().get_urls()
            if (getattr(each, "name", None) or "") not in _DROPPED
        ]
        _declare(urls)
        return urls

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is no form: one signs in where everybody does."""
        return self.refusal(request) or redirect("admin:index")

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        if request.method == "POST":
            logout(request)
            return redirect("/")
        return redirect("admin:index")


def _declare(urls: Iterable[URLPattern | URLResolver]) -> None:
    mark = permitted(GET="admin.enter", POST="admin.enter")
    for each in urls:
        if isinstance(each, URLResolver):
            _declare(each.url_patterns)
        elif each.callback is not None:
            each.callback = _marked(each.callback, mark)


def _marked(callback: Callable[..., Any], mark: Callable[..., Any]) -> Callable[..., Any]:
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return callback(request, *args, **kwargs)

    marked: Callable[..., Any] = mark(view)
    return marked
