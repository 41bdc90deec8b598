"""What the router believes about one pool just now, and the snapshot of it that `decide` reads.

Belief comes from three sources: requests of this router (entering, answering, leaving, failing), the platform's list of
containers, and the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.breaker import BreakerLimits, PoolBreaker, ShapeBreaker
from pools.live.containers import Containers
from pools.live.crowding import Crowding
from pools.live.engine_metrics import EngineLoad
from pools.live.engine_said import NOTHING_SAID, EngineSaid
from pools.live.kv_ceiling import KvCeiling
from pools.live.others import ALONE, Others
from pools.live.state import PoolState, shape_bucket
from pools.platform import ContainerInfo
from pools.spec import KvCache
from pricing.clock import US_PER_S, Clock

SNAPSHOT_S: Final = 0.05  # of the clock's time: how old a snapshot of a pool may be to which nothing happened
TTFT_WEIGHT: Final = 0.2  # of the newest first-token time in the moving average
OVERDUE_SHARE: Final = 0.1  # a boot that outlasts its model is expected to need this share of the model more
SLOW_BOOT_TIMES: Final = 2.0  # a boot longer than this many times its model is taken as one that never ends
SLOW_BOOT_PROBE_S: Final = 600.0  # another try buys another boot

# Failures that say nothing against the pool: it answered, just not what was asked for.
_ANSWERED: Final = frozenset({FailureClass.CONTEXT_OVERFLOW, FailureClass.BAD_OUTPUT, FailureClass.CLIENT_ERROR})


class Sized(Protocol):
    """What is asked of a request's needs, in tokens. `total_tokens` is prompt + output bound, `kv_tokens` what it is
    predicted to take of a cache of that kind.
    """

    @property
    def total_tokens(self) -> int: ...

    def kv_tokens(self, cache: KvCache) -> int: ...


class FailureLimits(Protocol):
    """The policy keys that a failure is judged by."""

    @property
    def breaker(self) -> BreakerLimits: ...

    @property
    def shape_cooldown_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What the files say of one pool. `boot_s` is its boot model; `always_on` containers are simply there; `wakeable`
    says that the router can have one started.
    """

    boot_s: float
    scaledown_window_s: float
    min_containers: int = 0
    always_on: int = 0
    deployed: bool = True
    drained: bool = False
    kv_cache: KvCache = KvCache.PAGED
    wakeable: bool = True


@dataclass(frozen=True, slots=True)
class _Member:
    kv_tokens: int
    shape: int


