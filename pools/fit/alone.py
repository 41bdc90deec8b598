"""What one pool would cost if it served a list of requests alone: its containers, from first boot to last idle second.

The platform's rules, as the simulated pools follow them: a request to a sleeping pool starts one container and waits; a
container takes up to `max_concurrency` requests, the fullest one below `target_concurrency` first; when more than that
run for each container, more are started, up to `max_containers`; one that was idle for the scale-down window stops. A
request takes what the service-time model says for the company that it finds in its container when it starts.
`min_containers` is left out: containers that are kept for nobody are in no comparison.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from pools.fit.timing import Timing
from pools.spec import PoolSpec
from pricing.clock import US_PER_S


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: `at_us` on any clock, tokens in and out."""

    at_us: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ContainerTime:
    """Microseconds of all containers by phase, and how many there were."""

    boot_us: int
    busy_us: int
    idle_us: int
    containers: int

    @property
    def alive_us(self) -> int:
        return self.boot_us + self.busy_us + self.idle_us


def serve_alone(pool: PoolSpec, timing: Timing, boot_s: float, arrivals: Iterable[Arrival]) -> ContainerTime:
    """Container time of a pool that serves these requests and nothing else, until its last container stops."""
    platform = _Platform(pool, timing, round(boot_s * US_PER_S))
    for arrival in arrivals:
        platform.at(arrival.at_us, partial(platform.arrives, arrival))
    return platform.run()


@dataclass(slots=True, eq=False)
class _Container:
    """`since_us` is when it became idle (`running` 0) or busy."""

    since_us: int
    running: int = 0


class _Platform:
    """One pool's containers and the queue of what is to happen to them, on simulated time."""

    def __init__(self, pool: PoolSpec, timing: Timing, boot_us: int) -> None:
        self._pool = pool
        self._timing = timing
        self._boot_us = boot_us
        self._window_us = round(pool.scaledown_window_s * US_PER_S)
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._waiting: deque[Arrival] = deque()
        self._ready: list[_Container] = []
        self._booting = 0
        self._started = 0
        self._pushed = 0
        self._busy_us = 0
        self._idle_us = 0

    def at(self, at_us: int, step: Callable[[int], None]) -> None:
        """Let a step happen at an instant; steps of one instant happen in the order in which they were asked for."""
        self._pushed += 1
        heapq.heappush(self._events, (at_us, self._pushed, step))

    def run(self) -> ContainerTime:
        while self._events:
            now_us, _, step = heapq.heappop(self._events)
            step(now_us)
        return ContainerTime(self._started * self._boot_us, self._busy_us, self._idle_us, self._started)

    def arrives(self, arrival: Arrival, now_us: int) -> None:
        self._waiting.append(arrival)
        if not self._ready and not self._booting:
            self._start(now_us)
        self._place(now_us)

    def _start(self, now_us: int) -> None:
        self._started += 1
        self._booting += 1
        self.at(now_us + self._boot_us, self._becomes_ready)

    def _becomes_ready(self, now_us: int) -> None:
        self._booting -= 1
        container = _Container(now_us)
        self._ready.append(container)
        self.at(now_us + self._window_us, partial(self._expires, container))
        self._place(now_us)

    def _place(self, now_us: int) -> None:
        """Hand waiting requests to containers with room, then start as many more as those that run ask for."""
        while self._waiting and (container := self._roomiest()) is not None:
            self._begin(self._waiting.popleft(), container, now_us)
        running = sum(container.running for container in self._ready)
        wanted = min(self._pool.max_containers, -(-running // self._pool.target_concurrency))
        while len(self._ready) + self._booting < wanted:
            self._start(now_us)

    def _roomiest(self) -> _Container | None:
        """The container that the next request goes to; None when all are full."""
        below = [one for one in self._ready if one.running < self._pool.target_concurrency]
        if below:
            return max(below, key=lambda one: one.running)
        room = [one for one in self._ready if one.running < self._pool.max_concurrency]
        return min(room, key=lambda one: one.running, default=None)

    def _begin(self, arrival: Arrival, container: _Container, now_us: int) -> None:
        if not container.running:
            self._idle_us += now_us - container.since_us
            container.since_us = now_us
        service = self._timing.estimate(arrival.prompt_tokens, arrival.output_tokens, container.running)
        container.running += 1
        self.at(now_us + round(service.total_s * US_PER_S), partial(self._ends, container))

    def _ends(self, container: _Container, now_us: int) -> None:
        container.running -= 1
        if not container.running:
            self._busy_us += now_us - container.since_us
            container.since_us = now_us
            self.at(now_us + self._window_us, partial(self._expires, container))
        self._place(now_us)

    def _expires(self, container: _Container, now_us: int) -> None:
        """Its window is over, unless it has been busy since."""
        if not container.running and container.since_us + self._window_us == now_us:
            self._idle_us += self._window_us
            self._ready.remove(container)
