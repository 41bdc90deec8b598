"""What a pool's container image is built from, by engine. Pure data: `pools.modal.deploy` builds it.

Nothing here was ever built: no account was at hand. Versions are the rows' own, so that a catalogue says what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pools.spec import PoolSpec

BASE: Final = "nvidia/cuda:12.9.0-devel-ubuntu22.04"
"""With the compiler, which engines need for kernels they build at start; as in Modal's own vLLM examples."""

PYTHON: Final = "3.12"
WEIGHTS: Final = "/weights"
COMPILED: Final = "/compiled"

_ENV: Final[Mapping[str, str]] = {
    "HF_HOME": f"{WEIGHTS}/huggingface",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "DO_NOT_TRACK": "1",
}
_VLLM_ENV: Final[Mapping[str, str]] = {
    **_ENV,
    "VLLM_CACHE_ROOT": f"{COMPILED}/vllm",
    "TORCHINDUCTOR_CACHE_DIR": f"{COMPILED}/inductor",
    "TRITON_CACHE_DIR": f"{COMPILED}/triton",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """A base from a registry, Python, packages with their versions, and the environment."""

    base: str
    python: str
    packages: tuple[str, ...]
    env: Mapping[str, str]


def image_recipe(pool: PoolSpec) -> ImageRecipe | None:
    """The image that runs a pool's engine; None for an engine that none is known for."""
    packages = _packages(pool.engine, pool.engine_version)
    if packages is None:
        return None
    return ImageRecipe(BASE, PYTHON, packages, _ENV if pool.engine == "diffusers" else _VLLM_ENV)


def _packages(engine: str, release: str) -> tuple[str, ...] | None:
    if engine == "vllm":
        return (f"vllm=={release}",)
    if engine == "vllm-omni":
        return (f"vllm=={release}", f"vllm-omni=={release}")  # each release is built over the vLLM of its number
    if engine == "diffusers":
        return (f"diffusers=={release}", "accelerate", "gguf", "peft", "sentencepiece", "torch", "transformers<5")
    return None
