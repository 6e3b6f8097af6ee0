"""Groups of commands, and a help that says which belong together."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from inframind.cli import terminal

ACCOUNT = "Account"
MODELS = "Models"
CALLING = "Calling"
NODES = "Nodes"
MONEY = "Money"


class Panels(TyperGroup):
    """A group whose help lists its commands under their panels, without rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes one section a panel, in the order in which the commands were added."""
        shown = [(name, each) for name, each in self.commands.items() if not each.hidden]
        width = max(len(name) for name, _ in shown)
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in shown:
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            words = command.get_short_help_str(formatter.width - 6 - width)
            # Padded, so that the words of all panels begin in one column.
            panels.setdefault(panel, []).append((name.ljust(width), words))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def group(name: str) -> typer.Typer:
    """A group of commands; called alone it shows its help, see ``show_help``."""
    return typer.Typer(name=name, invoke_without_command=True, rich_markup_mode=None)


def show_help(context: typer.Context) -> None:
    """Shows the group's help where no command of it was named."""
    if context.invoked_subcommand is None:
        terminal.out(context.get_help())
