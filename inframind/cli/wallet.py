"""``infra wallet``: the key that signs you in and signs for your nodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inframind.cli import grouping, keystore, options, refusal
from inframind.cli.listing import show_rows
from inframind.cli.terminal import err, out_json, watched

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

wallet_app = grouping.group("wallet")
_MAX_FILE_BYTES = 1024 * 1024


@wallet_app.callback()
def wallet(context: typer.Context) -> None:
    """Make, import or show the wallet that signs you in.

    The key lies in an encrypted keystore file, or in INFRA_PRIVATE_KEY, which wins. It never leaves
    this machine: only signatures do.

    \b
    Examples:
      infra wallet create
      infra wallet import ./UTC--2026-keystore.json
      infra wallet show
    """
    grouping.show_help(context)


@wallet_app.command("create")
def create(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """Make a new wallet and keep it in an encrypted file.

    The password is asked for twice, or read from the file that INFRA_PASSWORD_FILE names. There is
    no way back to the key without it: keep a copy of file and password.

    \b
    Examples:
      infra wallet create
      INFRA_PASSWORD_FILE=./password infra wallet create --no-input
    """
    keystore.require_none()
    secret = keystore.password("Password for the new wallet: ", no_input=no_input, confirm=True)
    _keep(keystore.new_account(), secret, json_output=json_output)


@wallet_app.command("import")
def import_wallet(
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            help="A keystore, or a file with a private key; - for stdin; without it, "
            "INFRA_PRIVATE_KEY or a question.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Bring a wallet that you have: a keystore file, or a private key.

    A key is never an option, which others could see in the list of processes: it is read from a
    file, from stdin, from INFRA_PRIVATE_KEY, or asked for without echo. A keystore keeps its
    password.

    \b
    Examples:
      infra wallet import ./UTC--2026-keystore.json
      pass show ethereum | infra wallet import -
      infra wallet import
    """
    keystore.require_none()
    text, source = _given(file, no_input=no_input)
    if text.startswith("{"):
        document = keystore.document_of(text, source)
        secret = keystore.password(f"Password of {source}: ", no_input=no_input)
        _keep(keystore.opened(document, source, secret), secret, json_output=json_output)
        return
    account = keystore.account_of(text, source)
    secret = keystore.password("Password for the wallet: ", no_input=no_input, confirm=True)
    _keep(account, secret, json_output=json_output)


@wallet_app.command("show")
def show(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """Show the wallet's address and where its key is. Asks for no password.

    \b
    Examples:
      infra wallet show
      infra wallet show --json
    """
    found = keystore.current()
    if json_output:
        out_json({"address": found.address, "source": found.source})
    else:
        show_rows([("Address", found.address), ("Key in", found.source)])


def _given(file: str, *, no_input: bool) -> tuple[str, str]:
    if file == "-":
        return sys.stdin.read(_MAX_FILE_BYTES).strip(), "stdin"
    if file:
        path = Path(file).expanduser()
        try:
            with path.open("rb") as stream:
                return stream.read(_MAX_FILE_BYTES).decode("utf-8").strip(), str(path)
        except OSError as error:
            # Whoever writes the key itself there must not find it in an error message.
            raise refusal.usage(
                f"The file cannot be read: {error.strerror}.",
                "Name a file. A key itself is never an argument: infra wallet import asks for it.",
            ) from None
        except UnicodeDecodeError:
            raise refusal.usage(
                f"{path} is neither a keystore nor a private key.", "Name the right file."
            ) from None
    key = os.environ.get(keystore.KEY_VARIABLE, "").strip()
    if key:
        return key, keystore.KEY_VARIABLE
    if not keystore.can_ask(no_input=no_input):
        raise refusal.usage(
            "There is no key to import, and nobody can be asked here.",
            f"Name a file, pipe the key into `infra wallet import -`, or set "
            f"{keystore.KEY_VARIABLE}.",
        )
    return keystore.asked("Private key: ").strip(), "What was typed"


def _keep(account: LocalAccount, secret: str, *, json_output: bool) -> None:
    path = keystore.keep(account, secret)
    if json_output:
        out_json({"address": account.address, "source": str(path)})
        return
    show_rows([("Address", account.address), ("Key in", str(path))])
    if watched():
        err("Keep a copy of that file and of its password. Sign in with: infra login")
