"""What an engine says of itself on `/metrics`: how many requests it runs and queues, and how full its cache is.

Only pools that are awake anyway are asked (`router.service.scraping`). Of a page, the lines of these names alone are
read: the rest, histograms mostly, is nineteen in twenty of it.

| | vLLM | llama.cpp |
|---|---|---|
| running | `vllm:num_requests_running` | `llamacpp:requests_processing` |
| waiting | `vllm:num_requests_waiting` | `llamacpp:requests_deferred` |
| cache in use, 0 to 1 | `vllm:kv_cache_usage_perc` | `llamacpp:kv_cache_usage_ratio` |
| preempted | `vllm:num_preemptions_total` | |

Until 0.12 vLLM said `vllm:gpu_cache_usage_perc`. llama.cpp has the page with `--metrics` only, and its later releases
leave the cache's use out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

SPEAKS_METRICS: Final = frozenset({"vllm", "vllm-omni", "llama.cpp"})
"""Engines that have such a page."""

_RUNNING: Final = ("vllm:num_requests_running", "llamacpp:requests_processing")
_WAITING: Final = ("vllm:num_requests_waiting", "llamacpp:requests_deferred")
_KV_USAGE: Final = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio")
_PREEMPTIONS: Final = ("vllm:num_preemptions_total",)
_NAMES: Final = (*_RUNNING, *_WAITING, *_KV_USAGE, *_PREEMPTIONS)


class EngineLoad(msgspec.Struct, frozen=True):
    """The engines of so many containers at one moment. `kv_usage` is 0 to 1: of one container the fullest rank's, of
    several their mean; `preemptions` counts since their start. None where an engine does not say.
    """

    running: int
    waiting: int
    kv_usage: float | None = None
    preemptions: int | None = None
    containers: int = 1


def together(loads: Sequence[EngineLoad]) -> EngineLoad:
    """Containers of one pool as one: every request is in one of them. `loads` has one at least."""
    usage = [load.kv_usage for load in loads if load.kv_usage is not None]
    preempted = [load.preemptions for load in loads if load.preemptions is not None]
    return EngineLoad(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        kv_usage=sum(usage) / len(usage) if len(usage) == len(loads) else None,
        preemptions=sum(preempted) if len(preempted) == len(loads) else None,
        containers=sum(load.containers for load in loads),
    )


def read_load(page: str) -> EngineLoad | None:
    """What a container's page says; None where that is nothing of requests. Raises ValueError for what is no page."""
    lines = [line for line in page.splitlines() if line.startswith(_NAMES)]
    values: dict[str, list[float]] = {}
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            values.setdefault(sample.name, []).append(sample.value)
    running = _sum(values, _RUNNING)
    if running is None:
        return None
    usage = [value for name in _KV_USAGE for value in values.get(name, ())]
    return EngineLoad(
        running=running,
        waiting=_sum(values, _WAITING) or 0,
        kv_usage=min(1.0, max(0.0, *usage)) if usage else None,
        preemptions=_sum(values, _PREEMPTIONS),
    )


def _sum(values: dict[str, list[float]], names: Iterable[str]) -> int | None:
    """Of all ranks; None where no line has one of the names. Raises ValueError for what is no count."""
    found = [value for name in names for value in values.get(name, ())]
    total = sum(found)
    if not 0 <= total < float("inf"):
        raise ValueError(f"{total} is no number of requests")
    return int(total) if found else None
