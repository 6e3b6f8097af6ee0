"""docs/cli.md and the command tree say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from inframind.cli.main import app

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
EVERYWHERE = {"--json", "--no-input", "--help"}


def commands() -> dict[str, TyperCommand]:
    found: dict[str, TyperCommand] = {}

    def walk(group: TyperGroup, words: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                walk(command, f"{words} {name}")
            elif isinstance(command, TyperCommand):
                found[f"{words} {name}"] = command

    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    walk(root, "infra")
    return found


def sections() -> dict[str, str]:
    parts = re.split(r"^### `(infra [^`]+)`$", TEXT, flags=re.MULTILINE)
    # What introduces the next part belongs to no command.
    texts = (re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


def option_names(command: TyperCommand) -> set[str]:
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


def test_every_command_has_a_section_and_no_section_lacks_its_command() -> None:
    assert sections().keys() == commands().keys()


@pytest.mark.parametrize("words", commands())
def test_a_section_names_every_option_and_no_other(words: str) -> None:
    section = sections()[words]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    if words.startswith("infra model ") and words != "infra model list":
        named |= {"--name", "--version"} & option_names(commands()[words])
    assert named - EVERYWHERE == option_names(commands()[words]) - EVERYWHERE


@pytest.mark.parametrize("words", commands())
def test_every_command_takes_the_common_options(words: str) -> None:
    assert {"--json", "--no-input"} <= option_names(commands()[words])


def example_lines() -> list[str]:
    lines = [
        line
        for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
        for line in block.split("\n")
    ]
    return [line.partition("| infra ")[2] or line.removeprefix("infra ") for line in lines if line]


@pytest.mark.parametrize("line", example_lines())
def test_every_example_is_a_command_line_that_parses(line: str) -> None:
    words = shlex.split(line)
    length = max(n for n in range(len(words) + 1) if " ".join(["infra", *words[:n]]) in commands())
    command, rest = commands()[" ".join(["infra", *words[:length]])], words[length:]
    with command.make_context("infra", rest) as context:
        assert context.args == []


def test_every_command_has_an_example() -> None:
    without = [
        words for words, text in sections().items() if not re.search(rf"\n{words}[ \n]", text)
    ]
    assert without == []


def test_the_groups_of_the_help_are_those_of_the_document() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    panels = {name: getattr(each, "rich_help_panel", "") for name, each in root.commands.items()}
    parts = re.split(r"^## (Account|Models|Calling|Money|Nodes)$", TEXT, flags=re.MULTILINE)
    told = {
        words.split(" ")[1]: panel
        for panel, text in zip(parts[1::2], parts[2::2], strict=True)
        for words in re.findall(r"^### `(infra [^`]+)`$", text, flags=re.MULTILINE)
    }
    assert told == panels


@pytest.mark.parametrize("status", [0, 1, 2, 4, 130])
def test_the_exit_statuses_are_told(status: int) -> None:
    assert f"\n| {status} | " in TEXT
