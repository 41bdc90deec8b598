"""The clients: every request leaves at its recorded instant, whether or not earlier ones were answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from pricing.clock import US_PER_S, Clock
from router.demo.bodies import Bodies
from router.demo.plan import PlannedRequest
from router.demo.verdict import Judged, judge_stream, judge_whole, lost

PATIENCE_S: Final = 900.0
"""Of a client, in simulated seconds: longer than the policy's `max_total_s`, so that no answer is late by design."""

PATIENCE_AT_LEAST_S: Final = 60.0
"""In real seconds, whatever the speed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client saw of one request. Names come from the answer's `x-sluice-*` headers, "" where there were none.

    `first_byte_s` and `total_s` are simulated seconds from the moment of sending.
    """

    planned: PlannedRequest
    judged: Judged
    status: int | None
    pool: str
    gpu: str
    tier: str
    attempts: int
    first_byte_s: float | None
    total_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint, and each tenant's key."""

    url: str
    keys: Mapping[str, str]


class Load:
    """Plays a plan against an endpoint. `on_sent` and `on_outcome` are called as things happen."""

    def __init__(
        self,
        target: Target,
        bodies: Bodies,
        clock: Clock,
        on_sent: Callable[[PlannedRequest], None],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._target = target
        self._bodies = bodies
        self._clock = clock
        self._on_sent = on_sent
        self._on_outcome = on_outcome

    async def play(self, plan: Sequence[PlannedRequest]) -> list[Outcome]:
        """Send everything; returns when every request has an outcome, in the plan's order."""
        timeout = aiohttp.ClientTimeout(total=max(PATIENCE_AT_LEAST_S, PATIENCE_S / self._clock.speedup))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            async with asyncio.TaskGroup() as group:
                started_us = self._clock.mono_us()
                running: list[asyncio.Task[Outcome]] = []
                for planned in plan:
                    body = self._bodies.body(planned)
                    await self._clock.sleep(planned.at_s - (self._clock.mono_us() - started_us) / US_PER_S)
                    running.append(group.create_task(self._send(session, planned, body)))
                    self._on_sent(planned)
            return [task.result() for task in running]

    async def _send(self, session: aiohttp.ClientSession, planned: PlannedRequest, body: bytes) -> Outcome:
        exchange = _Exchange(self._clock)
        try:
            async with session.post(
                f"{self._target.url}/v1/chat/completions",
                data=body,
                headers={
                    "authorization": f"Bearer {self._target.keys[planned.tenant]}",
                    "content-type": "application/json",
                },
            ) as response:
                await exchange.read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            exchange.trouble = f"{type(error).__name__}"
        outcome = exchange.outcome(planned)
        self._on_outcome(outcome)
        return outcome


class _Exchange:
    """One request's answer while it comes in."""

    def __init__(self, clock: Clock) -> None:
        self.trouble = ""
        self._clock = clock
        self._began_us = clock.mono_us()
        self._first_us: int | None = None
        self._parts: list[bytes] = []
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}

    async def read(self, response: aiohttp.ClientResponse) -> None:
        self._status = response.status
        self._headers = response.headers
        async for part in response.content.iter_any():
            if self._first_us is None:
                self._first_us = self._clock.mono_us()
            self._parts.append(part)

    def outcome(self, planned: PlannedRequest) -> Outcome:
        headers = self._headers
        return Outcome(
            planned=planned,
            judged=self._judge(),
            status=self._status,
            pool=headers.get("x-sluice-pool", ""),
            gpu=headers.get("x-sluice-gpu", ""),
            tier=headers.get("x-sluice-tier", ""),
            attempts=int(headers.get("x-sluice-attempts", "0")),
            first_byte_s=None if self._first_us is None else (self._first_us - self._began_us) / US_PER_S,
            total_s=(self._clock.mono_us() - self._began_us) / US_PER_S,
        )

    def _judge(self) -> Judged:
        """A stream that a cut connection ended is judged by what had come, like one that just ended."""
        raw = b"".join(self._parts)
        if self._status is None:
            return lost(self.trouble)
        if self._headers.get("content-type", "").startswith("text/event-stream"):
            return judge_stream(raw)
        return lost(self.trouble) if self.trouble else judge_whole(self._status, raw)
