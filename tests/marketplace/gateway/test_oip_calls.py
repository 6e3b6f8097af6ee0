"""The Open Inference Protocol over real models: what its own client library sees of us."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from django.test import Client
from tritonclient.utils import InferenceServerException

from marketplace.catalog.models import Model, Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node, Placement

from ..mesh import serving
from ..mesh.serving import fresh_name, list_doubler, list_python, list_unary
from . import money
from .served import PRODUCTION, REFERENCE, served

pytestmark = pytest.mark.usefixtures("mesh")

Post = Callable[..., Any]
BATCHED = {**serving.DOUBLER_TENSORS, "max_batch_size": 8}


def tensors(
    values: Any = ((1.0, 2.5),), *, times: float = 3.0, label: bytes = b"x", batched: bool = False
) -> list[triton.InferInput]:
    """The doubler's inputs; with a batch, a row for each list of values."""
    rows = np.array(values, dtype=np.float32)
    ones = (len(rows), 1)
    given = {
        "values": rows if batched else rows[0],
        "times": np.full(ones if batched else (1,), times, dtype=np.float32),
        "label": np.full(ones if batched else (1,), label, dtype=object),
    }
    inputs = []
    for name, data in given.items():
        item = triton.InferInput(name, list(data.shape), "BYTES" if name == "label" else "FP32")
        item.set_data_from_numpy(data)
        inputs.append(item)
    return inputs


@pytest.fixture
def infer() -> Post:
    """POSTs what the client library encodes, through Django's front; returns its response."""
    client = Client()

    def post(
        reference: str,
        inputs: Any,
        outputs: Any = None,
        *,
        token: str = "",
        headers: Any = None,
        **wish: Any,
    ) -> Any:
        body, length = triton.InferenceServerClient.generate_request_body(
            inputs, outputs=outputs, **wish
        )
        lines = {**(headers or {}), "Inference-Header-Content-Length": str(length)}
        if token:
            lines["Authorization"] = f"Bearer {token}"
        answer: Any = client.post(
            f"/v2/models/{reference}/infer", body, "application/octet-stream", headers=lines
        )
        answer.sent = body
        return answer

    return post


def result_of(answer: Any) -> triton.InferResult:
    assert answer.status_code == 200, answer.content
    length = answer.headers.get("Inference-Header-Content-Length")
    return triton.InferenceServerClient.parse_response_body(
        answer.content, header_length=length and int(length)
    )


@pytest.mark.parametrize("target", [REFERENCE, PRODUCTION])
def test_the_client_library_pointed_at_us_just_works(target: str) -> None:
    money.fund(money.GUEST, 2 * money.FEE)
    version = money.paid_doubler()
    name, headers = version.model_id, {"Authorization": f"Bearer {money.token_of()}"}
    with served(target) as port, triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "inframind"
        described = client.get_model_metadata(name, "1.0.0", headers=headers)
        assert described["versions"] == ["1.0.0"]
        assert described["inputs"][0] == {"name": "values", "datatype": "FP32", "shape": [-1]}
        assert client.get_model_config(name, headers=headers)["max_batch_size"] == 0

        result = client.infer(
            name,
            tensors(label="grün".encode()),
            outputs=[
                triton.InferRequestedOutput("scaled"),
                triton.InferRequestedOutput("label_out", binary_data=False),
            ],
            model_version="1.0.0",
            request_id="seven",
            parameters={"mood": "calm"},
            headers=headers,
        )
        assert result.as_numpy("scaled").tolist() == [3.0, 7.5]
        assert result.as_numpy("label_out").tolist() == ["grün"]
        told = result.get_response()
        assert (told["model_name"], told["model_version"], told["id"]) == (name, "1.0.0", "seven")
        assert client.is_model_ready(f"{name}@1.0.0", headers=headers)

        with pytest.raises(InferenceServerException, match="The model's inputs are values, times"):
            client.infer(name, [*tensors(), triton.InferInput("z", [0], "FP32")], headers=headers)
        with pytest.raises(InferenceServerException, match="is compressed"):
            # The library writes into the headers that it is given.
            client.infer(name, tensors(), headers={**headers}, request_compression_algorithm="gzip")

        async def twice() -> list[Any]:
            async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as other:
                asked = [other.infer(name, tensors(), headers=headers) for _ in range(2)]
                return await asyncio.gather(*asked, return_exceptions=True)

        # There was money for two calls, and one is spent.
        first, second = sorted(asyncio.run(twice()), key=lambda each: isinstance(each, Exception))
        assert first.as_numpy("scaled").tolist() == [3.0, 7.5]
        assert isinstance(second, InferenceServerException)
        assert second.status() == "402"
        with pytest.raises(InferenceServerException, match="a token says who pays"):
            client.infer(name, tensors())
        counted = client.get_inference_statistics(name, headers=headers)["model_stats"][0]
        assert counted["inference_stats"]["success"]["count"] == 2
    assert money.balance() == 0
    assert Call.objects.filter(outcome="served").count() == 2


