"""What the API tells of models, versions and evidence, the shapes declared for OpenAPI too."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inframind.lib.addresses import checksum_address
from inframind.lib.amounts import amount_document
from inframind.storage.references import MAX_REFERENCE_CHARACTERS
from marketplace.catalog import packagekeys
from marketplace.catalog.models import Model, PackageKey, Verification, Version


class AmountSerializer(serializers.Serializer[Any]):
    base_units = serializers.CharField(help_text="Exact integer, 10^18 to the IFM.")
    text = serializers.CharField(help_text='Readable, like "0.25 IFM".')


class BadgeSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    granted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    evidence = serializers.URLField(help_text="The verification whose check granted it.")


class FileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    cid = serializers.CharField()
    size_bytes = serializers.IntegerField()


class SummarySerializer(serializers.Serializer[Any]):
    """A model as a list shows it."""

    name = serializers.CharField()
    version = serializers.CharField()
    cid = serializers.CharField(help_text="Of what is stored.")
    state = serializers.CharField()
    description = serializers.CharField()
    task = serializers.CharField()
    runtime = serializers.CharField()
    license = serializers.CharField()
    stability = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    privacy = serializers.ListField(child=serializers.CharField())
    fee = AmountSerializer()
    owner = serializers.CharField()
    public = serializers.BooleanField()
    auth_required = serializers.BooleanField()
    restricted = serializers.BooleanField(help_text="Called by its owner and allow list only.")
    endpoint = serializers.URLField()
    badges = BadgeSerializer(many=True)
    created_at = serializers.DateTimeField()


class VersionSerializer(SummarySerializer):
    """A version with everything that a caller and an auditor ask."""

    state_reason = serializers.CharField(allow_blank=True)
    reference = serializers.CharField(help_text="ipfs://<CID>")
    content_cid = serializers.CharField(
        help_text="Of the files as published; another than `cid` where the package is sealed."
    )
    sealed = serializers.BooleanField(help_text="Stored encrypted, under the model's own key.")
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    container = serializers.CharField(allow_blank=True)
    size_bytes = serializers.IntegerField()
    files = FileSerializer(many=True)
    input_schema = serializers.DictField()
    output_schema = serializers.DictField()
    manifest = serializers.DictField()
    readme = serializers.CharField(allow_blank=True)
    payout_address = serializers.CharField()
    published_by = serializers.CharField()
    activated_at = serializers.DateTimeField(allow_null=True)
    deprecated_at = serializers.DateTimeField(allow_null=True)
    sunset_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    successor = serializers.CharField(allow_null=True, help_text="name@version")
    package = serializers.URLField()
    verification = serializers.URLField()


class RegistrationSerializer(VersionSerializer):
    notices = serializers.ListField(child=serializers.CharField())


class VersionLineSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    state = serializers.CharField()
    cid = serializers.CharField()
    created_at = serializers.DateTimeField()
    url = serializers.URLField()


class ModelSerializer(VersionSerializer):
    """A model: its current version, and the line of all of them, the highest first."""

    calls_30d = serializers.IntegerField()
    versions = VersionLineSerializer(many=True)


class PackageKeySerializer(serializers.Serializer[Any]):
    recipient = serializers.CharField(help_text="age1…")
    identity = serializers.CharField(help_text="AGE-SECRET-KEY-1…, as `age --decrypt -i` takes it.")
    created_at = serializers.DateTimeField()
    disclosed_at = serializers.DateTimeField()
    versions = serializers.ListField(
        child=serializers.CharField(), help_text="What was sealed with it."
    )


class PackageKeysSerializer(serializers.Serializer[Any]):
    keys = PackageKeySerializer(many=True)


class FacetSerializer(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    count = serializers.IntegerField()


class ModelPageSerializer(serializers.Serializer[Any]):
    results = SummarySerializer(many=True)
    next = serializers.URLField(allow_null=True)
    total = serializers.IntegerField()
    facets = serializers.DictField(child=FacetSerializer(many=True))


class CheckSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    title = serializers.CharField()
    passed = serializers.BooleanField()
    cases_total = serializers.IntegerField()
    cases_passed = serializers.IntegerField()
    cid = serializers.CharField()
    detail = serializers.CharField(allow_blank=True)
    duration_ms = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class VerificationSerializer(serializers.Serializer[Any]):
    """The newest run; ``waiting-for-review`` and ``not-run`` stand for one that is not queued."""

    id = serializers.UUIDField(allow_null=True)
    state = serializers.CharField()
    reason_code = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    node = serializers.CharField(allow_blank=True)
    attempts = serializers.IntegerField()
    version_state = serializers.CharField()
    created_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    checks = CheckSerializer(many=True)


# A form has text only; that JSON may have a list instead is told in the help.
@extend_schema_field(OpenApiTypes.STR)
class AddressesField(serializers.Field[list[str], Any, list[str], Any]):
    """Addresses in the checksummed spelling, out of a list or of a text."""

    def to_internal_value(self, data: Any) -> list[str]:
        """Reads a JSON list, also as text, or addresses between commas and white space."""
        if isinstance(data, str):
            data = _listed(data)
        if not isinstance(data, list):
            raise serializers.ValidationError("Send a list of addresses, or a text of them.")
        found, wrong = [], []
        for each in data:
            try:
                found.append(checksum_address(str(each)))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise serializers.ValidationError(wrong[:20])
        return found

    def to_representation(self, value: list[str]) -> list[str]:
        """As it was read."""
        return value


class RegisterSerializer(serializers.Serializer[Any]):
    """A tar in ``package``, or a ``reference`` with the ``cid`` that its content must hash to."""

    package = serializers.FileField(required=False, help_text="The package as tar, plain or gzip.")
    reference = serializers.CharField(
        required=False, max_length=MAX_REFERENCE_CHARACTERS, help_text="ar:// or https://"
    )
    cid = serializers.CharField(required=False, max_length=128)
    name = serializers.CharField(required=False, max_length=63)
    version = serializers.CharField(required=False, max_length=64)
    allow_list = AddressesField(
        required=False,
        help_text="Whom a new name lets in: addresses, separated by commas or lines, or as a JSON "
        "list. Policy: never part of the package.",
    )


def _listed(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None
    return text.replace(",", " ").split()


def summary_document(model: Model, version: Version) -> dict[str, Any]:
    """A version of a model in short."""
    evidence = f"{_api(version)}/verification"
    return {
        "name": model.name,
        "version": version.number,
        "cid": version.cid,
        "state": version.state,
        "description": version.description,
        "task": version.task,
        "runtime": version.runtime,
        "streaming": version.streaming,
        "license": version.license,
        "stability": version.stability,
        "tags": version.tags,
        "privacy": version.privacy,
        "fee": amount_document(version.fee_base_units),
        "owner": model.owner_id,
        "public": model.public,
        "auth_required": model.auth_required,
        "restricted": model.restricted,
        "endpoint": f"{settings.SITE_URL}/inference/v1/{model.name}",
        "badges": [
            {
                "kind": badge.kind,
                "granted_at": badge.granted_at,
                "expires_at": badge.expires_at,
                "evidence": evidence,
            }
            for badge in version.badges.all()
        ],
        "created_at": version.created_at,
    }


def version_document(version: Version) -> dict[str, Any]:
    """A version with all its facts."""
    successor = version.successor
    return {
        **summary_document(version.model, version),
        "state_reason": version.state_reason,
        "reference": f"ipfs://{version.cid}",
        "content_cid": version.content_cid,
        "sealed": version.package_key_id is not None,
        "source": version.source,
        "container": version.container,
        "size_bytes": version.size_bytes,
        "files": version.files,
        "input_schema": version.manifest["input_schema"],
        "output_schema": version.manifest["output_schema"],
        "manifest": version.manifest,
        "readme": version.readme,
        "payout_address": version.payout_address,
        "published_by": version.published_by_id,
        "activated_at": version.activated_at,
        "deprecated_at": version.deprecated_at,
        "sunset_at": version.sunset_at,
        "expires_at": version.expires_at,
        "successor": None if successor is None else str(successor),
        "package": f"{_api(version)}/package",
        "verification": f"{_api(version)}/verification",
    }


def model_document(version: Version, versions: list[Version]) -> dict[str, Any]:
    """A model by its current version, with the line of versions."""
    return {
        **version_document(version),
        "calls_30d": version.model.calls_30d,
        "versions": [
            {
                "version": each.number,
                "state": each.state,
                "cid": each.cid,
                "created_at": each.created_at,
                "url": _api(each),
            }
            for each in versions
        ],
    }


def package_key_document(key: PackageKey) -> dict[str, Any]:
    """A disclosed key. Raises ``KeyUnreadable``."""
    return {
        "recipient": key.recipient,
        "identity": packagekeys.secret_of(key),
        "created_at": key.created_at,
        "disclosed_at": key.disclosed_at,
        "versions": sorted(version.number for version in key.versions.all()),
    }


def verification_document(version: Version, run: Verification | None) -> dict[str, Any]:
    """The newest run with its checks, or why there is none."""
    if run is None:
        waits = version.runtime == Version.Runtime.PYTHON
        return {
            "id": None,
            "state": "waiting-for-review" if waits else "not-run",
            "reason_code": "review-needed" if waits else "not-run",
            "reason": version.state_reason,
            "node": "",
            "attempts": 0,
            "version_state": version.state,
            "created_at": None,
            "started_at": None,
            "finished_at": None,
            "checks": [],
        }
    return {
        "id": run.pk,
        "state": run.state,
        "reason_code": run.reason_code,
        "reason": run.reason,
        "node": run.node_name,
        "attempts": run.attempts,
        "version_state": version.state,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "checks": [
            {
                "kind": check.kind,
                "title": check.get_kind_display(),
                "passed": check.passed,
                "cases_total": check.cases_total,
                "cases_passed": check.cases_passed,
                "cid": check.cid,
                "detail": check.detail,
                "duration_ms": check.duration_ms,
                "created_at": check.created_at,
            }
            for check in run.checks.all()
        ],
    }


def _api(version: Version) -> str:
    return f"{settings.SITE_URL}/api/v1/models/{version.model_id}/versions/{version.number}"
