"""What Modal would refuse late, or accept and not mean: refused before anything is deployed, with the row's place.

The SDK takes any GPU or region name and any count, and of two Servers with one name keeps the last. Names are those of
Modal's documentation of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pools.fit.memory import fit
from pools.modal.declare import Declaration
from pools.modal.settings import ModalSettings
from pools.spec import GpuSpec, PoolSpec
from pricing.nearest import nearest

GPUS: Final[Mapping[str, int]] = {
    "T4": 8, "L4": 8, "A10": 4, "L40S": 8, "A100-40GB": 8, "A100-80GB": 8, "RTX-PRO-6000": 8, "H100!": 8, "H200": 8,
    "B200": 8, "B300": 8,
}  # fmt: skip
"""Pinned names, and how many of a kind one container may have."""

FLOATING: Final[Mapping[str, str]] = {
    "A100": "may be an A100 of 40 or 80 GB; write A100-40GB or A100-80GB",
    "H100": "may run on an H200; write H100!",
    "B200+": "may be a B300; write B200 or B300",
}
"""Names that leave open what is allocated: speed and memory would not be what the catalogue counts with."""

REGIONS: Final = (
    "us", "eu", "ap", "uk", "ca", "me", "sa", "af", "mx", "jp", "au", "us-east", "us-central", "us-south", "us-west",
    "eu-west", "eu-north", "eu-south", "ap-northeast", "ap-southeast", "ap-south", "ap-melbourne",
)  # fmt: skip
ROUTING_REGIONS: Final = ("us-east", "us-west", "eu-west", "ap-south")
CORES_AT_MOST: Final = 64  # physical, of one container
MEMORY_GIB_AT_MOST: Final = 336
NAME_AT_MOST: Final = 64
TAG_AT_MOST: Final = 63
SCALEDOWN_S: Final = (2, 3600)
_TAG_RULE: Final = f"letters, digits, - _ and . only, at most {TAG_AT_MOST}"
_OWN_TAGS: Final = frozenset(
    {
        "sluice", "plan", "pool", "model", "quantization", "gpu", "gpu_count", "engine",
        "role", "version", "sources", "policy", "containers",
    }
)  # fmt: skip
"""Tags that pools or the router have of themselves, and are found by."""

_TAG_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def pool_problems(pool: PoolSpec, gpus: Mapping[str, GpuSpec]) -> Iterator[str]:
    """What is wrong with one row, "path:line: what; what to do" each. `gpus` are what a remedy may propose."""
    for sentence in (*_load(pool, gpus), *_gpu(pool), *_region(pool), *_size(pool), *_scaling(pool)):
        yield f"{pool.place}: pool '{pool.name}': {sentence}"


def settings_problems(settings: ModalSettings) -> Iterator[str]:
    """What is wrong with `platform: modal:` itself."""
    if settings.routing_region not in ROUTING_REGIONS:
        hint = nearest(settings.routing_region, ROUTING_REGIONS) or f"; Modal routes in {', '.join(ROUTING_REGIONS)}"
        yield f"{settings.place}: no routing_region '{settings.routing_region}'{hint}"
    for name, value in settings.tags.items():
        if not (_is_tag(name) and _is_tag(value)):
            yield f"{settings.place}: tag '{name}': name and value have {_TAG_RULE}"
        elif name in _OWN_TAGS:
            yield f"{settings.place}: tag '{name}' is one that Apps have of themselves; give yours another name"
    if settings.weights_volume == settings.cache_volume:
        yield (
            f"{settings.place}: weights_volume and cache_volume are both '{settings.cache_volume}', and Modal mounts a "
            "Volume once; name two"
        )


def name_problems(declarations: Sequence[Declaration]) -> Iterator[str]:
    """Pools whose Apps would have one name, or a name that is too long."""
    first: dict[str, Declaration] = {}
    for each in declarations:
        if each.app in first:
            other = first[each.app]
            yield (
                f"{each.place}: pool '{each.pool}': its App would be called '{each.app}', as that of '{other.pool}' "
                f"({other.place}); rename one of the pools"
            )
        first.setdefault(each.app, each)
        if not re.search("[a-z0-9]", each.pool.lower()):
            yield f"{each.place}: pool '{each.pool}': its App would have the prefix alone as its name; rename it"
        elif len(each.app) > NAME_AT_MOST:
            yield f"{each.place}: pool '{each.pool}': '{each.app}' is longer than {NAME_AT_MOST}; shorten its name"
        elif wrong := [name for name, value in each.tags.items() if not _is_tag(value)]:
            yield f"{each.place}: pool '{each.pool}': {wrong[0]} becomes a tag, with {_TAG_RULE}; rename it"


def secret_problems(wanted: Iterable[str], existing: Iterable[str], settings: ModalSettings) -> Iterator[str]:
    """Secrets that containers ask for and that the Environment does not have."""
    known = sorted(existing)
    where = f"Environment '{settings.environment}'" if settings.environment else "the default Environment"
    for name in wanted:
        if name not in known:
            hint = nearest(name, known) or f"; make it: modal secret create {name} KEY=value"
            yield f"{settings.place}: Modal has no Secret '{name}' in {where}{hint}"


def _load(pool: PoolSpec, gpus: Mapping[str, GpuSpec]) -> Iterator[str]:
    memory = fit(pool, gpus)
    if not memory.loads:
        yield f"cannot load: {memory.problem}" + (f"; {memory.remedy}" if memory.remedy else "")


def _gpu(pool: PoolSpec) -> Iterator[str]:
    name = pool.gpu.platform_name
    if name in FLOATING:
        yield f"GPU '{name}' {FLOATING[name]} as its platform_name"
    elif name not in GPUS:
        yield f"Modal has no GPU '{name}'{nearest(name, GPUS) or '; it has ' + ', '.join(GPUS)}"
    elif pool.gpu_count > GPUS[name]:
        yield f"one container has at most {GPUS[name]}×{name}, this pool asks for {pool.gpu_count}"


def _region(pool: PoolSpec) -> Iterator[str]:
    if pool.region is not None and pool.region not in REGIONS:
        yield f"Modal has no region '{pool.region}'{nearest(pool.region, REGIONS) or '; it has ' + ', '.join(REGIONS)}"


def _size(pool: PoolSpec) -> Iterator[str]:
    if pool.cpu_cores > CORES_AT_MOST:
        yield f"one container has at most {CORES_AT_MOST} cores, this pool asks for cpu_cores {pool.cpu_cores:g}"
    if pool.memory_gib > MEMORY_GIB_AT_MOST:
        yield f"one container has at most {MEMORY_GIB_AT_MOST} GiB, this pool asks for memory_gib {pool.memory_gib:g}"


def _scaling(pool: PoolSpec) -> Iterator[str]:
    low, high = SCALEDOWN_S
    if not low <= pool.scaledown_window_s <= high:
        yield f"scaledown_window_s is {pool.scaledown_window_s:g}; Modal takes {low} to {high} s"
    if pool.min_containers > pool.max_containers:
        yield f"min_containers {pool.min_containers} is above max_containers {pool.max_containers}; lower it"


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= TAG_AT_MOST and set(text) <= _TAG_CHARACTERS
