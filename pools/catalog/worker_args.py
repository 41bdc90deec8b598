"""What `pools.modal.worker` is started with: which models it serves, and what of a row it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pools.spec import ArgValue, PoolSpec

VOLUME: Final = "/weights"
"""Where weights lie in a container."""

PROGRAM_FOLDER: Final = "/opt/seedvr2"
"""Where the program that restores clips lies in its image."""

SDXL: Final = "stabilityai/stable-diffusion-xl-base-1.0"
JOB_S: Final = 3600
"""The longest that one clip may take: above any deadline of a policy, which ends it first. For callers without one."""

_LORA: Final = frozenset({"lora"})
_TAKEN: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "diffusers": {
        "flux-schnell": _LORA,
        "flux-dev": _LORA,
        "sdxl-lora": _LORA,
        "instantid": frozenset({"base"}),
    },
    "seedvr2": {"seedvr2-3b": frozenset({"job-s"})},
}
"""Models by engine, and what their rows may add under `engine_args`."""

WORKERS_ALONE: Final[Mapping[str, str]] = {"instantid": "diffusers", "seedvr2-3b": "seedvr2"}
"""Models that nothing but our worker serves, with the engine that says so."""

_T5: Final = frozenset({"flux-schnell", "flux-dev"})
_ALL_TAKE: Final = frozenset({"max-num-queued-reqs"})


def worker_serves(pool: PoolSpec) -> bool:
    """Whether a row's engine is our worker, and its model one that it serves."""
    return pool.model.id in _TAKEN.get(pool.engine, {})


def worker_takes(pool: PoolSpec) -> frozenset[str]:
    """What its `engine_args` may say."""
    return _TAKEN[pool.engine][pool.model.id] | _ALL_TAKE if worker_serves(pool) else frozenset()


def worker_streams(pool: PoolSpec) -> bool:
    """Whether the worker can keep a part of the weights in the host's memory: T5, which only FLUX has."""
    return pool.engine == "diffusers" and pool.model.id in _T5


def worker_wants(name: str, value: ArgValue) -> str | None:
    """What an argument of the worker's is, where the row says something else; None where it is that."""
    if name in ("lora", "base"):
        return None if isinstance(value, str) and value else "a repository"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return "a whole number above 0"
    return None


def worker_arguments(pool: PoolSpec) -> dict[str, ArgValue]:
    """What a model needs beside its repository and its format."""
    if pool.model.id == "instantid":
        return {"base": SDXL, "faces": f"{VOLUME}/insightface"}
    if pool.engine == "seedvr2":
        item = pool.model.item
        return {
            "program": f"{PROGRAM_FOLDER}/inference_cli.py",
            "program-weights": f"{VOLUME}/seedvr2",
            "size": f"{item.width}x{item.height}",
            "frames": item.frames,
            "fps": item.fps or 0.0,
            "job-s": JOB_S,
        }
    return {"offload-text-encoder": True} if pool.weights_off_gpu_gib else {}
