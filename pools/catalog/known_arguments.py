"""Which arguments an engine's releases know, and what each takes: `pools/catalog/engine_arguments.yaml` as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pools.fit.compatibility import version
from pools.spec import ArgValue
from pricing.files.document import parse_yaml
from pricing.files.validate import validate
from pricing.nearest import nearest


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Span(_Shape):
    since: str
    until: str | None = None
    arguments: list[str]


class _Kinds(_Shape):
    release: str
    switches: list[str]
    bare: list[str]
    several: list[str]


class _Engine(_Shape):
    releases: Annotated[list[str], Field(min_length=1)]
    spans: list[_Span]
    kinds: _Kinds | None = None


class _ArgumentsFile(_Shape):
    vllm: _Engine
    vllm_omni: Annotated[_Engine, Field(alias="vllm-omni")]


@dataclass(frozen=True, slots=True)
class KnownArguments:
    """Arguments of one engine by the releases that have them, without their leading dashes.

    What they take is known of one release: `switches` nothing, `bare` ones not even as `--no-`, `several` many words.
    """

    engine: str
    releases: tuple[str, ...]
    spans: Mapping[str, tuple[str, str | None]]  # argument -> first and last release read that has it
    switches: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    several: frozenset[str] = frozenset()
    valued: frozenset[str] = frozenset()

    def trouble(self, argument: str, release: str) -> str | None:
        """Why an argument cannot be given to a release; None where it can."""
        if argument not in self.spans:
            hint = self._hint(argument, release)
            return f"no release of {self.engine} that was read has an argument --{argument}{hint}"
        since, until = self.spans[argument]
        if version(release) < version(since):
            return f"--{argument} came with {self.engine} {since}, this pool runs {release}; raise engine_version"
        if until is not None and version(release) > version(until):
            return f"--{argument} was last seen in {self.engine} {until}, this pool runs {release}; take it out"
        return None

    def wants(self, argument: str, value: ArgValue) -> str | None:
        """What an argument takes, where that is something else; None where it is that, or not known."""
        if argument in self.bare and value is not True:
            return "a switch without a --no- form, true or left out"
        if argument in self.switches and not isinstance(value, bool):
            return "a switch, true or false"
        if argument in self.valued and isinstance(value, bool):
            return "given a value"
        return None

    def knows(self, argument: str, release: str) -> bool:
        return self.trouble(argument, release) is None

    def _hint(self, argument: str, release: str) -> str:
        return nearest(argument, [name for name in self.spans if self.knows(name, release)])


def known_arguments(engine: str) -> KnownArguments | None:
    """What is known of an engine's arguments; None for one whose command line is not ours to write."""
    return _known().get(engine)


@cache
def _known() -> Mapping[str, KnownArguments]:
    where = Path("pools", "catalog", "engine_arguments.yaml")
    text = (resources.files("pools") / "catalog" / where.name).read_text(encoding="utf-8")
    file = validate(parse_yaml(text, where), _ArgumentsFile)
    vllm = KnownArguments("vllm", tuple(file.vllm.releases), _spans(file.vllm))
    if file.vllm.kinds is not None:
        vllm = _with_kinds(vllm, file.vllm.kinds)
    omni = {**vllm.spans, **_spans(file.vllm_omni)}
    return {
        "vllm": vllm,
        "vllm-omni": replace(vllm, engine="vllm-omni", releases=tuple(file.vllm_omni.releases), spans=omni),
    }


def _spans(engine: _Engine) -> dict[str, tuple[str, str | None]]:
    return {name: (span.since, span.until) for span in engine.spans for name in span.arguments}


def _with_kinds(known: KnownArguments, kinds: _Kinds) -> KnownArguments:
    switches, bare, several = frozenset(kinds.switches), frozenset(kinds.bare), frozenset(kinds.several)
    there = frozenset(name for name in known.spans if known.knows(name, kinds.release))
    return replace(known, switches=switches, bare=bare, several=several, valued=there - switches - bare)
