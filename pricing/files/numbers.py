"""Numbers in files that people edit: decimal, and exactly what is written, or they stay text.

YAML would read `1e-400` as 0, `5.00000000000000001` as 5 and `0o17` as 15. Where a number is asked for, such a text is
refused with its own words; an amount of money is counted from it digit by digit.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.nodes import Node, ScalarNode


class _Constructor(RoundTripConstructor):
    def construct_non_recursive_object(self, node: Node, tag: str | None = None) -> Any:
        try:
            return super().construct_non_recursive_object(node, tag)
        except (ValueError, KeyError):  # month 13, or what only a tag calls a number
            raise ConstructorError(None, None, "there is no such date, time or number", node.start_mark) from None

    def flatten_mapping(self, node: Node) -> Any:
        merged = super().flatten_mapping(node)
        if not all(isinstance(table, CommentedMap) for table in merged):  # None: it is not complete yet, nor ever
            raise ConstructorError(None, None, "`<<` can merge other tables only, not itself", node.start_mark)
        return merged

    def construct_yaml_int(self, node: ScalarNode) -> Any:
        return _as_written(node.value, super().construct_yaml_int(node))

    def construct_yaml_float(self, node: ScalarNode) -> Any:
        return _as_written(node.value, super().construct_yaml_float(node))


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_yaml_float)


def reader() -> YAML:
    """A reader of whole texts that keeps places."""
    made = YAML(typ="rt")
    made.Constructor = _Constructor
    return made


def _as_written(text: str, value: float) -> float | str:
    """`value`, what YAML takes the text for, if that is what it says; words for infinities and NaN say so too."""
    try:
        return value if Decimal(text) == Decimal(repr(value)) else text
    except InvalidOperation:
        return value if isinstance(value, float) else text  # a number in another base
