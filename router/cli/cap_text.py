"""Changing a cap in the text of a policy file: only the bytes that must change, so comments and layout stay.

The YAML parser says where each value begins and ends; what is put in is one value or one line in flow style.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pricing.clock import US_PER_S

Edit = Callable[[str, MappingNode], str]
"""The text with a cap's entry changed."""


def edit_cap(text: str, line: int, edit: Edit) -> str:
    """Apply an edit to the cap that begins on a line, counted from 1. Raises ValueError when none begins there."""
    root: Any = YAML(typ="rt").compose(text)
    tenants = _value(root, "tenants")
    lists = [_value(tenant, "caps") for _, tenant in tenants.value] if isinstance(tenants, MappingNode) else []
    for caps in (*lists, _value(root, "caps")):
        for entry in caps.value if isinstance(caps, SequenceNode) else ():
            if entry.start_mark.line + 1 == line:
                return edit(text, entry)
    raise ValueError(f"no cap begins on line {line}; the file has changed meanwhile, try again")


def set_amount(amount: Decimal | str) -> Edit:
    """Give a cap another amount: dollars, or the word `unlimited`."""

    def edit(text: str, entry: MappingNode) -> str:
        old = _value(entry, "amount_usd")
        assert old is not None  # the file was loaded, so every cap has one
        return _put(text, old.start_mark.index, _plain(amount), until=old.end_mark.index)

    return edit


def add_raise(amount: Decimal, until_us: int) -> Edit:
    """Raise a cap to `amount` dollars until an instant."""
    until = datetime.fromtimestamp(until_us // US_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = f"{{amount_usd: {_plain(amount)}, until: {until}}}"

    def edit(text: str, entry: MappingNode) -> str:
        raises = _value(entry, "raises")
        if isinstance(raises, SequenceNode):
            return _add_item(text, raises, item)
        if entry.flow_style:
            return _put(text, _last_inside(text, entry), f", raises: [{item}]")
        amount_node = _value(entry, "amount_usd")
        assert amount_node is not None
        indent = " " * entry.value[0][0].start_mark.column
        return _put(text, _line_end(text, amount_node.end_mark.index), f"\n{indent}raises: [{item}]")

    return edit


def _add_item(text: str, items: SequenceNode, item: str) -> str:
    if items.flow_style:
        return _put(text, _last_inside(text, items), f", {item}" if items.value else item)
    line_start = text.rindex("\n", 0, items.value[0].start_mark.index) + 1
    indent = text[line_start : text.index("-", line_start)]
    return _put(text, line_start, f"{indent}- {item}\n")


def _value(node: Any, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _last_inside(text: str, node: Node) -> int:
    """Where the content of a `{…}` or `[…]` ends: before its bracket, spaces, and a comma that may trail."""
    inside = text[: node.end_mark.index - 1].rstrip()
    return len(inside.removesuffix(",").rstrip())


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _put(text: str, at: int, new: str, until: int | None = None) -> str:
    return text[:at] + new + text[at if until is None else until :]


def _plain(amount: Decimal | str) -> str:
    """A number without an exponent, which YAML readers disagree about; a word as it is."""
    return amount if isinstance(amount, str) else f"{amount.normalize():f}"
