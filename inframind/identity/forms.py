"""Forms of the account's pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.conf import settings
from django.utils import timezone
from django.utils.html import format_html

from inframind.identity.models import Token, Wallet
from inframind.identity.services import NAME_MAX_CHARACTERS, mint_token, rename_wallet
from inframind.lib.amounts import parse_ifm
from inframind.lib.durations import parse_duration
from inframind.lib.problem import Problem

_LIFETIMES: Final = (
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
    ("365d", "1 year"),
)
_ON_A_DATE: Final = "date"
_OVERLAPS: Final = (
    ("0", "at once"),
    ("1h", "in 1 hour"),
    ("24h", "in 24 hours"),
    ("7d", "in 7 days"),
)
_ACTIONS: Final = (
    (Token.Action.INVOKE, "Call models", "and pay for the calls from your wallet"),
    (Token.Action.PUBLISH, "Publish models", "and new versions, under your names"),
    (
        Token.Action.MANAGE,
        "Manage models and nodes",
        "who may call, terms, deprecation, your nodes",
    ),
    (Token.Action.READ_USAGE, "Read usage", "what was called and spent; calls nothing"),
)
_MODEL_SCOPES: Final = (
    (Token.ModelScope.NAMED, "Only the ones named below", "the safest"),
    (Token.ModelScope.OWNED, "All of mine", "also those that I publish later"),
    (Token.ModelScope.ANY, "Every model that I may use", "also those of others"),
)
_SEPARATORS: Final = re.compile(r"[\s,]+")


def words_of(text: str) -> list[str]:
    """Words that are separated by commas, spaces or lines."""
    return [each for each in _SEPARATORS.split(text) if each]


def _explained(choices: Iterable[tuple[Any, str, str]]) -> list[tuple[str, str]]:
    return [
        (str(value), format_html('{} <span class="muted">{}</span>', word, why))
        for value, word, why in choices
    ]


class PageForm(forms.Form):
    """A form in the pages' looks. ``refused`` puts a domain's refusal beside its fields."""

    required_css_class = "required"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field.widget, forms.CheckboxSelectMultiple | forms.RadioSelect):
                continue
            code = " input-code" if field.widget.attrs.pop("code", False) else ""
            field.widget.attrs["class"] = f"input{code}"

    def refused(self, problem: Problem) -> None:
        """Each violation beside the field that its pointer names, all others above the form."""
        for violation in problem.violations:
            name = violation.pointer.strip("/").partition("/")[0]
            remedy = f" {violation.remedy}" if violation.remedy else ""
            self.add_error(name if name in self.fields else None, f"{violation.detail}{remedy}")
        if not problem.violations:
            self.add_error(None, f"{problem.detail} {problem.remedy}".strip())


class NameForm(PageForm):
    display_name = forms.CharField(
        label="Display name",
        required=False,
        max_length=NAME_MAX_CHARACTERS,
        help_text="Shown beside your address, to everybody. Empty: the address alone.",
    )

    def save(self, wallet: Wallet) -> bool:
        """Whether the name was changed; if not, the form says why."""
        try:
            rename_wallet(wallet=wallet, display_name=self.cleaned_data["display_name"])
        except Problem as problem:
            self.refused(problem)
            return False
        return True


class TokenForm(PageForm):
    name = forms.CharField(
        max_length=NAME_MAX_CHARACTERS,
        help_text="What it is for, for you to know it again.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    actions = forms.MultipleChoiceField(
        label="It may",
        choices=_explained(_ACTIONS),
        widget=forms.CheckboxSelectMultiple,
        initial=[Token.Action.INVOKE],
        error_messages={"required": "Choose at least one thing that it may do."},
    )
    model_scope = forms.ChoiceField(
        label="On which models",
        choices=_explained(_MODEL_SCOPES),
        widget=forms.RadioSelect,
        initial=Token.ModelScope.NAMED,
    )
    models = forms.CharField(
        label="Models named",
        required=False,
        max_length=8_000,
        widget=forms.Textarea(attrs={"rows": 2, "code": True, "spellcheck": "false"}),
        help_text="One a line, or with commas between: summarizer-v1, filetype-v1.",
    )
    expires_in = forms.ChoiceField(label="It ends after")
    expires_on = forms.DateField(
        label="Date",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="If you chose a date: the token ends with this day, by UTC.",
    )
    spend_limit = forms.CharField(
        label="Spending limit",
        required=False,
        max_length=80,
        widget=forms.TextInput(attrs={"code": True, "autocomplete": "off"}),
        help_text="In all, such as 5 IFM. Empty: none.",
    )
    calls_limit = forms.IntegerField(
        label="Call limit",
        required=False,
        widget=forms.TextInput(attrs={"code": True, "inputmode": "numeric", "autocomplete": "off"}),
        help_text="In all, such as 1000. Empty: none.",
    )
    ip_ranges = forms.CharField(
        label="Only from these addresses",
        required=False,
        max_length=2_000,
        widget=forms.Textarea(attrs={"rows": 2, "code": True, "spellcheck": "false"}),
        help_text="IP addresses or ranges such as 203.0.113.0/24. Empty: from everywhere.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = timezone.now()
        longest = timedelta(days=settings.TOKEN_LIFETIME_MAX_DAYS)
        choices = [
            (text, f"{word}, on {now + parse_duration(text):%Y-%m-%d %H:%M} UTC")
            for text, word in _LIFETIMES
            if parse_duration(text) <= longest
        ]
        self.fields["expires_in"].choices = [*choices, (_ON_A_DATE, "On a date that I choose")]  # type: ignore[attr-defined]
        self.fields["expires_in"].initial = "24h" if longest >= timedelta(days=1) else "1h"
        attributes = self.fields["expires_on"].widget.attrs
        attributes["min"] = f"{now:%Y-%m-%d}"
        attributes["max"] = f"{now + longest:%Y-%m-%d}"

    def clean_spend_limit(self) -> int | None:
        text = self.cleaned_data["spend_limit"]
        if not text:
            return None
        try:
            return parse_ifm(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("expires_in") != _ON_A_DATE or "expires_on" not in cleaned:
            return cleaned
        day = cleaned["expires_on"]
        if day is None:
            self.add_error("expires_on", "Choose the date, or one of the durations above.")
        elif day < timezone.now().date():
            self.add_error("expires_on", "That day is over. Choose a later one.")
        return cleaned

    def save(self, wallet: Wallet) -> tuple[Token, str] | None:
        """The new token with its text; None when it was refused, which the form then says."""
        wanted = self.cleaned_data
        scope = wanted["model_scope"]
        try:
            return mint_token(
                wallet=wallet,
                name=wanted["name"],
                actions=wanted["actions"],
                model_scope=scope,
                models_allowed=words_of(wanted["models"]) if scope == "named" else (),
                lifetime=self._lifetime(),
                spend_limit_base_units=wanted["spend_limit"],
                calls_limit=wanted["calls_limit"],
                ip_ranges=words_of(wanted["ip_ranges"]),
            )
        except Problem as problem:
            self.refused(problem)
            return None

    def _lifetime(self) -> timedelta:
        chosen = self.cleaned_data["expires_in"]
        if chosen != _ON_A_DATE:
            return parse_duration(chosen)
        end = datetime.combine(self.cleaned_data["expires_on"], time(23, 59, 59), UTC)
        return end - timezone.now()


class RotateForm(PageForm):
    overlap = forms.ChoiceField(
        label="The old one ends",
        choices=_OVERLAPS,
        initial="1h",
        help_text="Until then both work, so that you can put the new one in place.",
    )

    def clean_overlap(self) -> timedelta:
        text = self.cleaned_data["overlap"]
        return timedelta(0) if text == "0" else parse_duration(text)


class CodeForm(PageForm):
    """A code of the authenticator app, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        widget=forms.TextInput(
            attrs={
                "code": True,
                "autocomplete": "one-time-code",
                "spellcheck": "false",
                "autocapitalize": "none",
            }
        ),
        help_text="The six digits that your authenticator app shows now, or a recovery code.",
    )


class FirstCodeForm(CodeForm):
    """The first code of an app that was just given its secret."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].help_text = "The six digits that the app shows now."
        self.fields["code"].widget.attrs["inputmode"] = "numeric"
