"""The checks themselves: each looks at the bytes or at the loaded model and says what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from inframind.lib.cid import parse_cid
from inframind.lib.problem import Problem
from inframind.storage import errors
from inframind.storage.packages import StoredFile, StoredPackage
from marketplace.catalog import answers, generation, intake, packages, schemas, trial
from marketplace.catalog.manifest import Manifest
from marketplace.catalog.models import Check, Version

MIN_GENERATED = 25
_DRAWN = 40
_GENERATION_TIMEOUT_SECONDS = 30.0
_BEAT_SECONDS = 20.0

Kind = Check.Kind
Beat = Callable[[], None]


@dataclass(frozen=True)
class Result:
    """What one check found; ``remedy`` is for the owner."""

    kind: Check.Kind
    passed: bool
    detail: str = ""
    remedy: str = ""
    code: str = ""
    cases_total: int = 0
    cases_passed: int = 0
    duration_ms: int = 0
    node_name: str = ""

    def reason(self) -> str:
        """What the owner reads: what failed, and what to do."""
        detail = self.detail if self.detail.endswith((".", "!", "?")) else f"{self.detail}."
        return f"{self.kind.label}: no. {detail} {self.remedy}".strip()


def results(version: Version, *, beat: Beat) -> Iterator[Result]:
    """Runs check after check, cheapest first; stop asking after a decisive failure.

    ``beat()`` is called while a check takes long. Raises TrialFailure when the fault lies with the
    node or the store, so that the run should be tried again.
    """
    beat = _sparingly(beat)
    yield from _check_package(version, beat)
    declared = Manifest.model_validate(version.manifest)
    started = time.monotonic()
    try:
        lent = trial.lend(version)
        with lent as session:
            yield Result(
                Kind.LOAD,
                True,
                f"Loaded on {session.node_name}.",
                cases_total=1,
                cases_passed=1,
                duration_ms=session.load_duration_ms,
                node_name=session.node_name,
            )
            yield _check_examples(version, declared, session, beat)
            drawn = _draw(version, declared)
            yield _check_generated(version, declared, session, drawn, beat)
            yield _check_structured(declared)
            if declared.privacy:
                yield _check_privacy(declared, session)
    except trial.TrialFailure as failure:
        if failure.retry:
            raise
        yield Result(
            Kind.LOAD,
            False,
            failure.detail,
            failure.remedy,
            failure.code,
            cases_total=1,
            duration_ms=_ms(started),
        )


def _registered_files(version: Version) -> tuple[StoredFile, ...]:
    """The files that were registered, sorted by path."""
    return tuple(StoredFile(f["path"], f["cid"], f["size_bytes"]) for f in version.files)


def _check_package(version: Version, beat: Beat) -> Iterator[Result]:
    """Bytes and manifest, of a package that is opened once for both."""
    started = time.monotonic()
    try:
        with packages.opened(version) as package:
            yield _check_bytes(version, package, started, beat)
            yield _check_manifest(version, package)
    except (errors.HashMismatch, errors.ContentNotFound) as error:
        # A sealed package shows in being opened that it is damaged.
        yield _bytes_result(version, 0, str(error), started)
    except errors.StoreUnavailable as error:
        raise trial.TrialFailure("store-unavailable", str(error), retry=True) from error


def _check_bytes(version: Version, package: packages.Opened, started: float, beat: Beat) -> Result:
    sound, detail = 0, ""
    try:
        stored = package.files()
        if stored != _registered_files(version):
            detail = "The files under this CID are not those that were registered."
        for file in stored:
            size_bytes = 0
            for piece in package.open_file(file):
                size_bytes += len(piece)
                beat()
            if size_bytes != file.size_bytes:
                detail = f"{file.path!r} has {size_bytes} bytes, not {file.size_bytes}."
                break
            sound += 1
    except (errors.HashMismatch, errors.ContentNotFound) as error:
        detail = str(error)
    return _bytes_result(version, sound, detail, started)


def _bytes_result(version: Version, sound: int, detail: str, started: float) -> Result:
    total = len(version.files)
    hashed = f"Every block of {version.cid} was hashed"
    if version.package_key_id:
        hashed += f", and it opens to {version.content_cid}"
    return Result(
        Kind.HASH,
        not detail,
        detail or f"{hashed}.",
        "Publish the same package again: that repairs the stored copy.",
        "hash-failed",
        total,
        min(sound, total),
        _ms(started),
    )


def _check_manifest(version: Version, opened: packages.Opened) -> Result:
    started = time.monotonic()
    package = StoredPackage(version.content_cid, version.size_bytes, _registered_files(version))
    try:
        taken = intake.read_in(package, opened)
    except Problem as problem:
        if problem.code == "store-unavailable":
            raise trial.TrialFailure(problem.code, problem.detail, retry=True) from problem
        return Result(
            Kind.MANIFEST, False, problem.detail, problem.remedy, problem.code, 1, 0, _ms(started)
        )
    written = taken.manifest
    agrees = written.name in ("", version.model_id) and written.version in ("", version.number)
    return Result(
        Kind.MANIFEST,
        agrees,
        "" if agrees else f"The package says {written.name}@{written.version}.",
        "Publish it under the name and number that it declares.",
        "manifest-failed",
        1,
        int(agrees),
        _ms(started),
    )


def _draw(version: Version, declared: Manifest) -> list[Any]:
    """Inputs for the schema, the same for the same bytes; at least 25 unless there are none."""
    seed = int.from_bytes(parse_cid(version.content_cid).digest[:8], "big")
    validator = schemas.Validator(declared.input_schema)
    drawn = generation.generate(
        prepared_for_tensors(declared),
        count=_DRAWN,
        seed=seed,
        timeout_seconds=_GENERATION_TIMEOUT_SECONDS,
    )
    distinct: dict[bytes, Any] = {}
    for document in drawn:
        if validator.is_valid(document):
            distinct.setdefault(answers.key(document), document)
    return list(distinct.values())


def prepared_for_tensors(declared: Manifest) -> dict[str, Any]:
    """The input schema, with the encodings that only ``tensors`` tells of made known to it."""
    schema = declared.input_schema
    if declared.tensors is None:
        return schema
    properties = dict(schema.get("properties") or {})
    for spec in declared.tensors.inputs:
        part = properties.get(spec.pointer.removeprefix("/"))
        if spec.encoding == "base64" and isinstance(part, dict):
            properties[spec.pointer.removeprefix("/")] = {"contentEncoding": "base64", **part}
    return {**schema, "properties": properties} if properties else schema


def _check_examples(
    version: Version, declared: Manifest, session: trial.TrialSession, beat: Beat
) -> Result:
    cases = [
        answers.Case(
            example.name or f"Example {index}",
            example.input,
            example.output,
            True,
            example.tolerance.absolute,
            example.tolerance.relative,
        )
        for index, example in enumerate(declared.examples, 1)
    ]
    if not cases:
        return Result(Kind.EXAMPLES, True, "The manifest declares no examples.")
    return _hold(
        Kind.EXAMPLES,
        cases,
        len(cases),
        version,
        declared,
        session,
        beat,
        "Mend the model or the example, and publish under the next number.",
    )


def _check_generated(
    version: Version,
    declared: Manifest,
    session: trial.TrialSession,
    drawn: list[Any],
    beat: Beat,
) -> Result:
    if not drawn:
        return Result(
            Kind.GENERATED,
            False,
            "No input could be generated from input_schema.",
            "Make the schema simpler: few combinations of allOf, anyOf and patterns, and no part "
            "that allows nothing.",
            "nothing-generated",
            MIN_GENERATED,
            0,
        )
    # A schema with few inputs, such as a boolean, has them repeated: the model must still answer.
    rounds = [drawn[index % len(drawn)] for index in range(max(MIN_GENERATED, len(drawn)))]
    cases = [answers.Case(f"Input {answers.shown(document)}", document) for document in rounds]
    return _hold(
        Kind.GENERATED,
        cases,
        len(drawn),
        version,
        declared,
        session,
        beat,
        "Answer every input that input_schema allows, or narrow the schema.",
    )


def _hold(
    kind: Check.Kind,
    cases: list[answers.Case],
    distinct: int,
    version: Version,
    declared: Manifest,
    session: trial.TrialSession,
    beat: Beat,
    remedy: str,
) -> Result:
    started = time.monotonic()
    validator = schemas.validator_for(f"{version.cid}:output", declared.output_schema)
    passed, fault = answers.hold(cases, validator, session, streaming=declared.streaming, beat=beat)
    few = f", {distinct} of them distinct" if distinct < len(cases) else ""
    return Result(
        kind,
        passed == len(cases),
        fault.detail or f"{len(cases)} inputs{few}, on {session.node_name}.",
        fault.remedy or remedy,
        fault.code,
        len(cases),
        passed,
        _ms(started),
    )


def _check_structured(declared: Manifest) -> Result:
    schema = declared.output_schema
    named = schema.get("properties")
    passed = schema.get("type") == "object" and isinstance(named, dict) and bool(named)
    detail = (
        f"An object with {', '.join(sorted(named)[:8])}."
        if passed and named
        else "output_schema is not an object with named properties."
    )
    return Result(
        Kind.STRUCTURED,
        passed,
        detail,
        "Return an object with named properties.",
        cases_total=1,
        cases_passed=int(passed),
    )


def _check_privacy(declared: Manifest, session: trial.TrialSession) -> Result:
    offered = [runtime for runtime in declared.privacy if session.offers_privacy(runtime)]
    missing = [runtime for runtime in declared.privacy if runtime not in offered]
    return Result(
        Kind.PRIVACY,
        not missing,
        f"No node offers {', '.join(missing)} now."
        if missing
        else f"Offered: {', '.join(offered)}.",
        "It is checked again with the next verification.",
        cases_total=len(declared.privacy),
        cases_passed=len(offered),
    )


def _sparingly(beat: Beat) -> Beat:
    last = time.monotonic()

    def maybe() -> None:
        nonlocal last
        if time.monotonic() - last >= _BEAT_SECONDS:
            last = time.monotonic()
            beat()

    return maybe


def _ms(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
