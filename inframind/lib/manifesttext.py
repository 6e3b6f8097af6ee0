"""Taking `access.allow_list` out of the text of a `model.yaml`: policy is never part of a package.

The text is cut, not written anew: comments, order and spelling of everything else stay as they are.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BOM: Final = "\ufeff"
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\r\n]*)?(?:\r\n|\r|\n|\Z)")

_Entry = tuple[yaml.ScalarNode, yaml.Node]


class AllowListStays(ValueError):
    """The list cannot be cut out without touching anything else; the text says what to do."""


def without_allow_list(text: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Returns a manifest without its `access.allow_list`, and the addresses that stood there.

    Text that has no such list, or is no manifest for another reason, comes back as it is. An
    `access` that held nothing else becomes `{}`. Raises AllowListStays.
    """
    try:
        source = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text, ()
    root = _composed(source)
    access = _entry(root, "access")
    found = _entry(access[1], "allow_list") if access else None
    if access is None or found is None:
        return text, ()
    value = found[1]
    if not isinstance(value, yaml.SequenceNode) or not all(
        isinstance(item, yaml.ScalarNode) for item in value.value
    ):
        return text, ()
    if len(access[1].value) == 1:
        cut = _emptied(source, access)
    elif _is_flow(access[1]):
        cut = _cut_from_line(source, access[1], found)
    else:
        cut = _cut_lines(source, found)
    if _plain(_composed(cut)) != _without(_plain(root)):
        raise _stays()
    bom = _BOM if text.startswith(_BOM.encode()) else ""
    return (bom + cut).encode(), tuple(item.value for item in value.value)


def _composed(source: str) -> yaml.Node | None:
    """The one document as nodes with their places; None for anything else."""
    try:
        return yaml.compose(source, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError):
        return None


def _entry(node: yaml.Node | None, key: str) -> _Entry | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    found = [pair for pair in node.value if _is_text(pair[0]) and pair[0].value == key]
    if len(found) > 1:
        raise _stays()
    return found[0] if found else None


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _is_flow(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _emptied(source: str, access: _Entry) -> str:
    """``access: {}`` in the place of a mapping that holds the list alone."""
    key, value = access
    if _is_flow(value):
        return f"{source[: value.start_mark.index]}{{}}{source[value.end_mark.index :]}"
    colon = _skip(source, key.end_mark.index)
    if source[colon : colon + 1] != ":":
        raise _stays()
    cut = _cut_lines(source, value.value[0])
    return f"{cut[: colon + 1]} {{}}{cut[colon + 1 :]}"


def _cut_lines(source: str, entry: _Entry) -> str:
    """Without the lines of an entry of a block mapping."""
    start = source.rfind("\n", 0, entry[0].start_mark.index) + 1
    after = _REST_OF_LINE.match(source, _end(entry[1]))
    if source[start : entry[0].start_mark.index].strip(" ") or after is None:
        raise _stays()
    return source[:start] + source[after.end() :]


def _cut_from_line(source: str, mapping: yaml.Node, entry: _Entry) -> str:
    """Without an entry of a flow mapping, and without one of the commas beside it."""
    start, end = entry[0].start_mark.index, _end(entry[1])
    comma = _skip(source, end)
    if source[comma : comma + 1] == ",":
        after = comma + 1
        while source[after : after + 1] in (" ", "\t"):
            after += 1
        return source[:start] + source[end:comma] + source[after:]
    position = mapping.value.index(entry)
    if position == 0:
        raise _stays()
    comma = _skip(source, _end(mapping.value[position - 1][1]))
    if source[comma : comma + 1] != "," or comma > start:
        raise _stays()
    between = source[comma + 1 : start]
    return source[:comma] + (between if between.strip() else "") + source[end:]


def _skip(source: str, index: int) -> int:
    """Where something other than blanks and comments stands next."""
    found = _BLANK.match(source, index)
    return index if found is None else found.end()


def _end(node: yaml.Node) -> int:
    """Where a node's own text ends; a block's end mark lies behind the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or _is_flow(node) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _plain(node: yaml.Node | None) -> Any:
    """A node as values that compare: scalars with style and tag, since both carry meaning."""
    if isinstance(node, yaml.ScalarNode):
        return (node.tag, node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {"": [(_plain(key), _plain(value)) for key, value in node.value]}
    return None


def _without(plain: Any) -> Any:
    """The comparable document, without the list."""

    def is_key(pair: Any, key: str) -> bool:
        return bool(pair[0][1:] == (key,))

    return {
        "": [
            (key, {"": [pair for pair in value[""] if not is_key(pair, "allow_list")]})
            if is_key((key, value), "access")
            else (key, value)
            for key, value in plain[""]
        ]
    }


def _stays() -> AllowListStays:
    return AllowListStays(
        "access.allow_list cannot be taken out of model.yaml as it is written. An allow list is "
        "policy and never part of a package: remove it from model.yaml and give the addresses "
        "beside the package, or write it as a plain list of quoted addresses on lines of its own."
    )
