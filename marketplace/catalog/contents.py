"""Which files a package may hold: nothing that runs when opened, all that its runtime needs."""

from __future__ import annotations

import mmap
import pickletools
import posixpath
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

from inframind.storage.errors import PackageRejected
from inframind.storage.packages import StoredFile
from marketplace.catalog.manifest import FILE_NAME, Manifest
from marketplace.catalog.onnxgraph import NotOnnx, OnnxOutline, outline

HEAD_BYTES: Final = 64 << 10
MAX_ARCHIVE_ENTRIES: Final = 10_000
MAX_SOURCE_BYTES: Final = 1 << 20

Opener = Callable[[StoredFile], Iterator[bytes]]

_PICKLES: Final = (
    ".pkl", ".pickle", ".pck", ".pcl", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".cloudpickle",
    ".mar",
)  # fmt: skip
_MACHINE_CODE: Final = (
    ".so", ".dll", ".dylib", ".pyd", ".exe", ".pyc", ".pyo", ".o", ".a", ".class", ".jar", ".com",
)  # fmt: skip
_MACHO: Final = (
    b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf", b"\xbe\xba\xfe\xca", b"\xbf\xba\xfe\xca",
)  # fmt: skip
# Opcodes that import or call; a pickle of plain data has none, and is refused by its header.
_ACTIVE_OPCODES: Final = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "PERSID",
     "BINPERSID", "EXT1", "EXT2", "EXT4"}
)  # fmt: skip


def locate_manifest(files: Iterable[StoredFile]) -> None:
    """Raises PackageRejected, saying where it may be instead, when there is no manifest on top."""
    paths = [file.path for file in files]
    if FILE_NAME in paths:
        return
    remedy = f"Put {FILE_NAME} at the top of the package."
    for path in paths:
        folder, _, base = path.rpartition("/")
        if base.lower() in (FILE_NAME, "model.yml"):
            remedy = (
                f"{path!r} looks like it: rename it to {FILE_NAME}."
                if not folder
                else f"It is at {path!r}: pack from inside, as in `tar -C {folder} -cf … .`."
            )
            break
    raise PackageRejected("no_manifest", f"The package has no {FILE_NAME}.", remedy)


def check_contents(manifest: Manifest, files: Iterable[StoredFile], open_file: Opener) -> None:
    """Holds every file against the rules; ``open_file(file)`` streams one.

    Raises PackageRejected with the member, what is wrong with it and what to do.
    """
    by_path = {file.path: file for file in files}
    for file in by_path.values():
        _check_name(file.path, manifest.runtime)
    for file in by_path.values():
        _check_head(file, _head(open_file(file)), open_file)
    _check_entry(manifest, by_path)
    if manifest.runtime == "onnx":
        for path, file in by_path.items():
            if path.lower().endswith(".onnx"):
                found = _outline(file, open_file)
                _check_external(path, found, by_path)
                if path == manifest.entry_file:
                    _check_tensor_names(manifest, found)


def _check_name(path: str, runtime: str) -> None:
    lowered = path.lower()
    if posixpath.basename(lowered) == "config.pbtxt":
        raise PackageRejected(
            "server_config",
            f"{path!r} would configure a node's server.",
            f"Remove it; the configuration is generated from {FILE_NAME}.",
            path,
        )
    if lowered.endswith(_PICKLES):
        raise _pickle(path, "its name says so")
    if lowered.endswith(_MACHINE_CODE) or ".so." in posixpath.basename(lowered):
        raise _machine_code(path, "its name says so")
    if runtime == "onnx" and lowered.endswith((".py", ".pyw")):
        raise PackageRejected(
            "code_in_onnx",
            f"{path!r} is code, and runtime onnx ships none.",
            "Remove it, or publish with runtime: python, which is reviewed first.",
            path,
        )


def _check_entry(manifest: Manifest, files: dict[str, StoredFile]) -> None:
    entry = manifest.entry_file
    if not entry:
        return
    if entry not in files:
        raise PackageRejected(
            "no_entrypoint",
            f"The package has no {entry!r}, which runtime {manifest.runtime} starts from.",
            f"Add it, or name another file under entrypoint in {FILE_NAME}.",
            entry,
        )
    if files[entry].size_bytes == 0:
        raise PackageRejected("no_entrypoint", f"{entry!r} is empty.", "Pack it again.", entry)
    if manifest.runtime == "python" and files[entry].size_bytes > MAX_SOURCE_BYTES:
        raise PackageRejected(
            "source_too_large",
            f"{entry!r} has more than {MAX_SOURCE_BYTES} bytes; nobody reviews that.",
            "Move data into files of their own.",
            entry,
        )


