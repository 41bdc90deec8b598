"""A whole endpoint in front of real vLLM servers: the pools are rows of the policy file, billed as if they were T4s."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from pricing.clock import ScaledClock
from support.endpoint import Endpoint, Policy, policy, serving
from support.real_vllm import SERVED, VERSION, RealVllm

MODEL: Policy = {
    "repo": SERVED,
    "kind": "text",
    "params_b": 0.000361,
    "weights": {"fp16": {"gib": 0.0014}},
    "native_context": 2048,
    "layers": 2,
    "hidden": 64,
    "q_heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "source": "tests/data/vllm_tiny_model/config.json",
}


def vllm_policy(engines: Mapping[str, RealVllm], **defaults: Any) -> Policy:
    """A class `chat` whose pools are tried in the order given; the last one is of the highest tier, the others of the
    lowest, which is what a request gets that names none.
    """
    names = list(engines)
    ladder = {"economy": names[:-1], "premium": names[-1:]}
    return policy(
        defaults={"reload_poll_s": 60, "output_bound_default": 128, "first_token_timeout_s": 30, **defaults},
        classes={"chat": {"ladder": ladder, "objective": "listed", "default_tier": "economy"}},
        aliases={},
        models={"tiny": MODEL},
        pools={name: _row(engine.max_model_len) for name, engine in engines.items()},
        endpoints={name: {"url": engine.url, "always_on": 1} for name, engine in engines.items()},
    )


def _row(max_model_len: int) -> Policy:
    return {
        "model": "tiny",
        "quantization": "fp16",
        "gpu": "T4",
        "engine_version": VERSION,
        "max_model_len": max_model_len,
        "served_model_name": SERVED,
        "boot_s": 30,
        "scaledown_window_s": 600,
    }


@contextlib.asynccontextmanager
async def before_vllm(
    folder: Path, engines: Mapping[str, RealVllm], files: Policy | None = None, **defaults: Any
) -> AsyncIterator[Endpoint]:
    """An endpoint of its own, with breakers and ratios that know nothing yet; its books must agree when it ends."""
    async with serving(folder, files or vllm_policy(engines, **defaults), clock=ScaledClock()) as endpoint:
        yield endpoint
