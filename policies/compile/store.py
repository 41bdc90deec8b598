"""The budget store: what it must keep, and what a replica may grant while it cannot be reached."""

from __future__ import annotations

from collections.abc import Iterable

from policies.compile.classes import limits_over
from policies.files.fileset import FileSet, Placed
from policies.files.schema import StoreShape
from policies.policy import Limits, OnStoreDown, StorePolicy
from pricing.money import parse_usd


def compile_store(files: FileSet, defaults: Limits, problems: list[str]) -> StorePolicy:
    """The section `store:` over all files; an allowance must be there where a class may draw on it."""
    written = {name: placed.value for name, placed in files.mapping("store").items()}
    shape = StoreShape(**written)
    if shape.allowance_usd is None:
        problems += _without_allowance(files, defaults)
    return StorePolicy(0 if shape.allowance_usd is None else parse_usd(shape.allowance_usd), shape.durability)


def _without_allowance(files: FileSet, defaults: Limits) -> Iterable[str]:
    text = "on_store_down: allow needs a bound; write store: with allowance_usd, what a replica may grant in one outage"
    key: Placed[object] | None = files.mapping("defaults").get("on_store_down")
    for name, placed in files.mapping("classes").items():
        if limits_over(defaults, placed.value).on_store_down is not OnStoreDown.ALLOW:
            continue
        own = "on_store_down" in placed.value.model_fields_set
        yield placed.problem(f"class '{name}': {text}", "on_store_down") if own or key is None else key.problem(text)
