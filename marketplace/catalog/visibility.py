"""Who may see which model: the one place that knows, so that lists, counts and errors agree."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from inframind.identity.caller import Caller
from inframind.lib.access import Kind, Role, model_kind
from marketplace.catalog import lifecycle
from marketplace.catalog.models import AllowEntry, GroupMember, Model


def running(prefix: str = "") -> Q:
    """A filter for entries and members whose time is not over by the database's clock."""
    return Q(**{f"{prefix}expires_at__isnull": True}) | Q(**{f"{prefix}expires_at__gt": Now()})


def entries_for(
    address: str, model: str | OuterRef
) -> tuple[QuerySet[AllowEntry], QuerySet[GroupMember]]:
    """What lets a wallet into a model at this moment of the database's clock: entries of its own,
    and memberships of groups on the list. Both begin at the wallet: no long list is walked."""
    inner = OuterRef(model) if isinstance(model, OuterRef) else model
    groups = AllowEntry.objects.filter(running(), model=inner, group__isnull=False).values("group")
    alone = AllowEntry.objects.filter(running(), address=address, model=model)
    return alone, GroupMember.objects.filter(running(), address=address, group__in=groups)


def on_list(address: str, name: str) -> bool:
    """Whether the model's allow list has the wallet, alone or in a group; False for no model."""
    alone, grouped = entries_for(address, name)
    found = alone.order_by().values("pk").union(grouped.order_by().values("pk"), all=True)
    return bool(list(found[:1]))


def allowed(address: str, prefix: str = "") -> Q:
    """A filter for models (or, with ``prefix``, for what points to one) whose allow list has the
    wallet, alone or in a group of the model's owner."""
    alone, grouped = entries_for(address, OuterRef(f"{prefix}pk"))
    return Q(Exists(alone)) | Q(Exists(grouped))


def may_see(viewer: Caller | None, prefix: str = "", *, listed: Q | None = None) -> Q:
    """A filter for models that are public, the viewer's own, or have the viewer on their list.

    A token for some models only is let into no more of the private ones than those. ``listed``
    is the last condition where it is known already.
    """
    public = Q(**{f"{prefix}public": True})
    if viewer is None:
        return public
    theirs = Q(**{f"{prefix}owner": viewer.address})
    if not viewer.owned_only:
        theirs |= allowed(viewer.address, prefix) if listed is None else listed
    return public | _covered(theirs, viewer, prefix)


def visible(viewer: Caller | None) -> QuerySet[Model]:
    """Models that stand in the viewer's lists: seen by them, callable, not expired by the
    database's clock."""
    return Model.objects.filter(
        may_see(viewer), current__state__in=sorted(lifecycle.CALLABLE)
    ).exclude(current__expires_at__lte=Now())


def kind_of(model: Model) -> Kind:
    """What the authorisation table calls the model under its present policy."""
    return model_kind(
        public=model.public, auth_required=model.auth_required, restricted=model.restricted
    )


def roles_on(caller: Caller | None, model: Model) -> frozenset[Role]:
    """What the caller is to this model, asked of the database now; empty for strangers."""
    if caller is None or not caller.covers(model.pk):
        return frozenset()
    if caller.address == model.owner_id:
        return frozenset({Role.OWNER})
    if caller.owned_only or not model.restricted:
        return frozenset()
    listed = Model.objects.filter(allowed(caller.address), pk=model.pk).exists()
    return frozenset({Role.ALLOWED} if listed else ())


def names_successor(viewer: Caller | None) -> Q:
    """A filter for versions whose successor may be named to the viewer: one of the same model, of
    a public one, or of the viewer's own."""
    told = Q(successor__model=F("model")) | Q(successor__model__public=True)
    if viewer is not None:
        told |= _covered(Q(successor__model__owner=viewer.address), viewer, "successor__model__")
    return told


def _covered(models: Q, viewer: Caller, prefix: str) -> Q:
    if viewer.names is None:
        return models
    return models & Q(**{f"{prefix}pk__in": sorted(viewer.names)})