def _head(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return head[:HEAD_BYTES]


def _check_head(file: StoredFile, head: bytes, open_file: Opener) -> None:
    path = file.path
    if head.startswith((b"\x7fELF", b"!<arch>\n", *_MACHO)):
        raise _machine_code(path, "it begins like one")
    if head.startswith(b"MZ"):
        header = int.from_bytes(head[60:64], "little")
        if head[header : header + 4] == b"PE\0\0" or header + 4 > len(head):
            raise _machine_code(path, "it begins like one")
    if head.startswith(b"\x93NUMPY") and b"|O" in head[:1024]:
        raise _pickle(path, "it is a NumPy file of Python objects")
    if head.startswith(b"PK\x03\x04"):
        _check_archive(file, open_file)
    elif looks_like_pickle(head):
        raise _pickle(path, "its content reads as one")


def looks_like_pickle(head: bytes) -> bool:
    """Says whether bytes, perhaps cut off, are a pickle; random bytes and text are not."""
    binary = len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5
    count, active, stopped = 0, False, False
    try:
        for opcode, argument, _ in pickletools.genops(head):
            count += 1
            active = active or opcode.name in _ACTIVE_OPCODES
            if binary and (opcode.name == "FRAME" and count == 2 and (argument or 0) < 1 << 40):
                return True
            stopped = opcode.name == "STOP"
    except (ValueError, OverflowError, UnicodeError, EOFError, IndexError):
        # Cut off at the head's end, or never a pickle: the opcodes so far decide.
        return (binary and count >= 4) or (active and count >= 4 and len(head) == HEAD_BYTES)
    return stopped and (binary or (active and count >= 4))


def _check_archive(file: StoredFile, open_file: Opener) -> None:
    path = file.path
    with _spooled(open_file(file)) as spool:
        try:
            with zipfile.ZipFile(spool) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError):
            return
    if len(entries) > MAX_ARCHIVE_ENTRIES:
        raise PackageRejected(
            "archive_too_large",
            f"{path!r} holds more than {MAX_ARCHIVE_ENTRIES} entries.",
            "Unpack it into the package, or leave it out.",
            path,
        )
    for entry in entries:
        if entry.filename.lower().endswith(_PICKLES):
            raise _pickle(path, f"it is an archive with {entry.filename[:80]!r} inside")
        if entry.filename.lower().endswith(_MACHINE_CODE):
            raise _machine_code(path, f"it is an archive with {entry.filename[:80]!r} inside")


def _outline(file: StoredFile, open_file: Opener) -> OnnxOutline:
    path = file.path
    with _spooled(open_file(file)) as spool:
        if spool.seek(0, 2) == 0:
            raise _not_onnx(path, "it is empty")
        with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                return outline(view)
            except NotOnnx as error:
                raise _not_onnx(path, str(error)) from None
            finally:
                view.release()


def _check_external(path: str, found: OnnxOutline, files: dict[str, StoredFile]) -> None:
    for location, offset, length in found.external:
        folder = posixpath.dirname(path)
        target = posixpath.normpath(posixpath.join(folder, location))
        if (
            not location
            or location.startswith("/")
            or "\\" in location
            or ":" in location
            or ".." in location.split("/")
            or target.startswith("..")
        ):
            raise PackageRejected(
                "external_data_escapes",
                f"{path!r} keeps weights at {location[:120]!r}, outside the package.",
                "Save the model with its external data beside it, under a plain file name.",
                path,
            )
        if target not in files:
            raise PackageRejected(
                "external_data_missing",
                f"{path!r} keeps weights in {target[:120]!r}, which the package does not hold.",
                "Add that file.",
                path,
            )
        if offset < 0 or length < 0 or offset + length > files[target].size_bytes:
            raise PackageRejected(
                "external_data_missing",
                f"{path!r} reads beyond the end of {target[:120]!r}.",
                "Export the model again; the weights file is cut off.",
                path,
            )


def _check_tensor_names(manifest: Manifest, found: OnnxOutline) -> None:
    tensors = manifest.tensors
    if tensors is None:
        return
    for role, declared, real in (
        ("input", [spec.name for spec in tensors.inputs], found.inputs),
        ("output", [spec.name for spec in tensors.outputs], found.outputs),
    ):
        unknown = [name for name in declared if name not in real]
        unfed = [name for name in real if name not in declared] if role == "input" else []
        if unknown or unfed:
            name = (unknown or unfed)[0][:80]
            raise PackageRejected(
                "tensor_names",
                f"{FILE_NAME} declares the {role} tensor {name!r}, which {manifest.entry_file!r} "
                "does not have."
                if unknown
                else f"{manifest.entry_file!r} wants the input tensor {name!r}, "
                f"which {FILE_NAME} does not declare.",
                f"The model's {role}s are: {', '.join(real[:20]) or 'none'}.",
                manifest.entry_file,
            )


def _spooled(pieces: Iterator[bytes]) -> IO[Any]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for piece in pieces:
            spool.write(piece)
        spool.flush()
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def _pickle(path: str, why: str) -> PackageRejected:
    return PackageRejected(
        "pickle",
        f"{path!r} is a pickle ({why}): opening one runs whatever it says.",
        "Save the weights as safetensors, .npy without objects, or ONNX.",
        path,
    )


def _machine_code(path: str, why: str) -> PackageRejected:
    return PackageRejected(
        "machine_code",
        f"{path!r} is a program or library ({why}).",
        "Leave it out; nodes bring their own libraries.",
        path,
    )


def _not_onnx(path: str, why: str) -> PackageRejected:
    return PackageRejected(
        "not_onnx", f"{path!r} is not an ONNX model: {why}.", "Export the model again.", path
    )
