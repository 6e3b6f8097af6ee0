"""Registering a version: a name is claimed, a number taken once, the rows are made together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import IO, Final

from django.conf import settings
from django.db.models.functions import Now

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, Violation
from marketplace.catalog import claims, filing, intake, lifecycle, manifest, review
from marketplace.catalog.manifest import Manifest
from marketplace.catalog.models import Model, Terms, Verification, Version

_RETRY_QUOTA_SECONDS = 3600
MAX_ALLOW_LIST: Final = 1000


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
    allow_list: Sequence[str] = (),
    caller: Caller | None = None,
) -> Registration:
    """Registers the package of a tar ``stream``, or of an ``ar://`` or ``https://`` reference.

    ``name`` and ``version`` supply what the manifest leaves out and must otherwise equal it;
    ``allow_list`` (addresses, beside those that the manifest may list) is whom a new name lets in;
    ``caller`` narrows the names to those its token allows. The version is pending and its
    verification is queued. A private model's package is sealed before any of it is stored.
    Raises ``Problem``; then nothing was stored and no row was made.
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
    source = intake.fetched(reference) if stream is None else intake.uploaded(stream)
    with source as uploaded, intake.arrived(uploaded) as arrived:
        declared = _overridden(arrived.manifest, name, version)
        if caller is not None:
            caller.require("publish", declared.name)
        claims.require_available(publisher=publisher, name=declared.name)
        guests = tuple(dict.fromkeys((*arrived.allow_list, *allow_list)))
        if len(guests) > MAX_ALLOW_LIST:
            raise _too_many_guests(len(guests))

        def create(taken: intake.Intake, file: filing.File) -> Registration:
            taken = replace(taken, manifest=_overridden(taken.manifest, name, version))
            return _create(publisher, taken, reference, guests, file)

        with claims.counting_refusals(publisher):
            # Decided before any of it is stored: what IPFS has seen once cannot be unseen.
            if _is_kept_private(declared):
                return filing.through_a_private_copy(arrived.stream, expected_cid, create)
            return filing.directly(arrived.stream, expected_cid, create)


def _is_kept_private(declared: Manifest) -> bool:
    """Whether the package may only be stored sealed, or has been before."""
    model = Model.objects.filter(pk=declared.name).first()
    if model is None:
        return not declared.access.public
    versions = Version.objects.filter(model=model, number=declared.version)
    return not model.public or versions.filter(package_key__isnull=False).exists()


def _too_many_guests(count: int) -> Problem:
    return Problem(
        "invalid-request",
        f"The allow list has {count} addresses, at most {MAX_ALLOW_LIST} are taken here.",
        status=422,
        remedy="Register with fewer, then add the others with `infra model access import`.",
    )


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


def _create(
    publisher: Wallet,
    taken: intake.Intake,
    reference: str,
    guests: tuple[str, ...],
    file: filing.File,
) -> Registration:
    """Makes the rows. ``file(model, existing)`` is called when nothing is refused any more, and
    stores the package, or puts the existing version's right."""
    declared, package = taken.manifest, taken.package
    model, new_model = claims.claim(
        publisher=publisher, name=declared.name, policy=declared.access, allow_list=guests
    )
    existing = Version.objects.filter(model=model, number=declared.version).first()
    if existing is not None:
        if existing.content_cid == package.cid:
            file(model, existing)
            return Registration(existing, False, ("Exactly this package was registered before.",))
        raise Problem(
            "version-taken",
            f"{existing} is published already, with other content ({existing.content_cid}). "
            "Versions never change.",
            status=409,
            remedy="Publish the change under the next number.",
            extra={"published_cid": existing.content_cid, "sent_cid": package.cid},
        )
    # Again, now that this wallet's other registrations wait or are counted.
    _check_daily_quota(publisher)
    _check_replaces(model, declared)
    payout = declared.pricing.payout_address or publisher.pk
    filed = file(model, None)
    version = Version.objects.create(
        model=model,
        number=declared.version,
        precedence=lifecycle.precedence(declared.version),
        cid=filed.cid,
        content_cid=package.cid,
        package_key=filed.key,
        sealed_head=filed.head,
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
        streaming=declared.streaming,
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
    notices = _notices(model, new_model, declared, version, guests)
    return Registration(version, True, tuple(notices))


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


def _notices(
    model: Model,
    new_model: bool,
    declared: Manifest,
    version: Version,
    guests: tuple[str, ...],
) -> list[str]:
    notices = []
    if not new_model and "access" in declared.model_fields_set:
        policy = declared.access
        same = policy.public == model.public and policy.auth_required == model.auth_required
        if not same:
            notices.append(
                "access of this manifest was not applied: the model's policy stays as it is, and "
                "changes apart from packages."
            )
    if guests and new_model:
        notices.append(
            f"allow_list became the model's own, with {len(guests)} "
            f"{'address' if len(guests) == 1 else 'addresses'}: it is no part of the package, and "
            "changes on the model's page or with `infra model access`."
        )
    elif guests:
        notices.append(
            "allow_list was not applied: the model has a list of its own, which changes with "
            "`infra model access`. It is no part of the package either."
        )
    if version.package_key_id:
        notices.append(
            f"The package is stored sealed under {version.cid}, which only this model's key opens; "
            f"its content is {version.content_cid}."
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