def test_the_digests_are_of_the_very_bytes(infer: Post) -> None:
    version = list_doubler(fresh_name("doubler"))
    answer = infer(version.model_id, tensors())
    row = Call.objects.get(pk=UUID(answer.headers["Inframind-Receipt"]))
    assert row.outcome == "served"
    assert row.input_digest == f"sha256:{hashlib.sha256(answer.sent).hexdigest()}"
    assert row.output_digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    assert row.node_name == answer.headers["Inframind-Node"]


def test_a_long_tensor_goes_through_with_its_digests(infer: Post) -> None:
    version = list_unary(fresh_name("neg"), "Neg")
    data = np.arange(300_000, dtype=np.float32)
    item = triton.InferInput("x", [len(data)], "FP32")
    item.set_data_from_numpy(data)
    answer = infer(version.model_id, [item])
    assert np.array_equal(result_of(answer).as_numpy("y"), -data)
    row = Call.objects.get()
    assert row.input_digest == f"sha256:{hashlib.sha256(answer.sent).hexdigest()}"
    assert row.output_digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def test_a_long_tensor_that_no_node_ran_has_its_digest_too(infer: Post) -> None:
    version = list_unary(fresh_name("neg"), "Neg")
    item = triton.InferInput("x", [100_000], "FP32")
    item.set_data_from_numpy(np.zeros(100_000, dtype=np.float32))
    Node.objects.all().delete()
    answer = infer(version.model_id, [item])
    assert answer.status_code == 503
    assert answer.json()["error"] == answer.json()["detail"]
    row = Call.objects.get()
    assert row.input_digest == f"sha256:{hashlib.sha256(answer.sent).hexdigest()}"


def test_nan_is_carried_in_binary_where_json_cannot(infer: Post) -> None:
    version = list_unary(fresh_name("log"), "Log")
    item = triton.InferInput("x", [2], "FP32")
    item.set_data_from_numpy(np.array([-1, 1], dtype=np.float32))
    found = result_of(infer(version.model_id, [item])).as_numpy("y")
    assert np.isnan(found[0])
    assert found[1] == 0.0


def test_a_request_in_plain_json_is_answered_in_json(infer: Post) -> None:
    version = list_doubler(fresh_name("doubler"))
    inputs = [
        {"name": "values", "shape": [2], "datatype": "FP32", "data": [1, 2.5]},
        {"name": "times", "shape": [1], "datatype": "FP32", "data": [2]},
        {"name": "label", "shape": [1], "datatype": "BYTES", "data": ["grün"]},
    ]
    answer = Client().post(
        f"/v2/models/{version.model_id}/versions/1.0.0/infer",
        json.dumps({"id": "1", "inputs": inputs}),
        "application/json",
    )
    assert answer.status_code == 200, answer.content
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "model_name": version.model_id,
        "model_version": "1.0.0",
        "id": "1",
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": [2], "data": [2.0, 5.0]},
            {"name": "label_out", "datatype": "BYTES", "shape": [1], "data": ["grün"]},
        ],
    }


def test_rows_of_a_batch_are_one_call(infer: Post) -> None:
    version = list_doubler(fresh_name("batched"), tensors=BATCHED)
    answer = infer(version.model_id, tensors([[1.0], [2.0], [3.0]], batched=True))
    result = result_of(answer)
    assert result.as_numpy("scaled").tolist() == [[3.0], [6.0], [9.0]]
    assert result.as_numpy("label_out").tolist() == [[b"x"]] * 3
    assert Call.objects.count() == 1
    answer = infer(version.model_id, tensors([[1.0]] * 9, batched=True))
    assert answer.status_code == 422
    assert answer.json()["violations"][0]["pointer"] == "/inputs/0/shape"


def test_a_price_is_for_one_row(infer: Post) -> None:
    money.fund(money.GUEST, 2 * money.FEE)
    version = list_doubler(fresh_name("batched"), tensors=BATCHED)
    Version.objects.filter(pk=version.pk).update(fee_base_units=money.FEE)
    token = money.token_of()
    answer = infer(version.model_id, tensors([[1.0], [2.0]], batched=True), token=token)
    refused = answer.json()
    assert (answer.status_code, refused["type"]) == (422, "/problems/one-row-a-call")
    assert refused["violations"][0]["pointer"] == "/inputs/0/shape"
    answer = infer(version.model_id, tensors([[1.0]], batched=True), token=token)
    assert result_of(answer).as_numpy("scaled").tolist() == [[3.0]]
    assert [int(call.fee_base_units) for call in Call.objects.order_by("pk")] == [0, money.FEE]


