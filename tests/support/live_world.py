"""Live pools on a clock that a test moves, with what they told of containers."""

from __future__ import annotations

from dataclasses import dataclass, field

from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.all_pools import LivePools, LiveSettings
from pools.platform import ContainerInfo
from pools.spec import KvCache
from pricing.clock import ManualClock


@dataclass(frozen=True)
class Needs:
    prompt_tokens: int = 1000
    expected_output_tokens: int = 200
    output_bound: int = 1024

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_bound

    def kv_tokens(self, cache: KvCache) -> int:
        return self.prompt_tokens + self.expected_output_tokens


@dataclass(frozen=True)
class BreakerLimits:
    failures: int = 5
    window_s: float = 30.0
    half_open_after_s: float = 15.0


@dataclass(frozen=True)
class Limits:
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    shape_cooldown_s: float = 300.0


LIMITS = Limits()
NEEDS = Needs()
SETTINGS = LiveSettings(boot_s=40, scaledown_window_s=60)


@dataclass
class World:
    """One pool `p`, unless said otherwise, on a clock that the test moves."""

    clock: ManualClock = field(default_factory=ManualClock)
    changes: list[tuple[str, int, int]] = field(default_factory=list)
    missed: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = LivePools(
            self.clock,
            on_change=lambda pool, _, ready, booting, __: self.changes.append((pool, ready, booting)),
            on_missed=lambda *missed: self.missed.append(missed),
        )
        self.live.configure({"p": SETTINGS})

    def fail(self, failure: FailureClass, times: int = 1, dispatched_us: int = 0, **more: object) -> None:
        for _ in range(times):
            self.live.failed("p", AttemptFailed(failure, "detail", **more), NEEDS, dispatched_us, LIMITS)  # type: ignore[arg-type]

    def list(self, *infos: ContainerInfo) -> None:
        self.live.observe_containers(self.clock.wall_us(), {"p": infos})

    def container(self, state: str = "ready") -> ContainerInfo:
        now = self.clock.wall_us()
        return ContainerInfo("a", "ready", now, now) if state == "ready" else ContainerInfo("a", "booting", now, None)
