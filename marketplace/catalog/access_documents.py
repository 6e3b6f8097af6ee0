"""What the API takes and tells of access, groups and requests, in the shapes of OpenAPI."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from inframind.lib.durations import parse_duration
from marketplace.catalog import access, access_requests, groups
from marketplace.catalog.models import AccessRequest, AllowEntry, GroupMember, Model, WalletGroup

MAX_LINES = 1000
_IN = "Like 24h or 30d; or give expires_at."


class EndSerializer(serializers.Serializer[Any]):
    """When it is over: at a time, after a while, or never."""

    expires_in = serializers.CharField(required=False, max_length=12, help_text=_IN)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate(self, attrs: Any) -> Any:
        """``expires_at`` becomes what ``expires_in`` comes to."""
        if "expires_in" not in attrs:
            return attrs
        if attrs.get("expires_at"):
            raise serializers.ValidationError("Give expires_in or expires_at, not both.")
        try:
            end = timezone.now() + parse_duration(attrs["expires_in"])
        except (ValueError, OverflowError):
            raise serializers.ValidationError(
                {"expires_in": "It is not a duration such as 90s, 15m, 24h or 30d."}
            ) from None
        return {**attrs, "expires_at": end}


class GuestSerializer(EndSerializer):
    """A wallet's address, or a group of the owner."""

    address = serializers.CharField(required=False, max_length=60)
    group = serializers.CharField(required=False, max_length=41)
    note = serializers.CharField(required=False, max_length=100, allow_blank=True)


class GuestsSerializer(serializers.Serializer[Any]):
    entries = serializers.ListField(
        child=GuestSerializer(), max_length=MAX_LINES, allow_empty=False
    )


class MemberInSerializer(EndSerializer):
    address = serializers.CharField(max_length=60)
    note = serializers.CharField(required=False, max_length=100, allow_blank=True)


class MembersSerializer(serializers.Serializer[Any]):
    members = serializers.ListField(
        child=MemberInSerializer(), max_length=MAX_LINES, allow_empty=False
    )


class OutcomeSerializer(serializers.Serializer[Any]):
    added = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()


class PolicyChangeSerializer(serializers.Serializer[Any]):
    """What is left out stays, or follows: private is restricted, restricted needs a token."""

    public = serializers.BooleanField(required=False)
    auth_required = serializers.BooleanField(required=False)
    restricted = serializers.BooleanField(required=False)
    reason = serializers.CharField(required=False, max_length=200, allow_blank=True)


class AllowEntrySerializer(serializers.Serializer[Any]):
    who = serializers.CharField(help_text="0x… or @group")
    address = serializers.CharField(allow_null=True)
    group = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    expired = serializers.BooleanField()
    note = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()


class AccessSerializer(serializers.Serializer[Any]):
    public = serializers.BooleanField()
    auth_required = serializers.BooleanField()
    restricted = serializers.BooleanField()
    words = serializers.CharField(help_text="Who may see and call it, in a sentence.")
    entries = AllowEntrySerializer(many=True)
    open_requests = serializers.IntegerField()
    notices = serializers.ListField(child=serializers.CharField())


class HistoryLineSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    what = serializers.CharField(
        help_text="policy, or: allowed, removed, changed, joined, left (a group)"
    )
    who = serializers.CharField()
    by = serializers.CharField()
    note = serializers.CharField(allow_blank=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    group = serializers.CharField(allow_blank=True, help_text="That the wallet joined or left.")


class HistorySerializer(serializers.Serializer[Any]):
    history = HistoryLineSerializer(many=True)


class AskSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(required=False, max_length=500, allow_blank=True)


class AskedAnswerSerializer(serializers.Serializer[Any]):
    detail = serializers.CharField()


class DecisionSerializer(EndSerializer):
    state = serializers.ChoiceField(choices=["approved", "refused"])
    answer = serializers.CharField(required=False, max_length=500, allow_blank=True)
    tell = serializers.BooleanField(
        required=False, help_text="Tell the asker of a refusal; it confirms the name."
    )


class RequestSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    wallet = serializers.CharField()
    display_name = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    answer = serializers.CharField(allow_blank=True)
    told = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)


class RequestsSerializer(serializers.Serializer[Any]):
    requests = RequestSerializer(many=True)


class AskedSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    message = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    answer = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)


class AskedListSerializer(serializers.Serializer[Any]):
    requests = AskedSerializer(many=True)


class GroupNameSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=41)


class GroupLineSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    members = serializers.IntegerField()
    lists = serializers.IntegerField(help_text="How many models let the group in.")
    created_at = serializers.DateTimeField()


class GroupListSerializer(serializers.Serializer[Any]):
    groups = GroupLineSerializer(many=True)


class MemberSerializer(serializers.Serializer[Any]):
    address = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    expired = serializers.BooleanField()
    note = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()


class GroupSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    members = MemberSerializer(many=True)
    models = serializers.ListField(child=serializers.CharField())


class DeprecationSerializer(serializers.Serializer[Any]):
    """What is left out of a second deprecation stays as it is; null or empty takes it away."""

    successor = serializers.CharField(
        required=False, max_length=130, allow_blank=True, help_text="1.2.0, or name@1.2.0"
    )
    sunset_at = serializers.DateTimeField(required=False, allow_null=True)
    reason = serializers.CharField(required=False, max_length=200, allow_blank=True)


class TermsSerializer(serializers.Serializer[Any]):
    """What is left out stays as it is; ``expires_at: null`` takes the end away."""

    per_request_fee = serializers.CharField(required=False, max_length=90, help_text="0.25 IFM")
    payout_address = serializers.CharField(required=False, max_length=60)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    reason = serializers.CharField(required=False, max_length=200, allow_blank=True)


def access_document(model: Model, entries: list[AllowEntry]) -> dict[str, Any]:
    """Policy and list, as their owner reads them."""
    readable = 0 if model.public else access.readable_versions(model)
    return {
        "public": model.public,
        "auth_required": model.auth_required,
        "restricted": model.restricted,
        "words": access.policy_words(model),
        "entries": [
            {
                "who": entry.address or f"@{entry.group.name if entry.group else ''}",
                "address": entry.address or None,
                "group": entry.group.name if entry.group else None,
                "expires_at": entry.expires_at,
                "expired": getattr(entry, "expired", False),
                "note": entry.note,
                "created_at": entry.created_at,
            }
            for entry in entries
        ],
        "open_requests": access_requests.open_requests(model),
        "notices": [access.readable_words(readable)] if readable else [],
    }


def request_document(request: AccessRequest) -> dict[str, Any]:
    """A request, as the owner of the name reads it."""
    return {
        "id": request.pk,
        "wallet": request.wallet_id,
        "display_name": request.wallet.display_name,
        "message": request.message,
        "state": request.state,
        "answer": request.answer,
        "told": request.told,
        "created_at": request.created_at,
        "decided_at": request.decided_at,
    }


def group_document(group: WalletGroup) -> dict[str, Any]:
    """A group with its members and the models that let it in."""
    members: list[GroupMember] = list(groups.members_of(group))
    return {
        "name": group.name,
        "created_at": group.created_at,
        "members": [
            {
                "address": member.address,
                "expires_at": member.expires_at,
                "expired": getattr(member, "expired", False),
                "note": member.note,
                "created_at": member.created_at,
            }
            for member in members
        ],
        "models": groups.lists_of(group),
    }