def test_a_python_model_has_one_tensor_with_a_document() -> None:
    version = list_python(fresh_name("echo"), serving.ECHO)
    path = f"/v2/models/{version.model_id}"
    client = Client()
    described = client.get(path).json()
    tensor = {"name": "document", "datatype": "BYTES", "shape": [1]}
    assert (described["inputs"], described["outputs"]) == ([tensor], [tensor])

    def post(text: str) -> Any:
        body = {"inputs": [{**tensor, "data": [text]}]}
        return client.post(f"{path}/infer", json.dumps(body), "application/json")

    [output] = post('{"text": "hi"}').json()["outputs"]
    assert json.loads(output["data"][0]) == {"said": "you said: hi"}
    assert post("{").status_code == 422
    wrong = {"inputs": [{**tensor, "name": "text", "data": ["x"]}]}
    refused = client.post(f"{path}/infer", json.dumps(wrong), "application/json").json()
    assert refused["error"] == "The model has one input, document, given once."
    # Its schema is the other contract's: what the model says of such a document is the answer.
    assert post("{}").json()["type"] == "/problems/model-failed"
    outcomes = sorted(Call.objects.values_list("outcome", flat=True))
    assert outcomes == ["invalid-input", "invalid-input", "model-failed", "served"]


def test_an_output_of_another_shape_than_declared_costs_nothing(infer: Post) -> None:
    declared = {**serving.UNARY["tensors"]}
    declared["outputs"] = [{"name": "y", "dtype": "FP32", "shape": [2]}]
    version = list_unary(fresh_name("neg"), "Neg", tensors=declared)
    item = triton.InferInput("x", [3], "FP32")
    item.set_data_from_numpy(np.zeros(3, dtype=np.float32))
    answer = infer(version.model_id, [item])
    assert answer.status_code == 502
    assert answer.json()["type"] == "/problems/invalid-output"
    assert answer.json()["charged"] is False
    assert int(Call.objects.get().fee_base_units) == 0


def test_a_call_sent_again_with_its_key_gets_the_same_bytes_for_one_fee(infer: Post) -> None:
    money.fund(money.GUEST, 5 * money.FEE)
    version, token = money.paid_doubler(), money.token_of()
    sent = {"token": token, "headers": {"Idempotency-Key": "once"}}
    first, second = (infer(version.model_id, tensors(), **sent) for _ in range(2))
    assert second.content == first.content
    assert second.headers["Idempotency-Replayed"] == "true"
    for name in ("Content-Type", "Inference-Header-Content-Length", "Inframind-Receipt"):
        assert second.headers[name] == first.headers[name]
    assert money.balance() == 4 * money.FEE
    # The same bytes mean something else to the other contract, so they are another call.
    other = Client().post(
        f"/inference/v1/{version.model_id}",
        first.sent,
        "application/json",
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "once"},
    )
    assert other.json()["type"] == "/problems/idempotency-key-reused"


def test_a_budget_holds_here_too(infer: Post) -> None:
    money.fund(money.GUEST, money.FEE)
    version = money.paid_doubler()
    budget = {"Inframind-Budget": "0.1 IFM"}
    answer = infer(version.model_id, tensors(), token=money.token_of(), headers=budget)
    assert (answer.status_code, answer.json()["type"]) == (402, "/problems/over-budget")


def test_asking_whether_a_model_is_ready_has_it_loaded() -> None:
    version = list_doubler(fresh_name("doubler"))
    client, path = Client(), f"/v2/models/{version.model_id}/ready"
    first = client.get(path)
    assert first.status_code == 503
    assert first.json()["type"] == "/problems/model-loading"
    assert first.headers["Retry-After"]
    for _ in range(100):
        if client.get(path).status_code == 200:
            break
        time.sleep(0.2)
    assert client.get(path).json() == {
        "name": version.model_id,
        "version": "1.0.0",
        "ready": True,
    }
    assert Placement.objects.filter(version=version, state="ready").exists()
    assert not Call.objects.exists()


@pytest.mark.parametrize("rest", ["", "/ready", "/config", "/stats", "/versions/1.0.0"])
def test_to_strangers_a_private_model_is_not_there(rest: str) -> None:
    version = list_doubler(fresh_name("private"))
    Model.objects.filter(pk=version.model_id).update(
        public=False, restricted=True, auth_required=True
    )
    client = Client()

    def told(name: str) -> tuple[int, str]:
        answer = client.get(f"/v2/models/{name}{rest}")
        detail = answer.json()["error"]
        assert detail == answer.json()["detail"]
        return answer.status_code, detail.replace(name, "it")

    assert told(version.model_id) == told("no-such-model")
    assert told(version.model_id)[0] == 404
    owner = {"Authorization": f"Bearer {money.token_of(serving.OWNER)}"}
    assert client.get(f"/v2/models/{version.model_id}{rest}", headers=owner).status_code != 404


def test_versions_that_cannot_be_called_are_not_named() -> None:
    version = list_doubler(fresh_name("doubler"))
    Version.objects.filter(pk=version.pk).update(state=Version.State.DELISTED)
    other = list_doubler(version.model_id, version="1.1.0")
    described = Client().get(f"/v2/models/{version.model_id}").json()
    assert (described["versions"], described["version"]) == (["1.1.0"], other.number)
