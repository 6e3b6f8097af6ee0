"""Which user a part runs as when the stack was started by root, and what that user can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

# No account has this number, so nothing on the machine belongs to publisher code.
SANDBOX_ID = 64_911


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group by number."""

    uid: int
    gid: int


SANDBOX = Account(SANDBOX_ID, SANDBOX_ID)


def is_root() -> bool:
    return os.geteuid() == 0


def unprivileged() -> Account | None:
    """The account for servers that refuse to run as root; None where we are not root."""
    if not is_root():
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def can_reach(path: Path, account: Account) -> bool:
    """Whether every folder on the way to ``path`` and itself may be entered by the account."""
    for folder in (path, *path.parents):
        mode = folder.stat()
        if mode.st_uid == account.uid:
            allowed = mode.st_mode & stat.S_IXUSR
        else:
            allowed = mode.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def own_folder(path: Path, account: Account | None, mode: int = 0o700) -> Path:
    """Make a folder that belongs to the account (to us without one).

    Raises PermissionError when somebody else made it first.
    """
    try:
        path.mkdir(mode=mode)
        if account is not None:
            os.chown(path, account.uid, account.gid)
        path.chmod(mode)
    except FileExistsError:
        found = path.lstat()
        owner = os.geteuid() if account is None else account.uid
        if found.st_uid != owner or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(
                f"{path} belongs to another user. Remove it, or start the stack as that user."
            ) from None
    return path


def short_name(path: Path) -> str:
    """A short stable name for a path, for folders that must lie elsewhere."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
