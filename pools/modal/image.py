"""What a pool's container image is built from, by engine. Pure data: `pools.modal.deploy` builds it.

Nothing here was ever built: no account was at hand. Versions are the rows' own, so that a catalogue says what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pools.catalog.worker_args import PROGRAM_FOLDER, VOLUME
from pools.fit.compatibility import version
from pools.spec import PoolSpec
from pricing.errors import FileProblem

BASE: Final = "nvidia/cuda:12.9.0-devel-ubuntu22.04"
"""With the compiler, which engines need for kernels they build at start; as in Modal's own vLLM examples."""

PYTHON: Final = "3.12"
WEIGHTS: Final = VOLUME
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

_DIFFUSION: Final = ("accelerate==1.15.0", "peft==0.21.2", "torch==2.13.0", "transformers==5.19.0")
_BESIDE_DIFFUSERS: Final = (*_DIFFUSION, "gguf==0.19.0", "sentencepiece==0.2.3")
DIFFUSERS_SINCE: Final = "0.42"
"""The worker is written for its names of arguments, and the packages beside it are of its time."""

_FACES: Final = ("insightface==2.1", "onnxruntime==1.31.1")
_OPENCV_NEEDS: Final = ("libgl1", "libglib2.0-0")
_BESIDE_SEEDVR2: Final = (
    *_DIFFUSION, "diffusers==0.42.1", "einops==0.8.2", "gguf==0.19.0", "matplotlib==3.11.2", "numpy==2.5.5",
    "omegaconf==2.4.0", "opencv-python==5.0.0.93", "psutil==7.2.2", "rotary-embedding-torch==0.9.1",
    "safetensors==0.8.0", "torchvision==0.28.0", "tqdm==4.70.1",
)  # fmt: skip
"""What the program's own requirements name, each at the version that went together in November 2026."""

SEEDVR2: Final = "https://github.com/numz/ComfyUI-SeedVR2_VideoUpscaler"
SEEDVR2_COMMITS: Final[Mapping[str, str]] = {"2.5.24": "4490bd1f482e026674543386bb2a4d176da245b9"}
"""Releases of the program by their commits, since a tag can be moved. Apache 2.0 since 2.5.9."""


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """A base from a registry, Python, the system's packages, commands, Python packages with their versions, and the
    environment.
    """

    base: str
    python: str
    packages: tuple[str, ...]
    env: Mapping[str, str]
    system: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def image_recipe(pool: PoolSpec) -> ImageRecipe:
    """The image of an engine that `pools.catalog.engine_args` has a command for: vllm, vllm-omni, diffusers or seedvr2.

    Raises FileProblem for a diffusers that is older than the worker, and a seedvr2 whose commit nobody knows.
    """
    release = pool.engine_version
    if pool.engine == "diffusers":
        if version(release) < version(DIFFUSERS_SINCE):
            raise _refused(pool, f"the worker needs diffusers {DIFFUSERS_SINCE} or later, not {release}")
        faces = pool.model.id == "instantid"
        packages = (f"diffusers=={release}", *_BESIDE_DIFFUSERS, *(_FACES if faces else ()))
        return ImageRecipe(BASE, PYTHON, packages, _ENV, _OPENCV_NEEDS if faces else ())
    if pool.engine == "seedvr2":
        return ImageRecipe(BASE, PYTHON, _BESIDE_SEEDVR2, _ENV, ("git", *_OPENCV_NEEDS), _seedvr2(pool))
    omni = (f"vllm-omni=={release}",) if pool.engine == "vllm-omni" else ()  # over the vLLM of the same number
    return ImageRecipe(BASE, PYTHON, (f"vllm=={release}", *omni), _VLLM_ENV)


def _seedvr2(pool: PoolSpec) -> tuple[str, ...]:
    """The program at its commit, which git compares with what it was sent."""
    commit = SEEDVR2_COMMITS.get(pool.engine_version)
    if commit is None:
        known = ", ".join(SEEDVR2_COMMITS)
        raise _refused(pool, f"no commit is known of seedvr2 {pool.engine_version}; engine_version can be {known}")
    return (
        f"git init --quiet {PROGRAM_FOLDER}",
        f"git -C {PROGRAM_FOLDER} fetch --quiet --depth 1 {SEEDVR2} {commit}",
        f"git -C {PROGRAM_FOLDER} checkout --quiet {commit}",
    )


def _refused(pool: PoolSpec, text: str) -> FileProblem:
    return FileProblem([f"{pool.place}: pool '{pool.name}': {text}"])
