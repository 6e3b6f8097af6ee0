"""Calls of real models on real nodes, through the front that everybody uses."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from marketplace.gateway.models import Call
from marketplace.mesh.models import Node, Placement

from ..mesh import serving
from ..mesh.serving import fresh_name, list_doubler, list_python, list_unary

ECHO_UNLESS = (
    serving.ECHO.replace("{", "{{")
    .replace("}", "}}")
    .replace(
        "        return",
        """        if document["text"] == "{word}":
            {deed}
        return""",
    )
)

pytestmark = pytest.mark.usefixtures("mesh")


def test_an_onnx_model_answers_with_its_headers_and_one_row(call: Any) -> None:
    version = list_doubler(fresh_name("doubler"))

    answer = call(version.model_id, {"values": [1, 2.5], "label": "grün"})

    assert answer.status_code == 200, answer.content
    assert answer.json() == {"values": [2.0, 5.0], "label": "grün"}
    assert answer.headers["Inframind-Model"] == f"{version.model_id}@1.0.0"
    assert answer.headers["Inframind-Fee"] == "0 IFM"
    assert answer.headers["RateLimit-Policy"] == '"anonymous";q=120;w=60'
    row = Call.objects.get()
    assert row.pk == UUID(answer.headers["Inframind-Receipt"])
    assert row.outcome == "served"
    assert row.node_name == answer.headers["Inframind-Node"]
    assert row.node_latency_us > 0
    assert row.latency_us >= row.node_latency_us
    assert row.output_digest.startswith("sha256:")


def test_optional_inputs_take_their_defaults(call: Any) -> None:
    version = list_doubler(fresh_name("doubler"))

    answer = call(version.model_id, {"values": [], "times": 3})

    assert answer.json() == {"values": [], "label": "none"}


def test_a_batched_model_answers_one_document_with_one_row(call: Any) -> None:
    tensors = {**serving.DOUBLER_TENSORS, "max_batch_size": 8}
    version = list_doubler(fresh_name("batched"), tensors=tensors)

    answer = call(version.model_id, {"values": [1, 2], "times": 10, "label": "x"})

    assert answer.json() == {"values": [10.0, 20.0], "label": "x"}


def test_a_reviewed_python_model_runs_on_the_sandbox_node_only(call: Any) -> None:
    version = list_python(fresh_name("echo"), serving.ECHO)

    answer = call(version.model_id, {"text": "hi"})

    assert answer.json() == {"said": "you said: hi"}
    sandbox = Node.objects.get(accepts_publisher_code=True)
    assert answer.headers["Inframind-Node"] == sandbox.name
    assert [each.node_id for each in Placement.objects.all()] == [sandbox.pk]


def test_python_code_that_nobody_reviewed_is_never_loaded(call: Any) -> None:
    version = list_python(fresh_name("echo"), serving.ECHO, reviewed=False)

    answer = call(version.model_id, {"text": "hi"})

    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/no-node"
    assert not Placement.objects.exists()


def test_an_output_with_nan_is_not_delivered(call: Any) -> None:
    version = list_unary(fresh_name("log"), "Log")

    answer = call(version.model_id, {"x": [-1]})

    assert answer.status_code == 502
    assert answer.json()["type"] == "/problems/invalid-output"
    assert answer.json()["charged"] is False
    assert Call.objects.get().outcome == "invalid-output"


def test_an_output_that_breaks_its_schema_is_not_delivered(call: Any) -> None:
    schema = {"type": "object", "properties": {"y": {"items": {"minimum": 0}}}}
    version = list_unary(fresh_name("neg"), "Neg", output_schema=schema)

    answer = call(version.model_id, {"x": [1, 5]})

    assert answer.status_code == 502
    assert answer.json()["violations"][0]["pointer"] == "/y/0"


def test_an_output_of_another_shape_than_declared_is_not_delivered(call: Any) -> None:
    tensors = {**serving.UNARY["tensors"]}
    tensors["outputs"] = [{"name": "y", "dtype": "FP32", "shape": [2]}]
    version = list_unary(fresh_name("neg"), "Neg", tensors=tensors)

    assert call(version.model_id, {"x": [1, 5]}).json() == {"y": [-1.0, -5.0]}
    answer = call(version.model_id, {"x": [1, 5, 6]})

    assert answer.status_code == 502
    assert answer.json()["charged"] is False


def test_what_a_model_raises_is_told_and_not_tried_elsewhere(call: Any) -> None:
    code = serving.ECHO.replace('return {"said"', 'raise ValueError("no vowels") or {"said"')
    version = list_python(fresh_name("raising"), code)

    answer = call(version.model_id, {"text": "hi"})

    assert answer.status_code == 502
    assert answer.json()["type"] == "/problems/model-failed"
    assert "ValueError: no vowels" in answer.json()["detail"]
    row = Call.objects.get()
    assert (row.outcome, row.attempts, int(row.fee_base_units)) == ("model-failed", 1, 0)


def test_a_model_that_ends_its_process_fails_the_call_and_serves_the_next(call: Any) -> None:
    code = ECHO_UNLESS.format(word="die", deed='__import__("os")._exit(9)')
    version = list_python(fresh_name("dying"), code)

    assert call(version.model_id, {"text": "die"}).status_code == 502
    assert call(version.model_id, {"text": "on"}).json() == {"said": "you said: on"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('weights missing')\n", "RuntimeError: weights missing"),
        ("import os; os._exit(3)\n", "ended with status 3"),
        ("def x(:\n", "SyntaxError"),
    ],
)
def test_a_model_that_crashes_on_load_says_why(call: Any, code: str, reason: str) -> None:
    version = list_python(fresh_name("broken"), code)

    answer = call(version.model_id, {"text": "hi"})

    assert answer.status_code == 503
    assert reason in answer.json()["detail"]
    placement = Placement.objects.get()
    assert placement.state == "failed"
    assert reason in placement.reason


def test_a_model_that_hangs_on_load_ends_at_the_deadline(call: Any, settings: Any) -> None:
    settings.LOAD_DEADLINE_SECONDS = 7
    version = list_python(fresh_name("hanging"), "while True: pass\n")

    answer = call(version.model_id, {"text": "hi"})

    assert answer.status_code == 503
    assert "did not finish in time" in Placement.objects.get().reason


def test_a_call_past_its_deadline_times_out(call: Any, settings: Any) -> None:
    settings.CALL_DEADLINE_SECONDS = 3
    version = list_python(
        fresh_name("slow"),
        serving.ECHO.replace(
            "        return", "        __import__('time').sleep(8)\n        return"
        ),
    )

    answer = call(version.model_id, {"text": "hi"})

    assert answer.status_code in (502, 504)
    assert answer.json()["charged"] is False
