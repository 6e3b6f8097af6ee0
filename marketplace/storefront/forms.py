"""Forms of the pages on which owners manage models and groups."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone
from django.utils.html import format_html

from inframind.identity.forms import PageForm
from inframind.lib.amounts import parse_ifm
from inframind.lib.problem import Problem
from marketplace.catalog import guestlist
from marketplace.catalog.access import Guest

END_HELP: Final = "24h, 30d, or a day like 2027-01-31. Empty: without end."
POLICIES: Final = {
    "open": ("Everybody sees it, everybody calls it", "no account needed while it is free"),
    "gated": ("Everybody sees it, who calls it signs in", "any wallet, with a token"),
    "listed": ("Everybody sees it, the list calls it", "others can ask you for access"),
    "private": ("Only the list sees and calls it", "for all others it does not exist"),
}


class EndField(forms.CharField):
    """An end as people write it; becomes a time, or None."""

    def __init__(self, *, label: str = "Ends", help_text: str = END_HELP) -> None:
        super().__init__(label=label, required=False, max_length=40, help_text=help_text)

    def clean(self, value: Any) -> datetime | None:
        try:
            return guestlist.read_end(super().clean(value), now=timezone.now())
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class PolicyForm(PageForm):
    """Who may see and who may call."""

    policy = forms.ChoiceField(
        label="Who may see it, who may call it",
        choices=[
            (value, format_html('{} <span class="muted">{}</span>', word, why))
            for value, (word, why) in POLICIES.items()
        ],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(max_length=200, help_text="Stands in the history.")

    def flags(self) -> dict[str, bool]:
        """The policy as the domain writes it."""
        chosen = self.cleaned_data["policy"]
        return {
            "public": chosen != "private",
            "auth_required": chosen != "open",
            "restricted": chosen in ("listed", "private"),
        }


class AllowForm(PageForm):
    """One line for the list."""

    who = forms.CharField(
        label="Wallet or group",
        max_length=60,
        help_text="0x…, or @ and the name of a group of yours.",
        widget=forms.TextInput(attrs={"code": True, "autocomplete": "off", "spellcheck": "false"}),
    )
    ends = EndField()
    note = forms.CharField(max_length=100, required=False, help_text="For you alone.")

    def refused(self, problem: Problem) -> None:
        """There is one line, so what is wrong with it stands beside it."""
        details = [violation.detail for violation in problem.violations]
        self.add_error("who", details or [f"{problem.detail} {problem.remedy}".strip()])

    def guest(self) -> Guest:
        """The line."""
        who, given = self.cleaned_data["who"].strip(), self.cleaned_data
        place = {"group": who[1:]} if who.startswith("@") else {"address": who}
        return Guest(**place, expires_at=given["ends"], note=given["note"])


class MemberForm(AllowForm):
    """One line for a group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["who"].label, self.fields["who"].help_text = "Wallet", "0x…"


class ImportForm(PageForm):
    """A whole list, typed or as a file."""

    file = forms.FileField(
        label="File", required=False, help_text="Text or CSV, one wallet a line."
    )
    lines = forms.CharField(
        label="Or type it",
        required=False,
        max_length=guestlist.MAX_BYTES,
        help_text="0x…, 30d, a note: one a line. End and note may be left out.",
        widget=forms.Textarea(attrs={"rows": 4, "code": True, "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        upload = given.get("file")
        if isinstance(upload, UploadedFile):
            data = upload.read(guestlist.MAX_BYTES + 1)
            if len(data) > guestlist.MAX_BYTES:
                raise forms.ValidationError("The file has more than 2 MiB.")
            try:
                given["lines"] = f"{data.decode()}\n{given.get('lines', '')}".strip()
            except UnicodeDecodeError:
                raise forms.ValidationError("The file is not text in UTF-8.") from None
        if not given.get("lines"):
            raise forms.ValidationError("Choose a file, or type a list.")
        return given

    def refused(self, problem: Problem) -> None:
        """Each bad line with its number, beside the list."""
        self.add_error(None, f"{problem.detail} {problem.remedy}".strip())
        for violation in problem.violations[:20]:
            place = f"Line {violation.line}: " if violation.line else ""
            self.add_error("lines", f"{place}{violation.detail}")

    def guests(self) -> list[Guest]:
        """The lines. Raises ``Problem`` with the number of each bad one."""
        return guestlist.read_guests(self.cleaned_data["lines"], now=timezone.now())


class DecisionForm(PageForm):
    """An answer to a request."""

    answer = forms.CharField(
        max_length=500, required=False, help_text="Told on approval, and on refusal if you tell."
    )
    ends = EndField()
    tell = forms.BooleanField(label="Tell of a refusal", required=False)


class NodeForm(PageForm):
    """A node by its name."""

    node = forms.CharField(
        max_length=63,
        help_text="As the page of nodes shows it.",
        widget=forms.TextInput(attrs={"code": True, "autocomplete": "off"}),
    )


class DeprecateForm(PageForm):
    """A version is replaced."""

    successor = forms.CharField(
        required=False,
        max_length=130,
        help_text="1.2.0, or name@1.2.0.",
        widget=forms.TextInput(attrs={"code": True, "autocomplete": "off"}),
    )
    sunset_at = EndField(
        label="Works until", help_text="24h, 30d, or a day like 2027-01-31. Empty: no end is set."
    )
    reason = forms.CharField(max_length=200, required=False, help_text="Shown on its page.")


class TermsForm(PageForm):
    """What a version costs, who is paid, until when."""

    per_request_fee = forms.CharField(label="Fee per call", max_length=90)
    payout_address = forms.CharField(
        max_length=60, widget=forms.TextInput(attrs={"code": True, "autocomplete": "off"})
    )
    expires_at = EndField(label="Expires")
    reason = forms.CharField(max_length=200, help_text="Stands in the history.")

    def clean_per_request_fee(self) -> int:
        try:
            return parse_ifm(self.cleaned_data["per_request_fee"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class GroupForm(PageForm):
    """The name of a new group."""

    name = forms.CharField(
        max_length=41,
        help_text="Lower-case letters, digits and hyphens, like partners.",
        widget=forms.TextInput(attrs={"code": True, "autocomplete": "off"}),
    )
