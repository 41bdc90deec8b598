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


_BESIDE_DIFFUSERS: Final = ("accelerate", "gguf", "peft", "sentencepiece", "torch", "transformers<5")


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """A base from a registry, Python, packages with their versions, and the environment."""

    base: str
    python: str
    packages: tuple[str, ...]
    env: Mapping[str, str]


def image_recipe(pool: PoolSpec) -> ImageRecipe:
    """The image of an engine that `pools.engine_args` has a command for: vllm, vllm-omni or diffusers."""
    release = pool.engine_version
    if pool.engine == "diffusers":
        return ImageRecipe(BASE, PYTHON, (f"diffusers=={release}", *_BESIDE_DIFFUSERS), _ENV)
    omni = (f"vllm-omni=={release}",) if pool.engine == "vllm-omni" else ()  # over the vLLM of the same number
    return ImageRecipe(BASE, PYTHON, (f"vllm=={release}", *omni), _VLLM_ENV)
