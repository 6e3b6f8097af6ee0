"""Private packages go to trusted nodes and to those their owner names, and leave when that ends."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from inframind.lib.problem import Problem
from marketplace.catalog.models import CodeReview, Model, Version
from marketplace.catalog.services import verify_next
from marketplace.mesh import client, services
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Node, NodeGrant, Placement
from marketplace.mesh.placing import address_of, eligible_nodes
from marketplace.mesh.routing import NoRoute, Router

from . import serving
from .serving import OWNER, fresh_name, list_doubler, list_python, list_unary

STRANGER = "0x3333333333333333333333333333333333333333"


def make_private(version: Version) -> None:
    Model.objects.filter(pk=version.model_id).update(
        public=False, auth_required=True, restricted=True
    )
    version.refresh_from_db()


@pytest.fixture
def untrusted(mesh: list[Node]) -> Node:
    """The one node that may run ONNX, and staff do not trust it."""
    Node.objects.exclude(name="node-a").update(state=Node.State.DOWN)
    Node.objects.filter(name="node-a").update(trusted=False)
    return Node.objects.get(name="node-a")


def holds(node: Node, version: Version) -> bool:
    return client.model_ready(address_of(node), triton_name(version.pk))


def test_a_node_that_the_owner_names_gets_the_private_package(untrusted: Node) -> None:
    version = list_doubler(fresh_name("doubler"))
    make_private(version)

    assert eligible_nodes(version) == []
    services.name_node(owner=OWNER, model_name=version.model_id, node_name="node-a")
    services.name_node(owner=OWNER, model_name=version.model_id, node_name="node-a")
    assert eligible_nodes(version) == [untrusted]
    services.place(version_id=version.pk, node_id=untrusted.pk)
    assert services.retire() == 0
    assert holds(untrusted, version)

    services.unname_node(owner=OWNER, model_name=version.model_id, node_name="node-a")
    assert services.retire() == 1
    assert not holds(untrusted, version)


def test_a_model_that_becomes_private_leaves_nodes_without_trust(untrusted: Node) -> None:
    version = list_doubler(fresh_name("doubler"))
    services.place(version_id=version.pk, node_id=untrusted.pk)
    make_private(version)

    assert services.retire() == 1
    assert not holds(untrusted, version)


def test_no_call_is_routed_where_a_package_may_not_be(untrusted: Node) -> None:
    from marketplace.gateway import loop

    version = list_doubler(fresh_name("doubler"))
    services.place(version_id=version.pk, node_id=untrusted.pk)

    async def routes() -> list[str]:
        found = await Router().take(version.pk, paid=False, wait_seconds=0.1, queue_seconds=0.1)
        return [found.route.node_name]

    assert loop.submit(routes(), 5) == ["node-a"]
    make_private(version)
    with pytest.raises(NoRoute):
        loop.submit(routes(), 5)
    NodeGrant.objects.create(model_id=version.model_id, node=untrusted)
    assert loop.submit(routes(), 5) == ["node-a"]


def test_code_whose_review_is_taken_back_is_unloaded(mesh: list[Node]) -> None:
    version = list_python(fresh_name("echo"), serving.ECHO)
    (node,) = eligible_nodes(version)
    services.place(version_id=version.pk, node_id=node.pk)
    assert services.retire() == 0
    CodeReview.objects.create(
        cid=version.content_cid,
        verdict=CodeReview.Verdict.REFUSED,
        reviewer=Wallet.objects.of("0x2222222222222222222222222222222222222222"),
    )

    assert services.retire() == 1
    assert not Placement.objects.exists()
    assert not holds(node, version)


def test_only_the_owner_names_nodes(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))

    def refused(owner: str, model: str, node: str) -> int:
        with pytest.raises(Problem) as caught:
            services.name_node(owner=owner, model_name=model, node_name=node)
        return caught.value.status

    assert refused(STRANGER, version.model_id, "node-a") == 403
    assert refused(OWNER, version.model_id, "no-such-node") == 404
    make_private(version)
    assert refused(STRANGER, version.model_id, "node-a") == 404
    assert not NodeGrant.objects.exists()


def test_naming_over_http(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    address = f"/api/v1/models/{version.model_id}/nodes"

    def bearer(wallet: str, action: str) -> dict[str, str]:
        _, text = mint_token(
            wallet=Wallet.objects.of(wallet),
            name="test",
            actions=[action],
            lifetime=timedelta(hours=1),
        )
        return {"Authorization": f"Bearer {text}"}

    http: Any = Client()
    owner = bearer(OWNER, "manage")
    assert http.put(f"{address}/node-a").status_code == 401
    assert http.put(f"{address}/node-a", headers=bearer(OWNER, "invoke")).status_code == 403
    assert http.get(address, headers=bearer(STRANGER, "manage")).status_code == 403
    assert http.put(f"{address}/node-a", headers=owner).status_code == 204
    assert http.get(address, headers=owner).json() == {"nodes": ["node-a"]}
    assert http.delete(f"{address}/node-a", headers=owner).status_code == 204
    assert http.get(address, headers=owner).json() == {"nodes": []}


def plaintext_in(store: Path, words: tuple[bytes, ...]) -> list[bytes]:
    """Which of the words lie anywhere under the store, in names or in bytes."""
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    text = [str(path.relative_to(store)).encode() + path.read_bytes() for path in files]
    return [word for word in words if any(word in each for each in text)]


def test_a_sealed_model_is_verified_and_served_by_real_nodes(
    mesh: list[Node], settings: Any
) -> None:
    values = {
        "type": "array",
        "maxItems": 9,
        "items": {"type": "integer", "minimum": -9, "maximum": 9},
    }
    version = list_unary(
        fresh_name("absolute"),
        "Abs",
        activate=False,
        access={"public": False},
        tags=["telling-tag"],
        input_schema={"type": "object", "required": ["x"], "properties": {"x": values}},
    )
    assert version.package_key is not None
    assert version.cid != version.content_cid
    verify_next()
    version.refresh_from_db()
    assert (version.state, version.state_reason) == ("active", "")
    (run,) = version.verifications.all()
    kinds = run.checks.values_list("kind", "passed")
    assert {"hash", "manifest", "load", "generated"} <= {kind for kind, passed in kinds if passed}
    assert version.content_cid in run.checks.get(kind="hash").detail

    placement = Placement.objects.get(version=version)
    assert (placement.state, placement.node.trusted) == ("ready", True)
    assert holds(placement.node, version)
    store = Path(settings.STORE_DIR)
    assert plaintext_in(store, (b"telling-tag", b"absolute", b"unary", b"model.yaml")) == []
    assert list((store / "opened").iterdir()) == []


def test_sealed_code_is_reviewed_by_its_content_and_runs(mesh: list[Node], settings: Any) -> None:
    version = list_python(fresh_name("echo"), serving.ECHO, access={"public": False})
    sandbox = Node.objects.get(accepts_publisher_code=True)
    NodeGrant.objects.create(model_id=version.model_id, node=sandbox)
    (node,) = eligible_nodes(version)
    placement = services.place(version_id=version.pk, node_id=node.pk)
    assert (placement.state, placement.reason) == ("ready", "")
    assert holds(node, version)
    assert list((Path(settings.STORE_DIR) / "opened").iterdir()) == []


def test_a_damaged_sealed_package_is_not_loaded(mesh: list[Node], settings: Any) -> None:
    version = list_doubler(fresh_name("doubler"), access={"public": False})
    for block in (Path(settings.STORE_DIR) / "blocks").glob("*/*/*"):
        block.write_bytes(block.read_bytes()[:-1] + b"x")
    node = next(node for node in eligible_nodes(version))
    placement = services.place(version_id=version.pk, node_id=node.pk)
    assert placement.state == "failed"
    assert "is damaged" in placement.reason
    assert not holds(node, version)


def test_what_is_being_loaded_is_removed_only_once_it_is_there(db: None) -> None:
    """A row that went before would leave the package on the node, where nobody would unload it."""
    version = list_doubler(fresh_name("doubler"))
    make_private(version)
    node = Node.objects.create(
        name="elsewhere", operator=Wallet.objects.of(STRANGER), endpoint="http://127.0.0.1:9"
    )
    row = Placement.objects.create(
        version=version,
        node=node,
        state=Placement.State.LOADING,
        lease_expires_at=timezone.now() + timedelta(minutes=1),
    )
    assert services.retire() == 0
    Placement.objects.filter(pk=row.pk).update(state="ready", lease_expires_at=None)
    assert services.retire() == 1
