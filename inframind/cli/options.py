"""Options that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from inframind.cli import completion, refusal
from inframind.lib import semver
from inframind.lib.amounts import format_ifm, parse_ifm
from inframind.lib.durations import parse_duration

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Results as JSON on stdout, errors as a problem document on stderr."
    ),
]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never ask a question.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="The model.",
        show_default=False,
        autocompletion=completion.model_names,
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The model.", show_default=False, autocompletion=completion.model_names
    ),
]
NameOption = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The model, as an option.",
        show_default=False,
        autocompletion=completion.model_names,
    ),
]
VersionOption = Annotated[
    str,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="A version; without it, the current one.",
        show_default=False,
    ),
]


def model_and_version(argument: str, name: str, version: str) -> tuple[str, str]:
    """The name and the strict version (empty for the current one) that three ways of saying give.

    Raises Refusal (exit 2) when none or contradicting ones are given.
    """
    if argument and name and argument.partition("@")[0] != name:
        raise refusal.usage(f"Two models are named, {argument!r} and {name!r}.", "Name one.")
    said, at, number = (argument or name).partition("@")
    if not said:
        raise refusal.usage("No model is named.", "Name one, like summarizer-v1.")
    if at and not number:
        raise refusal.usage("No version follows the @.", f"Write {said}@1.0.0, or {said} alone.")
    numbers = {strict_version(each) for each in (number, version) if each}
    if len(numbers) > 1:
        raise refusal.usage(f"Two versions are named, {number!r} and {version!r}.", "Name one.")
    return said, numbers.pop() if numbers else ""


def strict_version(text: str) -> str:
    """``1.0`` becomes ``1.0.0``; raises Refusal (exit 2) for what is no semantic version."""
    try:
        return semver.normalize(text)
    except ValueError as error:
        raise refusal.usage(str(error)) from error


def duration(text: str, option: str) -> timedelta:
    """``24h`` as a duration; raises Refusal (exit 2) with the accepted forms."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise refusal.usage(f"{option}: {error}.") from None


def amount(text: str, option: str) -> str:
    """``5IFM`` as ``5 IFM``; raises Refusal (exit 2) with the accepted forms."""
    try:
        return format_ifm(parse_ifm(text))
    except ValueError as error:
        raise refusal.usage(f"{option}: {error}") from error
