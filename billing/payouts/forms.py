"""Forms of the money's pages."""

from __future__ import annotations

from typing import Any

from django import forms

from billing.ledger.documents import read_amount
from inframind.identity.forms import PageForm

SIGNATURE_MAX_CHARACTERS = 2_002  # a contract wallet's may be long


class IfmField(forms.CharField):
    """An amount like ``2.5 IFM``; an ``int`` of base units once it is read, None where empty."""

    def __init__(self, *, zero: bool = False, **kwargs: Any) -> None:
        self.zero = zero
        widget = forms.TextInput(
            attrs={
                "code": True,
                "autocomplete": "off",
                "inputmode": "decimal",
                "spellcheck": "false",
            }
        )
        super().__init__(max_length=80, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        """Base units. Raises Django's ``ValidationError`` with the remedy."""
        text = super().clean(value)
        if not text:
            return None
        try:
            return read_amount(text, zero=self.zero)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class DepositForm(PageForm):
    """A top-up by permit: the amount by a person, deadline and signature by their wallet."""

    amount = IfmField(
        label="Amount",
        help_text="Such as 5 IFM. It moves from your wallet into the settlement contract.",
    )
    deadline = forms.IntegerField(
        min_value=1, max_value=2**63 - 1, widget=forms.HiddenInput, required=True
    )
    signature = forms.CharField(
        max_length=SIGNATURE_MAX_CHARACTERS, widget=forms.HiddenInput, required=True
    )

    def clean_signature(self) -> bytes:
        text = self.cleaned_data["signature"]
        try:
            return bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            raise forms.ValidationError("This is no signature.") from None

    @property
    def is_unsigned(self) -> bool:
        """Whether it came without what the wallet should have put in."""
        return bool(self.errors) and "amount" not in self.errors


class WithdrawForm(PageForm):
    amount = IfmField(
        label="Amount",
        help_text="Of what is available, such as 1 IFM. It goes to your own address, at our gas.",
    )


class LimitForm(PageForm):
    per_day = IfmField(
        label="At most a day",
        required=False,
        zero=True,
        help_text="Such as 5 IFM, by UTC days. Empty: no limit. It holds for all tokens together.",
    )
