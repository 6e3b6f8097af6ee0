"""Registering a version: a name is claimed, a number taken once, the rows are made together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import IO

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib import names
from inframind.lib.problem import Problem, Violation
from marketplace.catalog import intake, lifecycle, manifest, review
from marketplace.catalog.manifest import Manifest
from marketplace.catalog.models import AccessPolicy, Model, Terms, Verification, Version

_RETRY_QUOTA_SECONDS = 3600


@dataclass(frozen=True)
class Registration:
    """What a registration came to; ``created`` is False when exactly this was registered before."""

    version: Version
    created: bool
    notices: tuple[str, ...] = ()


def register(
    *,
    publisher: Wallet,
    stream: IO[bytes] | None = None,
    reference: str = "",
    expected_cid: str = "",
    name: str = "",
    version: str = "",
    caller: Caller | None = None,
) -> Registration:
    """Registers the package of a tar ``stream``, or of an ``ar://`` or ``https://`` reference.

    ``name`` and ``version`` supply what the manifest leaves out and must otherwise equal it;
    ``caller`` narrows the names to those its token allows. The version is pending and its
    verification is queued. Raises ``Problem``; then nothing was stored and no row was made.
    """
    if (stream is None) == (not reference):
        raise Problem(
            "malformed-request",
            "Send a package, or a reference to one: exactly one of them.",
            status=422,
            remedy="See /api/docs/ for both forms.",
        )
    if reference and not expected_cid:
        raise Problem(
            "cid-required",
            "A reference is taken only with the CID of its content.",
            status=422,
            remedy='Send it as "cid"; `infra` and `ipfs add --cid-version=1` print it.',
        )
    expected_cid = intake.checked_cid(expected_cid)
    _check_daily_quota(publisher)
    opened = intake.fetched(reference) if stream is None else intake.uploaded(stream)
    with opened as source:
        if settings.IPFS_API:
            # What IPFS has seen once cannot be unseen, so this is decided before anything is sent.
            peeked = intake.peek_manifest(source, expected_cid=expected_cid)
            _refuse_private_on_ipfs(_overridden(peeked, name, version))
        package = intake.store(source, expected_cid=expected_cid)
        try:
            with transaction.atomic():
                # Locked from here on: another's refusal of the same content cannot discard it.
                intake.keep(source, package)
                taken = intake.read_in(package)
                declared = _overridden(taken.manifest, name, version)
                if caller is not None:
                    caller.require("publish", declared.name)
                _refuse_private_on_ipfs(declared)
                return _create(publisher, replace(taken, manifest=declared), reference)
        except BaseException:
            intake.discard(package.cid)
            raise


def _overridden(declared: Manifest, name: str, version: str) -> Manifest:
    """The manifest with name and version complete. Raises ``Problem`` where sources disagree."""
    found: list[Violation] = []
    if version:
        try:
            version = manifest.plain_version(version)
        except ValueError as error:
            found.append(Violation("/version", str(error)))
    for field, given, written in (
        ("name", name, declared.name), ("version", version, declared.version)
    ):  # fmt: skip
        if given and written and given != written:
            found.append(
                Violation(
                    f"/{field}",
                    f"The manifest says {written}, the request says {given}.",
                    f"Make them agree, or leave --{field} out: a package's bytes never change.",
                )
            )
        elif not given and not written:
            found.append(
                Violation(
                    f"/{field}",
                    f"Neither the manifest nor the request gives a {field}.",
                    f"Add `{field}: …` to {manifest.FILE_NAME}, or pass --{field}.",
                )
            )
    if found:
        raise Problem(
            "manifest-invalid",
            f"{manifest.FILE_NAME} cannot be used: {found[0].detail}",
            status=422,
            remedy=found[0].remedy,
            violations=tuple(found),
        )
    return declared.model_copy(
        update={"name": name or declared.name, "version": version or declared.version}
    )


def _refuse_private_on_ipfs(declared: Manifest) -> None:
    if not settings.IPFS_API:
        return
    private = not declared.access.public
    private = private or Model.objects.filter(pk=declared.name, public=False).exists()
    if private:
        raise Problem(
            "private-not-encrypted",
            "This registry stores packages on IPFS, where anyone can read them; a private model is "
            "not put there unencrypted.",
            status=422,
            remedy="Publish it as public, or use a registry with the embedded store.",
        )


def _check_daily_quota(publisher: Wallet) -> None:
    since = Now() - timedelta(days=1)
    recent = Version.objects.filter(published_by=publisher, created_at__gt=since).count()
    if recent >= settings.VERSIONS_PER_DAY:
        raise Problem(
            "quota-exceeded",
            f"A wallet registers at most {settings.VERSIONS_PER_DAY} versions a day.",
            status=429,
            remedy="Try again later.",
            retry_after_seconds=_RETRY_QUOTA_SECONDS,
        )


def _claim(publisher: Wallet, declared: Manifest) -> tuple[Model, bool]:
    """The model of a name, locked, made for its first registrant."""
    try:
        names.check_name(declared.name)
    except ValueError as error:
        raise Problem("name-unavailable", str(error), status=409) from None
    # One claim of a wallet at a time, so that its quota is exact.
    Wallet.objects.select_for_update(no_key=True).get(pk=publisher.pk)
    model = Model.objects.select_for_update(no_key=True).filter(pk=declared.name).first()
    created = model is None
    if model is None:
        if Model.objects.filter(owner=publisher).count() >= settings.MODELS_PER_WALLET:
            raise Problem(
                "quota-exceeded",
                f"A wallet owns at most {settings.MODELS_PER_WALLET} names.",
                status=429,
                remedy="Publish a version of a model that you own.",
            )
        access = declared.access
        Model.objects.bulk_create(
            [
                Model(
                    name=declared.name,
                    skeleton=names.skeleton(declared.name),
                    owner=publisher,
                    public=access.public,
                    auth_required=access.auth_required,
                    allow_list=list(access.allow_list),
                )
            ],
            ignore_conflicts=True,
        )
        # Read back: another registrant may have won while this insert waited for theirs.
        model = Model.objects.select_for_update(no_key=True).filter(pk=declared.name).first()
    if model is None or model.owner_id != publisher.pk:
        # One text for both, so that a private model's exact name is not confirmed.
        raise Problem(
            "name-unavailable",
            f"The name {declared.name!r} is not available: it is taken, or reads like one that is.",
            status=409,
            remedy="Choose another name; it belongs to its first registrant.",
        )
    return model, created


def _create(publisher: Wallet, taken: intake.Intake, reference: str) -> Registration:
    declared, package = taken.manifest, taken.package
    model, new_model = _claim(publisher, declared)
    existing = Version.objects.filter(model=model, number=declared.version).first()
    if existing is not None:
        if existing.cid == package.cid:
            return Registration(existing, False, ("Exactly this package was registered before.",))
        raise Problem(
            "version-taken",
            f"{existing} is published already, with other content ({existing.cid}). Versions never "
            "change.",
            status=409,
            remedy="Publish the change under the next number.",
            extra={"published_cid": existing.cid, "sent_cid": package.cid},
        )
    # Again, now that this wallet's other registrations wait or are counted.
    _check_daily_quota(publisher)
    _check_replaces(model, declared)
    if new_model:
        AccessPolicy.objects.create(
            model=model,
            public=model.public,
            auth_required=model.auth_required,
            allow_list=model.allow_list,
            reason="manifest",
            changed_by=publisher,
        )
    payout = declared.pricing.payout_address or publisher.pk
    version = Version.objects.create(
        model=model,
        number=declared.version,
        precedence=lifecycle.precedence(declared.version),
        cid=package.cid,
        size_bytes=package.size_bytes,
        files=taken.files_document(),
        source=reference,
        container=declared.container,
        manifest=declared.as_document(),
        readme=taken.readme,
        description=declared.description,
        license=declared.license,
        tags=list(declared.tags),
        task=declared.task,
        runtime=declared.runtime,
        stability=declared.stability,
        privacy=list(declared.privacy),
        published_by=publisher,
        fee_base_units=declared.pricing.fee_base_units,
        payout_address=payout,
        expires_at=declared.expires_at,
    )
    Terms.objects.create(
        version=version,
        fee_base_units=version.fee_base_units,
        payout_address=payout,
        expires_at=version.expires_at,
        reason="manifest",
        changed_by=publisher,
    )
    _queue(version)
    return Registration(version, True, tuple(_notices(model, new_model, declared, version)))


def _queue(version: Version) -> None:
    waiting = review.waiting_reason(version)
    if waiting:
        version.state_reason = waiting
        version.save(update_fields=["state_reason"])
    else:
        Verification.objects.create(version=version)


def _check_replaces(model: Model, declared: Manifest) -> None:
    if not declared.replaces:
        return
    name, number = manifest.read_replaces(declared.replaces)
    if number == declared.version and name in (None, model.pk):
        detail, remedy = "A version does not replace itself.", "Name an older one, or leave it out."
    elif replaced_versions(model, declared.replaces):
        return
    else:
        detail = f"You have no {declared.replaces} that could be replaced."
        remedy = "Name a version of this model, or another model of yours."
    raise Problem(
        "manifest-invalid",
        f"{manifest.FILE_NAME} cannot be used: {detail}",
        status=422,
        remedy=remedy,
        violations=(Violation("/replaces", detail, remedy),),
    )


def replaced_versions(model: Model, replaces: str) -> list[Version]:
    """The versions of the model's owner that ``replaces`` names."""
    name, number = manifest.read_replaces(replaces)
    versions = Version.objects.filter(model=name or model.pk, model__owner=model.owner_id)
    if number is not None:
        versions = versions.filter(number=number)
    elif name == model.pk:
        return []
    return list(versions)


def _notices(model: Model, new_model: bool, declared: Manifest, version: Version) -> list[str]:
    notices = []
    if not new_model and "access" in declared.model_fields_set:
        access = declared.access
        same = (
            access.public == model.public
            and access.auth_required == model.auth_required
            and list(access.allow_list) == model.allow_list
        )
        if not same:
            notices.append(
                "access of this manifest was not applied: the model's policy stays as it is, and "
                "changes apart from packages."
            )
    if version.expires_at and Version.objects.filter(pk=version.pk, expires_at__lte=Now()).exists():
        notices.append(
            f"expires_at has passed ({version.expires_at:%Y-%m-%dT%H:%M:%SZ}): the version is "
            "listed and called only after its terms are changed."
        )
    like = manifest.known_task_like(declared.task)
    if like:
        notices.append(f"The task {declared.task!r} is new here; did you mean {like!r}?")
    if declared.runtime == "container":
        notices.append("Containers are recorded and shown; this registry does not run them yet.")
    return notices
