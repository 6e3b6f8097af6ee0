"""The command tree, and the one place where failures become words and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from inframind.cli import account, grouping, refusal, terminal
from inframind.cli.balance import balance
from inframind.cli.call import call
from inframind.cli.deposits import deposit
from inframind.cli.groups import group_app
from inframind.cli.model import model_app
from inframind.cli.nodes import node_app
from inframind.cli.receipts import receipt_app
from inframind.cli.refusal import EXIT_INTERRUPTED, Refusal
from inframind.cli.register import register
from inframind.cli.rewards import rewards_app
from inframind.cli.tokens import token_app
from inframind.cli.wallet import wallet_app
from inframind.cli.withdrawals import withdraw

app = typer.Typer(
    name="infra",
    cls=grouping.Panels,
    invoke_without_command=True,
    # Plain help keeps its line breaks when piped, and starts without loading rich.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(wallet_app, rich_help_panel=grouping.ACCOUNT)
app.command("login", rich_help_panel=grouping.ACCOUNT)(account.login)
app.command("logout", rich_help_panel=grouping.ACCOUNT)(account.logout)
app.command("whoami", rich_help_panel=grouping.ACCOUNT)(account.whoami)
app.add_typer(token_app, rich_help_panel=grouping.ACCOUNT)
app.add_typer(model_app, rich_help_panel=grouping.MODELS)
app.command(
    "register",
    short_help="Publish a model and wait for its checks.",
    rich_help_panel=grouping.MODELS,
)(register)
app.add_typer(group_app, rich_help_panel=grouping.MODELS)
app.command("call", rich_help_panel=grouping.CALLING)(call)
app.add_typer(receipt_app, rich_help_panel=grouping.CALLING)
app.add_typer(node_app, rich_help_panel=grouping.NODES)
app.command("balance", rich_help_panel=grouping.MONEY)(balance)
app.command("deposit", rich_help_panel=grouping.MONEY)(deposit)
app.command("withdraw", rich_help_panel=grouping.MONEY)(withdraw)
app.command("usage", rich_help_panel=grouping.MONEY)(account.usage)
app.add_typer(rewards_app, rich_help_panel=grouping.MONEY)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("inframind")
        except PackageNotFoundError:
            number = "(a source tree that is not installed)"
        terminal.out(f"infra {number}")
        raise typer.Exit


@app.callback()
def infra(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Publish, verify and call models on the InfraMind mesh.

    \b
    First steps:
      infra model list                          what there is
      infra call --model summarizer-v1 text="A long text. It has two sentences."
      infra wallet create                       a wallet, or: infra wallet import
      infra login                               it signs a text, which is free
      infra deposit 2.5IFM                      calls are paid from your balance
      export INFRA_TOKEN=$(infra token generate --model summarizer-v1 --expires-in 24h)
      infra register --model model.yaml --name summarizer-v1 --version 1.0

    \b
    Environment:
      INFRA_URL            the server, like https://your.server (default http://127.0.0.1:8000)
      INFRA_TOKEN          a token; it wins over the login
      INFRA_PRIVATE_KEY    a wallet's key; it wins over the keystore
      INFRA_PASSWORD_FILE  a file with the keystore's password, where nobody can be asked
      INFRA_NODE_SECRET    the control secret of a node that you register
      INFRA_CHAIN_ID       the only chain that your wallet signs for
      INFRA_RPC_URL        an RPC of your own, which `infra rewards verify` asks for the root
      NO_COLOR             no colour
      XDG_CONFIG_HOME      infra/config.toml there may hold url = "…" and keystore = "…"

    Results go to stdout, messages to stderr; --json on any command gives both to programs. Tokens
    and keys are read from the environment, files and stdin, never from options.

    Exit status: 0 done, 1 failed, 2 wrong usage, 4 not signed in or not allowed.
    """
    if context.invoked_subcommand is None:
        terminal.out(context.get_help())


def run() -> NoReturn:
    """The console script: runs the command line and leaves with its exit status."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status; every failure is shown on stderr."""
    terminal.prepare()
    as_json = "--json" in arguments
    try:
        try:
            status = app(list(arguments), prog_name="infra", standalone_mode=False)
        except typer.TyperException as error:
            raise _usage(error) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise refusal.failed(
                "file-system", f"{error.filename or 'A file'}: {error.strerror}."
            ) from error
    except Refusal as problem:
        problem.show(as_json=as_json)
        return problem.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return refusal.EXIT_FAILED
    return status if isinstance(status, int) else 0


def _usage(error: typer.TyperException) -> Refusal:
    command = getattr(getattr(error, "ctx", None), "command_path", "infra")
    return refusal.usage(error.format_message(), f"{command} --help shows how it is used.")
