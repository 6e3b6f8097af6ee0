"""Files of the user that hold secrets: in folders of theirs alone, replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from inframind.cli import refusal
from inframind.cli.terminal import err, styled

PRIVATE_FOLDER_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600
_FOLDER: Final = "infra"
# What is larger is no file that this command wrote.
_MAX_BYTES: Final = 1024 * 1024


def xdg(variable: str, default: str) -> Path:
    """``infra`` below an XDG base directory; ``default`` is relative to the home folder."""
    given = os.environ.get(variable, "")
    # The XDG rules say that a relative path there is to be ignored.
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / default
    return base / _FOLDER


def write_private(path: Path, text: str, *, new: bool = False) -> None:
    """Writes a file that only the user can read (0600, in a 0700 folder), in one step.

    With ``new``, raises ``FileExistsError`` where there is one already. Raises ``OSError``.
    """
    _private_folder(path)
    # mkstemp makes the file 0600 from its first moment on.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    making = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(making, path)
        else:
            making.replace(path)
    finally:
        with suppress(FileNotFoundError):
            making.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other commands from changing a file between our reading and writing it."""
    _private_folder(path)
    handle = os.open(
        path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, PRIVATE_FILE_MODE
    )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _private_folder(path: Path) -> None:
    path.parent.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    # A keystore may be configured to lie in a folder that is not ours to close.
    if path.parent.name == _FOLDER:
        path.parent.chmod(PRIVATE_FOLDER_MODE)


def read_private(path: Path) -> str | None:
    """The file's text, None where there is none; warns when others can read it.

    Raises Refusal (exit 2) for what cannot be read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        text = data.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise refusal.usage(f"{path} cannot be read: {why}.", "Mend it, or remove it.") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        err(f"{styled('Warning:', 'yellow')} others can read {path}: run chmod 600 {path}")
    return text
