"""The Triton configuration of a version, generated for the node it goes to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from marketplace.mesh.tensors import Spec, document_specs

RUNNERS: Final = Path(__file__).parent / "runners"
GRAPH_THREADS: Final = 1
_BATCH_DELAY_MICROSECONDS: Final = 500
_TRITON_TYPES: Final = {"BYTES": "TYPE_STRING"}


@dataclass(frozen=True)
class Program:
    """What the configuration depends on: the version's side."""

    version_id: UUID
    runtime: str  # onnx | python
    entrypoint: str
    inputs: Sequence[Spec]
    outputs: Sequence[Spec]
    max_batch_size: int
    streaming: bool = False

    @classmethod
    def of_documents(cls, version_id: UUID, entrypoint: str, *, streaming: bool = False) -> Program:
        """A `python` model: one document in, one out, or where it streams one a piece."""
        specs = document_specs()
        return cls(version_id, "python", entrypoint, specs, specs, 0, streaming)


@dataclass(frozen=True)
class Hardware:
    """What the configuration depends on: the node's side."""

    backends: frozenset[str]
    gpu_count: int


@dataclass(frozen=True)
class Plan:
    """What a load sends: the configuration, and files by their path inside the model's folder.

    `programs` maps node paths to files of ours, `package_files` node paths to package paths;
    `whole_package` asks for `1/package.tar`.
    """

    triton_model: str
    config: dict[str, Any]
    programs: dict[str, Path]
    whole_package: bool
    package_files: dict[str, str]

    @property
    def config_json(self) -> str:
        return json.dumps(self.config, separators=(",", ":"), sort_keys=True)


def triton_name(version_id: UUID) -> str:
    """The name under which a node knows a version."""
    return f"v_{version_id.hex}"


def plan(
    program: Program,
    hardware: Hardware,
    *,
    package_paths: Sequence[str],
    load_seconds: int,
    run_seconds: int,
    stream_seconds: int,
) -> Plan:
    """What to send to a node so that it serves the program.

    `package_paths` are the files of the package. A call may run for `run_seconds`; where the
    program streams that is the time to each piece, and `stream_seconds` the whole. Raises
    ``ValueError`` when the node has no backend for the program.
    """
    native = program.runtime == "onnx" and "onnxruntime" in hardware.backends
    # Triton makes no folders for override files, so only a flat package fits the native backend.
    if native and not any("/" in path for path in package_paths):
        return _native(program, hardware, package_paths)
    if "python" not in hardware.backends:
        raise ValueError(
            f"The node has no backend for the {program.runtime} runtime: "
            f"it offers {', '.join(sorted(hardware.backends)) or 'none'}."
        )
    config = _common(program, hardware)
    config["backend"] = "python"
    programs = {"1/model.py": RUNNERS / f"{program.runtime}_runner.py"}
    details: dict[str, Any] = {
        "entrypoint": program.entrypoint,
        "run_seconds": run_seconds,
        "load_seconds": load_seconds,
    }
    if program.runtime == "onnx":
        programs["1/onnx_rehearsal.py"] = RUNNERS / "onnx_rehearsal.py"
        details |= {
            "threads": GRAPH_THREADS,
            "batched": program.max_batch_size > 0,
            "inputs": _for_runner(program.inputs),
            "outputs": _for_runner(program.outputs),
        }
    else:
        programs["1/python_worker.py"] = RUNNERS / "python_worker.py"
    if program.streaming:
        for name in ("python_runner.py", "python_stream_worker.py"):
            programs[f"1/{name}"] = RUNNERS / name
        programs["1/model.py"] = RUNNERS / "python_stream_runner.py"
        details["stream_seconds"] = stream_seconds
        config["model_transaction_policy"] = {"decoupled": True}
    config["parameters"] = {"plan": {"string_value": json.dumps(details)}}
    return Plan(
        triton_name(program.version_id),
        config,
        programs,
        whole_package=True,
        package_files={},
    )


def _native(program: Program, hardware: Hardware, package_paths: Sequence[str]) -> Plan:
    config = _common(program, hardware)
    config["platform"] = "onnxruntime_onnx"
    config["default_model_filename"] = program.entrypoint
    config["parameters"] = {"intra_op_thread_count": {"string_value": str(GRAPH_THREADS)}}
    weights = [path for path in package_paths if not path.endswith((".md", ".yaml"))]
    return Plan(
        triton_name(program.version_id),
        config,
        programs={},
        whole_package=False,
        package_files={f"1/{path}": path for path in weights},
    )


def _common(program: Program, hardware: Hardware) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": triton_name(program.version_id),
        "max_batch_size": program.max_batch_size,
        "input": [_tensor(spec) for spec in program.inputs],
        "output": [_tensor(spec) for spec in program.outputs],
        "instance_group": [_instances(program, hardware)],
    }
    if program.max_batch_size > 0:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": _BATCH_DELAY_MICROSECONDS}
    return config


def _instances(program: Program, hardware: Hardware) -> dict[str, Any]:
    if hardware.gpu_count and program.runtime == "onnx":
        return {"kind": "KIND_GPU", "count": 1, "gpus": list(range(hardware.gpu_count))}
    return {"kind": "KIND_CPU", "count": 1}


def _tensor(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": _TRITON_TYPES.get(spec.dtype, f"TYPE_{spec.dtype}"),
        "dims": list(spec.shape) or [1],
    }


def _for_runner(specs: Sequence[Spec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype, "scalar": not spec.shape} for spec in specs]
