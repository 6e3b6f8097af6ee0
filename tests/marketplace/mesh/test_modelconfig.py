"""The Triton configuration of a version, for the node it goes to."""

from __future__ import annotations

import json
from uuid import UUID

from marketplace.catalog.tensorspec import Tensors
from marketplace.mesh.modelconfig import Hardware, Plan, Program, plan

VERSION = UUID(int=7)
CPU = Hardware(frozenset({"python"}), 0)


def onnx(max_batch_size: int = 0) -> Program:
    tensors = Tensors.model_validate(
        {
            "max_batch_size": max_batch_size,
            "inputs": [
                {"name": "text", "dtype": "BYTES", "shape": []},
                {"name": "grid", "dtype": "FP32", "shape": [-1, 3]},
            ],
            "outputs": [{"name": "score", "dtype": "FP64", "shape": []}],
        }
    )
    return Program(VERSION, "onnx", "model.onnx", tensors.inputs, tensors.outputs, max_batch_size)


def planned(program: Program, hardware: Hardware, *paths: str) -> Plan:
    return plan(
        program,
        hardware,
        package_paths=paths,
        load_seconds=50,
        run_seconds=30,
        stream_seconds=300,
    )


def test_a_cpu_node_gets_our_runner_and_the_whole_package() -> None:
    found = planned(onnx(), CPU, "model.onnx")

    assert found.triton_model == f"v_{VERSION.hex}"
    assert found.whole_package
    assert set(found.programs) == {"1/model.py", "1/onnx_rehearsal.py"}
    assert all(path.is_file() for path in found.programs.values())
    assert found.config["backend"] == "python"
    assert found.config["input"] == [
        {"name": "text", "data_type": "TYPE_STRING", "dims": [1]},
        {"name": "grid", "data_type": "TYPE_FP32", "dims": [-1, 3]},
    ]
    assert found.config["instance_group"] == [{"kind": "KIND_CPU", "count": 1}]
    assert "dynamic_batching" not in found.config


def test_a_model_that_batches_is_batched_by_the_node() -> None:
    found = planned(onnx(16), CPU, "model.onnx")

    assert found.config["max_batch_size"] == 16
    assert found.config["dynamic_batching"]["max_queue_delay_microseconds"] > 0
    details = json.loads(found.config["parameters"]["plan"]["string_value"])
    assert details["batched"] is True


def test_a_node_with_gpus_gets_instances_on_each() -> None:
    found = planned(onnx(), Hardware(frozenset({"python"}), 2), "model.onnx")
    assert found.config["instance_group"] == [{"kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}]


def test_a_full_triton_serves_the_graph_itself() -> None:
    full = Hardware(frozenset({"python", "onnxruntime"}), 0)

    found = planned(onnx(), full, "README.md", "model.onnx", "model.yaml", "weights.bin")

    assert found.config["platform"] == "onnxruntime_onnx"
    assert not found.whole_package
    assert found.package_files == {"1/model.onnx": "model.onnx", "1/weights.bin": "weights.bin"}
    nested = planned(onnx(), full, "model.onnx", "data/weights.bin")
    assert nested.config["backend"] == "python"


def test_publisher_code_travels_as_one_document_each_way() -> None:
    found = planned(Program.of_documents(VERSION, "model.py:Model"), CPU, "model.py")

    assert found.config["input"] == [{"name": "document", "data_type": "TYPE_STRING", "dims": [1]}]
    assert found.config["input"] == found.config["output"]
    assert set(found.programs) == {"1/model.py", "1/python_worker.py"}


def test_a_streaming_model_is_decoupled_and_has_its_own_runner() -> None:
    program = Program.of_documents(VERSION, "model.py:Model", streaming=True)
    found = planned(program, CPU, "model.py")

    assert found.config["model_transaction_policy"] == {"decoupled": True}
    assert found.programs["1/model.py"].name == "python_stream_runner.py"
    assert all(path.is_file() for path in found.programs.values())
    details = json.loads(found.config["parameters"]["plan"]["string_value"])
    assert (details["run_seconds"], details["stream_seconds"]) == (30, 300)
