"""A small simulated pool for tests: fast to boot, cheap to run, and named like the model of the recordings."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from pools.simulator import SimulatedPools, SimulatorSettings
from pools.spec import Feature, GpuSpec, ModelKind, ModelSpec, PoolSpec
from pricing.clock import ScaledClock
from support.values import replace

SPEEDUP = 40.0
RATE_NUSD_PER_H = 1_100_000_000
GPU = GpuSpec("A10", ("A10G",), 86, 22.0, 600.0, 125.0, None, True, "A10", "a data sheet")
MODEL = ModelSpec(
    id="tiny",
    repo="/models/tiny",
    kind=ModelKind.TEXT,
    params_b=4.0,
    active_params_b=4.0,
    weights_gib={"bf16": 7.5},
    tokenizer="tiny",
    native_context=32768,
    layers=36,
    attention_layers=36,
    hidden=2560,
    q_heads=32,
    kv_heads=8,
    head_dim=128,
)
SPEC = PoolSpec(
    name="tiny-a10",
    model=MODEL,
    quantization="bf16",
    gpu=GPU,
    gpu_count=1,
    engine="vllm",
    engine_version="0.32.0",
    max_model_len=512,
    gpu_memory_utilization=0.92,
    tensor_parallel=1,
    expert_parallel=False,
    features=frozenset(),
    target_concurrency=8,
    max_concurrency=16,
    min_containers=0,
    max_containers=2,
    scaledown_window_s=60.0,
    boot_s=5.0,
    cpu_cores=4.0,
    memory_gib=16.0,
    region=None,
    served_model_name="tiny-qwen3",
)
CAPABLE = replace(
    SPEC,
    features=frozenset(Feature),
    max_model_len=4096,
    model=replace(MODEL, kind=ModelKind.VISION, image_patch=32, image_tokens_max=1280),
)


@dataclass
class Running:
    """A simulator that listens, and a client session."""

    simulator: SimulatedPools
    session: aiohttp.ClientSession
    spec: PoolSpec

    @property
    def url(self) -> str:
        return self.simulator.pool_url(self.spec.name)

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """One call of the control plane; its JSON."""
        url = f"{self.simulator.base_url}/platform{path}"
        async with self.session.request(method, url, json=body) as response:
            return await response.json()

    async def fail(self, kind: str, **more: object) -> None:
        assert await self.control("POST", f"/pools/{self.spec.name}/fail", {"kind": kind, **more}) == {}

    async def containers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.control("GET", "/containers"))[self.spec.name]
        return found

    async def until_ready(self, count: int = 1) -> None:
        """Wait for containers; each look is a call of the control plane, which wakes nothing."""
        async with asyncio.timeout(30):
            while sum(container["state"] == "ready" for container in await self.containers()) < count:
                pass

    async def wake(self) -> None:
        await self.control("POST", f"/pools/{self.spec.name}/wake")
        await self.until_ready()

    async def post(self, path: str, body: object) -> tuple[int, bytes]:
        async with self.session.post(self.url + path, json=body) as response:
            return response.status, await response.read()

    async def chat(self, **more: object) -> tuple[int, bytes]:
        body = {"model": self.spec.served_model_name, "messages": [{"role": "user", "content": "hello"}], **more}
        return await self.post("/v1/chat/completions", body)


@contextlib.asynccontextmanager
async def simulated(
    spec: PoolSpec = SPEC, *, settings: SimulatorSettings | None = None, speedup: float = SPEEDUP, awake: bool = True
) -> AsyncIterator[Running]:
    """One pool that listens on a free port."""
    simulator = SimulatedPools([spec], {spec.name: RATE_NUSD_PER_H}, ScaledClock(speedup), 7, settings)
    await simulator.start()
    async with aiohttp.ClientSession() as session:
        running = Running(simulator, session, spec)
        if awake:
            await running.wake()
        yield running
    await simulator.stop()


def frames(body: bytes) -> list[Any]:
    """The data of each server-sent event, decoded; `[DONE]` as that text."""
    texts = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def text_of(events: list[Any]) -> str:
    """The content that the chat chunks of a stream add up to."""
    choices = [choice for event in events if isinstance(event, dict) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
