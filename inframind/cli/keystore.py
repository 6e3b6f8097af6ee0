"""The wallet: an encrypted keystore file, or INFRA_PRIVATE_KEY, which wins. Never an option."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inframind.cli import refusal, settings, state
from inframind.cli.refusal import EXIT_NOT_ALLOWED, Refusal

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

KEY_VARIABLE: Final = "INFRA_PRIVATE_KEY"
PASSWORD_VARIABLE: Final = "INFRA_PASSWORD_FILE"  # noqa: S105 - the name of a variable
PASSWORD_MIN_CHARACTERS: Final = 8
_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_MAX_PASSWORD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet whose key is not unlocked: its address, and where the key is."""

    address: str
    source: str


def current() -> Wallet:
    """The wallet that would sign. Raises Refusal: exit 4 without any, exit 2 for a broken one."""
    if _private_key():
        return Wallet(account_of(_private_key(), KEY_VARIABLE).address, KEY_VARIABLE)
    path = settings.keystore_path()
    return Wallet(_address_in(_document_at(path), path), str(path))


def unlock(*, no_input: bool) -> LocalAccount:
    """The wallet, ready to sign; asks for the keystore's password. Raises Refusal."""
    if _private_key():
        return account_of(_private_key(), KEY_VARIABLE)
    path = settings.keystore_path()
    return opened(
        _document_at(path), str(path), password(f"Password of {path}: ", no_input=no_input)
    )


def account_of(key: str, source: str) -> LocalAccount:
    """The account of a private key, 64 hexadecimal digits. Raises Refusal, which hides the key."""
    if _KEY.fullmatch(key) is None:
        raise refusal.usage(
            f"{source} is not a private key.", "A private key is 0x and 64 hexadecimal digits."
        )
    try:
        account: LocalAccount = _accounts().from_key(bytes.fromhex(key.removeprefix("0x")))
    except Exception:
        # A number outside of the curve's order; whatever the library says of it could quote it.
        raise refusal.usage(f"{source} is not a private key of this curve.") from None
    return account


def opened(document: dict[str, Any], source: str, secret: str) -> LocalAccount:
    """The account inside a keystore. Raises Refusal for a wrong password or a damaged file."""
    try:
        key = _accounts().decrypt(document, secret)
    except ValueError as error:
        if "MAC mismatch" not in str(error):
            raise _damaged(source) from None
        raise refusal.failed(
            "wrong-password",
            f"This is not the password of {source}.",
            f"Try again, or look into the file that {PASSWORD_VARIABLE} names.",
        ) from None
    except (KeyError, TypeError, AttributeError, NotImplementedError, AssertionError):
        raise _damaged(source) from None
    return account_of(key.hex().removeprefix("0x"), source)


def keep(account: LocalAccount, secret: str) -> Path:
    """Writes a new keystore. Raises Refusal (exit 2) where there is one: it is never replaced."""
    path = settings.keystore_path()
    document = _accounts().encrypt(account.key, secret)
    try:
        state.write_private(path, json.dumps(document, indent=2) + "\n", new=True)
    except FileExistsError:
        raise exists(path) from None
    return path


def new_account() -> LocalAccount:
    """A wallet that nobody had before."""
    return account_of(secrets.token_bytes(32).hex(), "The new key")


def require_none() -> None:
    """Raises Refusal (exit 2) where there is a keystore already."""
    path = settings.keystore_path()
    if path.exists() or path.is_symlink():
        raise exists(path)


def exists(path: Path) -> Refusal:
    return refusal.usage(
        f"There is a wallet at {path}, and it is never overwritten: its key would be lost.",
        "Move that file to a safe place first, or name another one in the config file: "
        'keystore = "…"',
    )


def password(prompt: str, *, no_input: bool, confirm: bool = False) -> str:
    """From the file that INFRA_PASSWORD_FILE names, or asked without echo.

    With ``confirm`` it is a new one: asked twice, and refused when it is short. Raises Refusal.
    """
    secret = _password_of_file()
    if secret is None:
        if no_input or not _has_terminal():
            raise refusal.usage(
                "The keystore's password is needed, and nobody can be asked here.",
                f"Put it into a file that only you can read: export {PASSWORD_VARIABLE}=<file>",
            )
        secret = asked(prompt)
        if confirm:
            _require_long(secret)
            if asked("Once more: ") != secret:
                raise refusal.usage("The two passwords differ.", "Try again.")
    elif confirm:
        _require_long(secret)
    return secret


def _require_long(secret: str) -> None:
    if len(secret) < PASSWORD_MIN_CHARACTERS:
        raise refusal.usage(
            f"A password of a wallet has at least {PASSWORD_MIN_CHARACTERS} characters.",
            "A sentence of several words is a good one.",
        )


def asked(prompt: str) -> str:
    """A secret typed on the terminal without echo, whatever stdin and stdout are."""
    return getpass.getpass(prompt, stream=None)


def can_ask(*, no_input: bool) -> bool:
    """Whether a secret can be asked for."""
    return not no_input and _has_terminal()


def _has_terminal() -> bool:
    # getpass reads /dev/tty, so that a message may come in over stdin meanwhile.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin.isatty()
    return True


def _password_of_file() -> str | None:
    name = os.environ.get(PASSWORD_VARIABLE, "")
    if not name:
        return None
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PASSWORD_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise refusal.usage(f"{PASSWORD_VARIABLE}: {path} cannot be read: {why}.") from error
    return text.removesuffix("\n").removesuffix("\r")


def _private_key() -> str:
    return os.environ.get(KEY_VARIABLE, "").strip()


def _document_at(path: Path) -> dict[str, Any]:
    text = state.read_private(path)
    if text is None:
        raise no_wallet(path)
    return document_of(text, str(path))


def document_of(text: str, source: str) -> dict[str, Any]:
    """The keystore (version 3) that a text holds. Raises Refusal (exit 2)."""
    try:
        document = json.loads(text)
    except ValueError:
        raise _damaged(source) from None
    if not isinstance(document, dict) or document.get("version") != 3:
        raise _damaged(source)
    return document


def no_wallet(path: Path) -> Refusal:
    made = refusal.failed(
        "no-wallet",
        f"There is no wallet: {path} does not exist, and {KEY_VARIABLE} is not set.",
        "Make one with `infra wallet create`, or bring yours: infra wallet import",
    )
    return Refusal(made.document, EXIT_NOT_ALLOWED)


def _address_in(document: dict[str, Any], path: Path) -> str:
    from inframind.lib.addresses import checksum_address

    try:
        return checksum_address("0x" + str(document.get("address", "")).removeprefix("0x"))
    except ValueError:
        raise _damaged(str(path)) from None


def _damaged(source: str) -> Refusal:
    return refusal.usage(
        f"{source} is not a keystore that can be opened.",
        "It is a JSON file of version 3, as wallets export it.",
    )


def _accounts() -> Any:
    # Imported on first use, for it takes half a second; a library below it lifts Python's recursion
    # limit for the whole process, which is put back here.
    limit = sys.getrecursionlimit()
    from eth_account import Account

    sys.setrecursionlimit(limit)
    return Account
