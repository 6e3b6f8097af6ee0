"""Every demo package: the same bytes each time, a sound manifest, answers that keep it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from inframind.devstack.demo import MODELS, build
from marketplace.catalog.manifest import parse_manifest
from marketplace.catalog.schemas import Validator
from tests.inframind.devstack.demo.node import RunningPackage

Start = Callable[[str], RunningPackage]

every_model = pytest.mark.parametrize("name", MODELS)


def test_building_twice_gives_the_same_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    def contents(package: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(package.iterdir())}

    again = build(tmp_path)
    assert [package.name for package in again] == [path.name for path in packages.values()]
    for first, second in zip(packages.values(), again, strict=True):
        assert contents(first) == contents(second)


def test_building_over_an_older_package_leaves_none_of_its_files(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    stale = tmp_path / "summarizer-v1-1.0.0" / "old.py"
    stale.parent.mkdir()
    stale.write_text("")
    build(tmp_path)
    assert not stale.exists()


@every_model
def test_a_package_has_a_sound_manifest_and_tells_about_itself(
    name: str, packages: dict[str, Path]
) -> None:
    package = packages[name]
    manifest = parse_manifest((package / "model.yaml").read_bytes())
    assert (manifest.name, manifest.version, manifest.privacy) == (name, "1.0.0", ())
    assert (package / manifest.entry_file).is_file()
    readme = (package / "README.md").read_text("utf-8")
    for part in (f"# {name}", "## Try it", "curl", "## Limits", "## Licence"):
        assert part in readme


@every_model
def test_a_package_holds_no_pickle_and_no_compiled_code(
    name: str, packages: dict[str, Path]
) -> None:
    allowed = {".yaml", ".md", ".py", ".onnx", ".npz", ".txt", ".json", ".safetensors", ".wav", ""}
    assert {file.suffix for file in packages[name].iterdir()} <= allowed


@pytest.mark.parametrize("name", ["filetype-v1", "voice-activity-v1", "language-id-v1"])
def test_a_graph_is_of_a_version_that_nodes_read(name: str, packages: dict[str, Path]) -> None:
    model = onnx.load(packages[name] / "model.onnx")
    assert model.ir_version <= 10
    assert all(entry.version <= 21 for entry in model.opset_import)


@every_model
def test_examples_come_out_as_the_manifest_says(name: str, running: Start) -> None:
    package = running(name)
    assert len(package.manifest.examples) >= 2
    for example in package.manifest.examples:
        got = package.call(example.input)
        assert near(got, example.output, example.tolerance.absolute), (example.name, got)


@every_model
def test_any_valid_input_gets_a_valid_answer(name: str, running: Start) -> None:
    package = running(name)
    accepts = Validator(package.manifest.input_schema)
    promises = Validator(package.manifest.output_schema)

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(from_schema(package.manifest.input_schema))
    def check(document: Any) -> None:
        if accepts.is_valid(document):
            assert promises.violations(package.call(document)) == ()

    check()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_near_accepts_a_number_within_its_tolerance_only(number: float) -> None:
    assert near(json.loads(json.dumps(number)), number, 0.0)
    assert not near([number], number, math.inf)


def near(got: Any, golden: Any, tolerance: float) -> bool:
    """Whether two documents are equal but for numbers that differ by at most `tolerance`."""
    if isinstance(golden, dict):
        return (
            isinstance(got, dict)
            and got.keys() == golden.keys()
            and all(near(got[key], golden[key], tolerance) for key in golden)
        )
    if isinstance(golden, list):
        return (
            isinstance(got, list)
            and len(got) == len(golden)
            and all(near(a, b, tolerance) for a, b in zip(got, golden, strict=True))
        )
    if isinstance(golden, bool | str):
        return bool(got == golden)
    return isinstance(got, int | float) and abs(got - golden) <= tolerance
