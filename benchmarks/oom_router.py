"""The router before simulated engines, all on one virtual clock: the product's own controller, attempts, decisions,
live state and meters. Only what needs sockets, threads or a disk is replaced: pools, by engines in this process; the
budget store, by one without caps that keeps nothing.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from batch_engine import BatchEngine, EngineGone, OutOfMemory
from llm_pilot import Pool
from policies.compile.load import load_policy
from policies.policy import Policy
from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.all_pools import LivePools, LiveSettings
from pools.live.warmup import WarmUps
from pools.wire.backend import Answer, Backend, FrameStream, UpstreamRequest
from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import CapCounts, CapStatus, Extended, Hold, OpenHold, RateStatus, Room, Settlement
from pricing.errors import BudgetExceeded
from pricing.ledger.rows import LedgerRow, RequestRow
from router.errors import ApiError
from router.inbound.callers import Caller
from router.inbound.prompt_size import PromptSizes
from router.inbound.request import COMPLETIONS_PATH, parse
from router.inbound.sessions import Sessions
from router.interrupts import Interrupts, Ongoing
from router.money.accounting import Accounting
from router.money.meters import MeteredPools
from router.serving.attempts import Attempts
from router.serving.continuing import Continuing
from router.serving.controller import Controller
from router.serving.expectation import OutputExpectation
from router.serving.gather import Gatherer
from router.serving.retry_budget import RetryBudget
from router.telemetry.events import Fanout
from virtual_time import VirtualClock

CALLER: Final = Caller("pilot", "pilot-key", frozenset(), None, ())
MODELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama-7b": {
        "repo": "huggyllama/llama-7b",
        "params_b": 6.74,
        "weights": {"fp16": {"gib": 12.55}},
        "native_context": 2048,
        "layers": 32,
        "hidden": 4096,
        "q_heads": 32,
        "kv_heads": 32,
        "head_dim": 128,
    },
    "gpt-neox-20b": {
        "repo": "EleutherAI/gpt-neox-20b",
        "params_b": 20.55,
        "weights": {"fp16": {"gib": 38.28}},
        "native_context": 2048,
        "layers": 44,
        "hidden": 6144,
        "q_heads": 64,
        "kv_heads": 64,
        "head_dim": 96,
    },
    "starcoder": {
        "repo": "bigcode/starcoder",
        "params_b": 15.52,
        "weights": {"fp16": {"gib": 28.91}},
        "native_context": 8192,
        "layers": 40,
        "hidden": 6144,
        "q_heads": 48,
        "kv_heads": 1,
        "head_dim": 128,
    },
}
"""True configurations, from each repository's config.json."""