class LivePool:
    """Belief about one pool. `changed` is called when a snapshot of it is no longer true."""

    def __init__(
        self,
        name: str,
        settings: LiveSettings,
        clock: Clock,
        containers: Containers,
        changed: Callable[[], None],
        others: Others = ALONE,
    ) -> None:
        self.name = name
        self.settings = settings
        self.containers = containers
        self.became_ready = asyncio.Event()  # set while a container is ready
        self._clock = clock
        self._changed = changed
        self._others = others
        self._breaker = PoolBreaker()
        self._shapes = ShapeBreaker()
        self._ceiling = KvCeiling()
        self._crowding = Crowding()
        self._members: dict[str, _Member] = {}
        self._kv_tokens = 0
        self._idle_since: tuple[int, int] | None = None  # wall and monotonic instant of the last end
        self._idle_before_us = 0  # how long it had been idle when those in flight came; 0 once it has spoken
        self._ttft_s: float | None = None
        self._features_off: frozenset[str] = frozenset()
        self._boot_too_slow = False
        self._said: EngineSaid | None = None
        self._addresses: list[str | None] = []  # of the containers that were ready when last listed
        self._snapshot = PoolState()
        self._fresh_until_us = 0  # monotonic

    @property
    def in_flight(self) -> int:
        return len(self._members) + self._others.load().running

    @property
    def _kept(self) -> int:
        """Containers that no silence ends."""
        return max(self.settings.always_on, self.settings.min_containers)

    # -- requests --------------------------------------------------------------------------------------------------

    def enter(self, member: str, needs: Sized) -> None:
        """A request was given to this pool. In a breaker's half-open state it is the one probe."""
        now_us = self._clock.mono_us()
        self._breaker.entered(member, now_us)
        if not self.in_flight:
            self._idle_before_us = 0 if self._idle_since is None else now_us - self._idle_since[1]
        kv_tokens = needs.kv_tokens(self.settings.kv_cache)
        self._members[member] = _Member(kv_tokens, shape_bucket(needs.total_tokens))
        self._kv_tokens += kv_tokens
        self._touch()

    def leave(self, member: str) -> None:
        """It is over, or never came to be dispatched. What it says of the pool is told after this."""
        left = self._members.pop(member, None)
        if left is not None:
            self._kv_tokens -= left.kv_tokens
            if not self._members:
                self._idle_since = (self._clock.wall_us(), self._clock.mono_us())
        self._breaker.left(member)
        self._touch()

    def answering(self, ttft_s: float) -> bool:
        """The first token came after `ttft_s`: the pool is well, however long the answer gets. Returns whether that has
        closed its breaker.
        """
        self._spoke()
        was_closed = self._breaker.is_closed
        self._breaker.speaks(self._clock.mono_us())
        self._crowding.speaks()
        old = self._ttft_s
        self._ttft_s = ttft_s if old is None else old + TTFT_WEIGHT * (ttft_s - old)
        self._awake()
        return self._breaker.is_closed and not was_closed

    def answered(self) -> None:
        """A request ended well."""
        self._spoke()
        self._breaker.success(self._clock.mono_us())
        self._crowding.speaks()
        self._awake()

    def _spoke(self) -> None:
        self.containers.answered(self._clock.wall_us())
        self._idle_before_us = 0

    def failed(
        self,
        failure: AttemptFailed,
        needs: Sized,
        dispatched_us: int,
        limits: FailureLimits,
        *,
        failed_alike: bool = False,
    ) -> None:
        """A request with these needs, dispatched at that monotonic instant, failed here, and has left.

        `failed_alike`: it failed so at another pool before, which makes the request suspect and not this pool.
        """
        now_us = self._clock.mono_us()
        surely = failure.pool_at_fault
        suspect = failure.by_client_deadline or (failed_alike and not surely)
        if failure.failure in (FailureClass.UNAVAILABLE, FailureClass.TIMEOUT) and not suspect:
            self._breaker.failure(now_us, failure.detail, limits.breaker, surely=surely)
        match failure.failure:
            case FailureClass.UNAVAILABLE:
                self._unavailable(failure, needs.total_tokens, limits, now_us)
            case FailureClass.OUT_OF_MEMORY:
                self._out_of_memory(needs, dispatched_us, limits.shape_cooldown_s, now_us)
            case FailureClass.OVERLOADED:
                self._breaker.overloaded(now_us, failure.retry_after_s)
                self._crowding.refused(self.in_flight, self.containers.ready, now_us)
            case FailureClass.COLD:
                self.containers.met_nobody(self._clock.wall_us())
                self._awake()
            case FailureClass.MISCONFIGURED if failure.feature is not None:
                self._features_off |= {failure.feature}
            case FailureClass.MISCONFIGURED:
                self._breaker.out_of_service(now_us, failure.detail)
            case answered if answered in _ANSWERED:
                self.answered()
        self._touch()

    def _unavailable(self, failure: AttemptFailed, total_tokens: int, limits: FailureLimits, now_us: int) -> None:
        if failure.engine_died:
            shapes = [member.shape for member in self._members.values()]
            largest = max([shape_bucket(total_tokens), *shapes])
            self._shapes.engine_died(largest, now_us, limits.shape_cooldown_s)
            if self._others.shapes is not None:
                self._others.shapes.engine_died(self.name, largest, limits.shape_cooldown_s)
        elif failure.status == 503 and not self.settings.always_on:  # bare: an awake pool has lost its container
            self.containers.gone(self._clock.wall_us())
            self._awake()

    def _out_of_memory(self, needs: Sized, dispatched_us: int, cooldown_s: float, now_us: int) -> None:
        """A paged cache holds what it says it holds, so it is this request's shape that was too much. In a contiguous
        one all that ran together was, and any of them may be the one that says so.
        """
        if self.settings.kv_cache is KvCache.PAGED:
            shape = shape_bucket(needs.total_tokens)
            self._shapes.out_of_memory(shape, now_us, cooldown_s)
            if self._others.shapes is not None:
                self._others.shapes.out_of_memory(self.name, shape, cooldown_s)
            return
        in_flight = self._kv_tokens + self._others.load().kv_tokens + needs.kv_tokens(self.settings.kv_cache)
        self._ceiling.out_of_memory(in_flight // max(1, self.containers.ready), dispatched_us, now_us, cooldown_s)

    # -- other replicas --------------------------------------------------------------------------------------------

    def heard(self, ready: int, booting: int, idle_us: int | None) -> None:
        """What all replicas together know, see `LivePools.heard`."""
        if idle_us is not None:
            since = (self._clock.wall_us() - idle_us, self._clock.mono_us() - idle_us)
            self._idle_since = since if self._idle_since is None else max(self._idle_since, since)
        if not self.settings.always_on:
            self.containers.heard(self._clock.wall_us(), ready, booting)
        self._awake()

    def heard_shapes(self, shapes: Mapping[int, float]) -> None:
        """Shapes that are out, with the rest of their cooldowns, seconds."""
        now_us = self._clock.mono_us()
        for shape, left_s in shapes.items():
            self._shapes.out_elsewhere(shape, now_us, left_s)
        self._touch()

    def engine_said(self, load: EngineLoad, sent_from_here: int) -> None:
        """What the pool's engine says of itself; `sent_from_here` were in flight when it was asked. Requests that it
        has beyond those, and beyond those of now, are others' who load it too. Where not every container spoke, as
        behind an address that several share, nobody knows which of them run ours.
        """
        all_spoke = self.containers.ready == load.containers
        foreign = load.running + load.waiting - max(sent_from_here, self.in_flight) if all_spoke else 0
        self._said = EngineSaid(load, max(0, foreign), self._clock.mono_us())
        self._touch()

    # -- containers ------------------------------------------------------------------------------------------------

    def waking(self) -> None:
        """A boot was asked for, by a wake or by a request that met nobody."""
        self.containers.boot_began(self._clock.wall_us())
        self._touch()

    def seen_ready(self) -> None:
        """A knock was answered."""
        self._spoke()
        self._awake()

    def observe(self, now_us: int, infos: Sequence[ContainerInfo]) -> None:
        self.containers.observe(now_us, infos, self._scale_down_us())
        self._addresses = [info.address for info in infos if info.state == "ready"]
        self._awake()

    @property
    def perhaps_asleep(self) -> bool:
        """No container is known; or those that are may have ended meanwhile, as nothing of theirs was heard for their
        scale-down window, and no list has said so yet.
        """
        if self.containers.ready == 0:
            return True
        return not self._kept and self._idle_before_us >= self.settings.scaledown_window_s * US_PER_S

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all ready containers, each its own; none where one has none, or may have come or gone since the list."""
        known = tuple(address for address in self._addresses if address is not None)
        return known if len(known) == self.containers.ready else ()

    def _scale_down_us(self) -> int | None:
        """When the idle pool's window passes, wall time; None while it is busy or was never used."""
        if self._idle_since is None or self.in_flight:
            return None
        return self._idle_since[0] + round(self.settings.scaledown_window_s * US_PER_S)

    def _awake(self) -> None:
        """A container is ready, or not: wake those who wait for one."""
        if self.containers.ready == 0:
            self.became_ready.clear()
        else:
            if not self.became_ready.is_set() and not self._members:
                self._idle_since = (self._clock.wall_us(), self._clock.mono_us())  # its window runs from here
            self.became_ready.set()
            if self._boot_too_slow:
                self._boot_too_slow = False
                self._breaker.reloaded()
        self._touch()

    # -- files -----------------------------------------------------------------------------------------------------

    def configure(self, settings: LiveSettings) -> None:
        """The files were read again: what they were wrong about gets another chance."""
        self.settings = settings
        self._breaker.reloaded()
        self._boot_too_slow = False
        self._features_off = frozenset()
        self._ceiling.forget()
        if settings.deployed and not self.containers.listed:
            self.containers.always(self._clock.wall_us(), self._kept)
        self._awake()

    # -- snapshots -------------------------------------------------------------------------------------------------

    def state(self, now_us: int) -> PoolState:
        """The snapshot in force at this monotonic instant."""
        if now_us >= self._fresh_until_us:
            self._snapshot = self._look(now_us)
            self._fresh_until_us = now_us + round(SNAPSHOT_S * US_PER_S)
        return self._snapshot

    def _touch(self) -> None:
        self._fresh_until_us = 0
        self._changed()

    def _look(self, now_us: int) -> PoolState:
        wall_us = self._clock.wall_us()
        self._time_passes(wall_us)
        containers, others = self.containers, self._others.load()
        in_flight = len(self._members) + others.running
        said = self._said if containers.ready and self._said is not None and self._said.fresh(now_us) else NOTHING_SAID
        idle = None if in_flight or self._idle_since is None else max(0, now_us - self._idle_since[1]) / US_PER_S
        return PoolState(
            ready=containers.ready,
            booting=containers.booting,
            in_flight=in_flight,
            kv_tokens_in_flight=self._kv_tokens + others.kv_tokens,
            boot_left_s=self._boot_left_s(wall_us),
            idle_s=idle,
            breaker=self._breaker.state(now_us),
            breaker_retry_s=self._breaker.retry_s(now_us),
            breaker_reason=self._breaker.reason(now_us),
            probed=self._breaker.probed(now_us),
            misconfigured=self._breaker.misconfigured,
            most_in_flight=self._crowding.most(containers.ready, now_us),
            kv_ceiling=self._ceiling.tokens(now_us),
            shapes_open=self._shapes.open_shapes(now_us),
            shapes_retry_s=self._shapes.retry_s(now_us),
            features_off=self._features_off,
            drained=self.settings.drained,
            deployed=self.settings.deployed,
            wakeable=self.settings.wakeable,
            ttft_s=self._ttft_s,
            serving_since_us=containers.serving_since_us,
            engine=said.load,
            foreign_in_flight=said.foreign,
            foreign_kv_share=said.foreign_kv_share,
            as_of_us=wall_us,
        )

    def _time_passes(self, wall_us: int) -> None:
        """A window that passed puts an unlisted pool to sleep; a boot that never ends takes it out of service."""
        ends_us = self._scale_down_us()
        if ends_us is not None and wall_us >= ends_us:
            self.containers.scale_down(wall_us, ends_us, self._kept)
            if self.containers.ready == 0:
                self.became_ready.clear()
        age_s = self.containers.boot_age_s(wall_us)
        if age_s is not None and self.containers.ready == 0 and age_s > SLOW_BOOT_TIMES * self.settings.boot_s:
            self._boot_too_slow = True
            self.containers.gone(wall_us)  # where nobody lists, it is given up
            slow = f"a boot lasts longer than {SLOW_BOOT_TIMES:g} × {self.settings.boot_s:g} s"
            self._breaker.out_of_service(self._clock.mono_us(), slow, SLOW_BOOT_PROBE_S)

    def _boot_left_s(self, wall_us: int) -> float | None:
        age_s = self.containers.boot_age_s(wall_us)
        if age_s is None:
            return None
        boot_s = self.settings.boot_s
        return max(boot_s - age_s, OVERDUE_SHARE * boot_s)
