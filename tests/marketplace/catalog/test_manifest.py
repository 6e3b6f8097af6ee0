"""The manifest: what is read, and what is refused with place and remedy."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.problem import Problem, Violation
from marketplace.catalog.manifest import (
    MAX_BYTES,
    Manifest,
    known_task_like,
    manifest_json_schema,
    parse_manifest,
    read_replaces,
)
from marketplace.catalog.yamldoc import load_yaml
from tests.marketplace.catalog.support import MANIFEST, PYTHON_MANIFEST


def refused(text: str | bytes) -> tuple[Violation, ...]:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Problem) as caught:
        parse_manifest(data)
    assert (caught.value.code, caught.value.status) == ("manifest-invalid", 422)
    return caught.value.violations


def changed(old: str, new: str, manifest: str = MANIFEST) -> str:
    assert old in manifest
    return manifest.replace(old, new)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1.0", "1.0.0"),
        ("1", "1.0.0"),
        ("1.10", "1.10.0"),
        ("2.1.0-beta.1", "2.1.0-beta.1"),
        ("'1.0'", "1.0.0"),
    ],
)
def test_a_version_is_read_as_it_was_written(written: str, number: str) -> None:
    assert parse_manifest(changed("1.0", written).encode()).version == number


def test_the_seed_s_access_and_pricing_are_read() -> None:
    manifest = parse_manifest(
        (
            MANIFEST + "access:\n  public: false\n  auth_required: true\n  allow_list:\n"
            "    - 0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed # an agent\n"
            "pricing:\n  per_request_fee: 0.25 IFM\n"
            "  payout_address: 0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359\n"
            "expires_at: 1720600000\n"
        ).encode()
    )
    assert manifest.access.allow_list == ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",)
    assert (manifest.access.public, manifest.access.auth_required) == (False, True)
    assert manifest.pricing.fee_base_units == 250_000_000_000_000_000
    assert manifest.pricing.payout_address == "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
    assert manifest.expires_at == datetime(2024, 7, 10, 8, 26, 40, tzinfo=UTC)


def test_resources_are_quantities() -> None:
    text = MANIFEST + "resources: {cpu: 500m, memory: 4Gi, gpu: 1}\n"
    resources = parse_manifest(text.encode()).resources
    assert (resources.cpu_millicores, resources.memory_bytes, resources.gpu) == (500, 4 << 30, 1)


def test_a_tensor_s_place_defaults_to_its_name_and_null_is_a_default() -> None:
    text = changed(
        "[{name: text, dtype: BYTES, shape: []}]",
        "[{name: a/b, dtype: BYTES, shape: [], default: null}]",
    )
    (spec,) = parse_manifest(text.encode()).tensors.inputs  # type: ignore[union-attr]
    assert (spec.pointer, spec.has_default, spec.default) == ("/a~1b", True, None)


def test_the_normalised_manifest_reads_back_as_itself() -> None:
    manifest = parse_manifest((MANIFEST + "expires_at: 2030-01-01T00:00:00+02:00\n").encode())
    document = manifest.as_document()
    assert Manifest.model_validate(document) == manifest
    assert document["version"] == "1.0.0"
    assert document["expires_at"] == "2029-12-31T22:00:00Z"


@pytest.mark.parametrize(
    ("old", "new", "pointer", "line", "words"),
    [
        ("license: MIT", "licence: MIT", "/licence", 4, "Did you mean 'license'?"),
        ("runtime: onnx", "runtime: onyx", "/runtime", 7, "Did you mean 'onnx'?"),
        ("license: MIT\n", "", "/license", 1, "Add `license: …`."),
        ("tags: [text]", "tags: [Text]", "/tags/0", 5, "lower-case"),
        ("tags: [text]", "tags: [a, a]", "/tags", 5, "twice"),
        ("version: 1.0", "version: 01.0", "/version", 2, "semantic version"),
        ("version: 1.0", "version: 1.0.0+b1", "/version", 2, "Build metadata"),
        ("name: echo-text", "name: Echo_Text", "/name", 1, "not a model name"),
        ("shape: []}]\n  out", "shape: [0]}]\n  out", "/tensors/inputs/0/shape", 9, "-1 for any"),
        (
            "dtype: BYTES, shape: []}]\n  out",
            "dtyp: BYTES, shape: []}]\n  out",
            "/tensors/inputs/0/dtyp",
            9,
            "'dtype'",
        ),
        (
            "{type: string, maxLength: 200}",
            "{type: strng}",
            "/input_schema/properties/text/type",
            15,
            "strng",
        ),
        ("{text: hello}", "{text: 3}", "/examples/0/input/text", 22, "input schema"),
        ("{echo: hello}", "{echo: 3}", "/examples/0/output/echo", 23, "output schema"),
        ("license: MIT", "license: MIT\nexpires_at: soon", "/expires_at", 5, "unix seconds"),
        (
            "license: MIT",
            "license: MIT\npricing: {per_request_fee: -1}",
            "/pricing/per_request_fee",
            5,
            "amount",
        ),
        ("license: MIT", "license: MIT\nport: 80", "", 1, "runtime container"),
        (
            "license: MIT",
            "license: MIT\ncontainer: oci://a.example/b:latest",
            "/container",
            5,
            "digest",
        ),
        ("runtime: onnx", "runtime: python", "", 1, "has no tensors"),
        (
            "license: MIT",
            "license: MIT\naccess: {auth_required: false, "
            "allow_list: [0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed]}",
            "/access",
            5,
            "auth_required: true",
        ),
        ("license: MIT", "license: MIT\nexamples: []", "/examples", 22, "twice"),
    ],
)
def test_an_error_names_place_line_and_remedy(
    old: str, new: str, pointer: str, line: int, words: str
) -> None:
    first = refused(changed(old, new))[0]
    assert (first.pointer, first.line) == (pointer, line)
    assert words in f"{first.detail} {first.remedy}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", "anchor"),
        ("a: *x\n", "alias"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("a: !!str 1\n", "tag"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("? [a]\n: 1\n", "key"),
        ("a: [1\n", "not YAML"),
        ("- a\n", "mapping"),
        ("", "empty"),
        ('a: "\\0"\n', "NUL"),
        ('a: "\\ud800"\n', ""),
        ("a: " + "[" * 100 + "]" * 100 + "\n", "64 levels"),
        ("input_schema: {a: " + "9" * 5000 + "}\n", "40 characters"),
        ("input_schema: {a: 1e999}\n", "beyond"),
    ],
)
def test_yaml_that_is_ambiguous_or_active_is_refused(text: str, words: str) -> None:
    assert words in refused(text)[0].detail


def test_an_integer_that_no_call_can_carry_is_read_as_a_call_reads_it() -> None:
    numbers = load_yaml(b"[18446744073709551615, 18446744073709551616, -9]", max_bytes=99).value
    assert [(type(number), number) for number in numbers] == [
        (int, 2**64 - 1),
        (float, 2.0**64),
        (int, -9),
    ]


def test_ten_megabytes_are_refused_at_once() -> None:
    started = time.monotonic()
    (violation,) = refused(b"a: b\n" * 2_000_000)
    assert f"at most {MAX_BYTES}" in violation.detail
    assert time.monotonic() - started < 1


def test_a_quarter_megabyte_of_brackets_is_refused_at_once() -> None:
    started = time.monotonic()
    refused(b"a: " + b"[" * (MAX_BYTES - 3))
    assert time.monotonic() - started < 1


def test_text_that_is_not_utf8_names_its_line() -> None:
    assert refused(b"a: b\nc: \xff\n")[0].line == 2


@given(st.lists(st.sampled_from(["name", "version", "x", "y", "z"]), min_size=1, max_size=6))
def test_a_repeated_key_is_refused_wherever_it_stands(keys: list[str]) -> None:
    violations = refused("input_schema:\n" + "".join(f"  {key}: v\n" for key in keys))
    repeated = next((n for n, key in enumerate(keys) if key in keys[:n]), None)
    found = [(v.pointer, v.line) for v in violations if "twice" in v.detail]
    expected = [] if repeated is None else [(f"/input_schema/{keys[repeated]}", repeated + 2)]
    assert found == expected


def test_the_published_schema_accepts_what_the_reader_accepts() -> None:
    schema = manifest_json_schema()
    validator = jsonschema_rs.Draft202012Validator(schema)
    document = parse_manifest(MANIFEST.encode()).as_document()
    assert validator.is_valid(document)
    assert validator.is_valid({**document, "version": 1.0})
    assert not validator.is_valid({**document, "licence": "MIT"})
    assert {"name", "version", "license", "input_schema"} <= set(schema["required"])


def test_a_python_entrypoint_is_file_and_class() -> None:
    manifest = parse_manifest((PYTHON_MANIFEST + "entrypoint: a/b.py:Sum\n").encode())
    assert (manifest.entry_file, manifest.entry_class) == ("a/b.py", "Sum")
    assert "file and class" in refused(PYTHON_MANIFEST + "entrypoint: ../b.py:Sum\n")[0].detail


def test_a_streaming_model_s_examples_are_lists_of_pieces() -> None:
    streaming = PYTHON_MANIFEST + "streaming: true\n"
    assert "list of its pieces" in refused(streaming)[0].detail
    pieces = streaming.replace("output: {echo: hello}", "output: [{echo: hel}, {echo: 5}]")
    (violation,) = refused(pieces)
    assert violation.pointer == "/examples/0/output/1/echo"
    assert parse_manifest(pieces.replace("echo: 5", "echo: lo").encode()).streaming
    assert "not to onnx" in refused(MANIFEST + "streaming: true\n")[0].detail


def test_what_is_replaced_is_a_version_or_a_model() -> None:
    assert read_replaces("1.0") == (None, "1.0.0")
    assert read_replaces("echo-text") == ("echo-text", None)
    assert read_replaces("echo-text@2") == ("echo-text", "2.0.0")


def test_a_misspelt_task_is_noticed() -> None:
    assert known_task_like("summarisation") == "summarization"
    assert known_task_like("summarization") is None
    assert known_task_like("protein-folding") is None