def policy_of(pools: Sequence[Pool], rows: Mapping[str, Any]) -> Policy:
    """A class `pilot` whose ladder lists the pools in order; `rows` are further keys of every pool's row."""
    files = {
        "version": 1,
        "price_book": "modal-2026-10",
        "models": {pool.model: {**MODELS[pool.model], "kind": "text", "source": "config.json"} for pool in pools},
        "pools": {pool.name: {**_row(pool), **rows} for pool in pools},
        "classes": {"pilot": {"objective": "listed", "ladder": {"premium": [pool.name for pool in pools]}}},
        "defaults": {"output_bound_default": 512},  # the longest measured answer has 381
        "endpoints": {pool.name: {"url": "http://simulated", "always_on": 1} for pool in pools},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(json.dumps(files), encoding="utf-8")
        return load_policy([path], environ={}, now_us=1_767_225_600_000_000)


def _row(pool: Pool) -> dict[str, Any]:
    return {
        "model": pool.model,
        "quantization": "fp16",
        "gpu": pool.gpu,
        "gpu_count": pool.gpus,
        "engine": "tgi",
        "engine_version": "0.8",
        "max_model_len": 2048,
        "max_concurrency": 256,  # memory is to be the limit
        "kv_cache": "contiguous",
    }


@dataclass(slots=True)
class EngineBackend:
    """`pools.wire.backend.Backend` over an engine; `sizes` has the true tokens of each request by its id."""

    engine: BatchEngine
    sizes: Mapping[str, tuple[int, int]]
    dispatched: dict[str, float] = field(default_factory=dict)  # by request: when it first came here
    tries: int = 0

    async def complete(self, request: UpstreamRequest) -> Answer:
        request_id = request.request_id.rsplit("-", 1)[0]
        self.dispatched.setdefault(request_id, asyncio.get_running_loop().time())
        self.tries += 1
        prompt, output = self.sizes[request_id]
        try:
            await self.engine.generate(prompt, output)
        except OutOfMemory:
            raise AttemptFailed(FailureClass.OUT_OF_MEMORY, "ran out of GPU memory", status=500) from None
        except EngineGone:
            raise AttemptFailed(FailureClass.UNAVAILABLE, "the engine died", engine_died=True) from None
        usage = {"prompt_tokens": prompt, "completion_tokens": output}
        choices = [{"index": 0, "text": "…", "finish_reason": "stop"}]
        return Answer(200, "application/json", json.dumps({"choices": choices, "usage": usage}).encode())

    async def stream(self, request: UpstreamRequest) -> FrameStream:
        raise AttemptFailed(FailureClass.CLIENT_ERROR, "this engine does not stream")

    async def text_of(self, model: str, token_ids: Sequence[int], timeout_s: float) -> str | None:
        return None

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        return None


class Uncapped:
    """`pricing.budgets.store.BudgetStore` without caps: every hold is granted, nothing is kept but who is metered."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.meters = LocalMeters(clock, self.post)

    def replace_caps(self, caps: CapTable) -> None:
        return None

    def now_us(self) -> int:
        return self._clock.wall_us()

    def room(self, scopes: Sequence[Scope]) -> Room:
        return Room(None, None, False)

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        return None

    async def open(self, wish: OpenHold) -> Hold:
        await asyncio.sleep(0.001)  # a commit: whoever decides meanwhile must not see room that is taken
        if wish.meter is not None:
            self.meters.enter(wish.meter, wish.hold_id)
        return Hold(wish.hold_id, wish.amount_nusd, 0, wish.lease_s)

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        return [Extended(hold_id, amount, True, 60.0) for hold_id, amount in wishes]

    async def settle(self, settlement: Settlement) -> None:
        return None

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        return await self.open(wish)

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        return None

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        return None

    async def record(self, request: RequestRow) -> None:
        return None

    async def expire(self) -> list[str]:
        return []

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        return []

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        return []

    async def cap_counts(self) -> CapCounts:
        return CapCounts()

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        return False

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        return None

    async def check(self) -> None:
        return None

    async def aclose(self) -> None:
        return None


class Router:
    """The router before these engines, by the names of the policy's pools."""

    def __init__(self, policy: Policy, engines: Mapping[str, BatchEngine], clock: VirtualClock) -> None:
        self.policy = policy
        self.sizes: dict[str, tuple[int, int]] = {}
        self.backends = {name: EngineBackend(engine, self.sizes) for name, engine in engines.items()}
        backends: dict[str, Backend] = {**self.backends}
        store = Uncapped(clock)
        meters = MeteredPools(store.meters, clock)
        accounting = Accounting(store, meters, clock)
        meters.apply(policy)
        self.live = LivePools(clock, on_change=store.meters.set_containers, on_missed=store.meters.missed)
        self.live.configure(
            {
                name: LiveSettings(1.0, spec.scaledown_window_s, always_on=1, kv_cache=spec.kv_cache)
                for name, spec in policy.pools.items()
                if name in engines
            }
        )
        self.ongoing = Ongoing()
        attempts = Attempts(
            gatherer=Gatherer(self.live, store, clock),
            live=self.live,
            warmups=WarmUps(self.live, clock),
            accounting=accounting,
            meters=meters,
            backends=backends,
            retry_budget=RetryBudget(self.ongoing.__len__),
            events=Fanout(()),
            clock=clock,
        )
        sizes = PromptSizes(backends, self.live)
        self.controller = Controller(
            attempts=attempts,
            continuing=Continuing(attempts, Fanout(())),
            sizes=sizes,
            expectation=OutputExpectation(),
            events=Fanout(()),
            clock=clock,
            sessions=Sessions(),
        )

    async def request(self, request_id: str, prompt: str, prompt_tokens: int, output_tokens: int) -> str | None:
        """Send one, with an answer of that length that the router cannot know. The pool that answered, or None."""
        self.sizes[request_id] = (prompt_tokens, output_tokens)
        parsed = parse(COMPLETIONS_PATH, json.dumps({"model": "pilot", "prompt": prompt}).encode())
        interrupts = Interrupts()
        with self.ongoing.request(interrupts):
            chain = await self.controller.open(
                request_id, parsed, CALLER, self.policy, interrupts, None, COMPLETIONS_PATH
            )
            try:
                await self.controller.complete(chain)
            except ApiError as error:
                await self.controller.finish(chain, "refused", error.status, error.code)
                return None
            return chain.pool
