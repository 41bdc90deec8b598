"""How verbs explain themselves: options with plain words for what they take, lists of verbs with whole sentences."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperGroup, TyperOption

_WORDS: Final = {"str": "TEXT", "path": "PATH", "int": "N", "float": "N"}


def explained(command: Any, ctx: Any) -> Any:
    """The command, with what typer would print of Python's types and cut off in the midst of a sentence put right."""
    for option in command.params:
        if isinstance(option, TyperOption) and option.metavar is None and not option.is_flag:
            option.metavar = _word(option.display_type(ctx))
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            each.short_help = each.short_help or _first_sentence(each.help or "")
            explained(each, ctx)
    return command


def _word(shown: str) -> str:
    """`<list[Path]>` is PATH; choices stay as they are, without their brackets."""
    kind = shown.strip("<>").removeprefix("list[").removesuffix("]").removesuffix(" range")
    return _WORDS.get(kind.lower(), kind)


def _first_sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".") + "."
