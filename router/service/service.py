"""Every object of a running endpoint, made once and handed on; and the loops that run beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from policies.choose.names import resolve
from policies.compile.reload import Reloader
from policies.errors import UnknownModel
from policies.policy import Policy, PoolEndpoint
from pools.live.all_pools import LivePools, LiveSettings
from pools.live.warmup import WarmUps
from pools.platform import PlatformUnavailable, PoolPlatform
from pools.spec import ModelKind, PoolSpec
from pools.wire.http import HttpBackend, make_session
from pricing.budgets.account import CapWarning
from pricing.budgets.outage import StoreState
from pricing.clock import US_PER_S, Clock
from pricing.errors import FileProblem, StoreUnavailable
from pricing.ledger.read import StoredRequest, find_request
from pricing.redis.meters import Heard
from pricing.redis.name import NAME_LEASE_S
from router.errors import ApiError
from router.inbound.bodies import RouteBody
from router.inbound.callers import Caller
from router.inbound.prompt_size import PromptSizes
from router.inbound.sessions import Sessions
from router.interrupts import Cause, Ongoing
from router.money.accounting import Accounting
from router.money.meters import MeteredPools
from router.service.considerate import considerate, settled
from router.service.loops import Loops
from router.service.parts import make_parts
from router.service.past_answers import PastAnswers
from router.service.platforms import platform_of, poll_every_s
from router.service.resting import rest
from router.service.scraping import LOOK_S as LOOK_AT_ENGINES_S
from router.service.scraping import Scraping
from router.service.service_gauges import ServiceGauges
from router.service.settings import Settings
from router.service.shared import Shared
from router.service.store_gauges import StoreGauges
from router.serving.attempts import Attempts
from router.serving.continuing import Continuing
from router.serving.controller import Controller
from router.serving.expectation import OutputExpectation
from router.serving.gather import Gatherer
from router.serving.media import medium_of
from router.serving.retry_budget import RetryBudget
from router.telemetry.events import CapWarned, Fanout, PolicyRefused, PolicyReloaded, StoreBack, StoreTrouble
from router.telemetry.feed import Feed
from router.telemetry.feed_sharing import TURN_S, FeedSharing
from router.telemetry.log import LOGGER, LogSink
from router.telemetry.metrics import MetricsSink
from router.telemetry.webhook import WebhookSink
from router.views.policy_history import PolicyHistory

TICK_AT_LEAST_S: Final = 0.05  # real seconds between two ticks, whatever a policy and a scaled clock ask for
SHAPES_S: Final = 2.0  # between two looks at what other replicas found too large
LOOK_S: Final = 5.0  # real seconds between two looks at what waits in Redis, and at Redis's settings


class Service:
    """One endpoint. Made, started and stopped on the event loop that serves it."""

    def __init__(self, settings: Settings, clock: Clock, environ: Mapping[str, str]) -> None:
        """Reads the policy and opens what one process owns alone. Raises FileProblem and StoreUnavailable."""
        self.settings = settings
        self.clock = clock
        self.stopping = False
        self.ongoing = Ongoing()
        self._down_since_us = 0
        self.started_s = clock.wall_us() // US_PER_S
        self.reloader = Reloader(
            settings.policy_paths,
            clock,
            environ=environ,
            assume_deployed=settings.assume_deployed,
            adapt=None if settings.simulated is None else settings.simulated.instead,
            on_swap=self._swapped,
            on_refused=self._refused,
        )
        self.history = PolicyHistory(settings.ledger, settings.replica, clock)
        self.history.note(self.reloader.editions()[0])
        self.parts = make_parts(settings, clock, self.policy.caps, self._warned, self._store_changed)
        self.store = self.parts.store
        self.meters = MeteredPools(self.parts.meters, clock)
        self.accounting = Accounting(self.store, self.meters, clock)
        shared = self.parts.shared
        signals = None if shared is None else shared.signals
        self.live = LivePools(
            clock,
            on_change=self.meters.set_containers,
            on_missed=self.meters.missed,
            on_listed=self.meters.listed,
            on_ended=self.meters.ended,
            elsewhere=self.parts.meters.elsewhere,
            shapes=signals,
        )
        if shared is not None:
            shared.meters.on_heard = self._heard
        self.metrics = MetricsSink(self.live.states, settings.metrics_by_tenant)
        self.metrics.registry.register(StoreGauges(self.parts))
        self.parts.on_posted(self.metrics.house.posted)
        self._log = LogSink()
        self.session = make_session()
        self.webhooks = WebhookSink(self.session, clock, self.metrics.webhook_told)
        self.feed = Feed()
        self.events = Fanout((self.metrics, self._log, self.webhooks, self.feed))
        self.backends: dict[str, HttpBackend] = {}
        self.platform: PoolPlatform | None = None
        self.warmups = WarmUps(self.live, clock, self.platform, self._knock, signals)
        self.controller = self._controller()
        self.past = PastAnswers(settings.ledger, self.controller.expectation, clock)
        self.scraping = Scraping(self.live, self.backends, self._container_at, clock)
        self.loops = Loops(clock, self._retried)
        well = ServiceGauges(lambda: self.reloader.state().last_error, lambda: self.loops.dead)
        self.metrics.registry.register(well)
        self._apply(self.policy)

    def _controller(self) -> Controller:
        gatherer = Gatherer(self.live, self.store, self.clock)
        attempts = Attempts(
            gatherer=gatherer,
            live=self.live,
            warmups=self.warmups,
            accounting=self.accounting,
            meters=self.meters,
            backends=self.backends,
            retry_budget=RetryBudget(self.ongoing.__len__),
            events=self.events,
            clock=self.clock,
        )
        sizes = PromptSizes(self.backends, self.live)
        return Controller(
            attempts, Continuing(attempts, self.events), sizes, OutputExpectation(), self.events, self.clock, Sessions()
        )

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.reloader.policy

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Reach for the store, look at the platform once, so that pools that are awake are known; start the loops."""
        await self.parts.start()
        await self._poll_platform()
        self.loops.every("tick", self._tick_s(), self.accounting.tick)
        self.loops.every("house", self.settings.house_flush_s, self.meters.post_house)
        self.loops.every("platform", poll_every_s(self.policy, self.settings.platform_poll_s), self._poll_platform)
        self.loops.every("reload", self.policy.reload_poll_s, self._check_files)
        self.loops.every("scrape", LOOK_AT_ENGINES_S, self._scrape)
        self.loops.run("store", self.store.keep_up())
        self.loops.run("policy history", self.history.keep())
        if self.parts.shared is None:
            self.loops.once("past answers", self.past.recall())
        else:
            self._start_shared(self.parts.shared)

    def _start_shared(self, shared: Shared) -> None:
        """What goes on between this replica and the others, in real seconds where it is about servers."""

        async def hear_shapes() -> None:
            if self.store.up:
                self.live.heard_shapes(await shared.signals.shapes(self.policy.pools))

        async def keep_name() -> None:
            if self.store.up:
                try:
                    await shared.name.keep()
                except StoreUnavailable as trouble:
                    self.store.fell(trouble)

        self.loops.run("ledger", shared.drain())
        self.loops.once("past answers", self.past.recall(shared.ledger_reached))
        self.loops.every("feed", TURN_S * self.clock.speedup, FeedSharing(self.feed, shared.feed).turn)
        self.loops.every("name", NAME_LEASE_S / 3 * self.clock.speedup, keep_name)
        self.loops.every("shapes", SHAPES_S, hear_shapes)
        self.loops.every("look around", LOOK_S * self.clock.speedup, shared.look_around)

    def _tick_s(self) -> float:
        wanted = min(request_class.limits.hold_tick_s for request_class in self.policy.classes.values())
        return max(wanted, TICK_AT_LEAST_S * self.clock.speedup)

    async def stop(self) -> None:
        """End the loops, write what boots and idle containers have cost, close everything."""
        await self.loops.stop()
        await self._poll_platform()
        with self._losing():
            await self.meters.post_house()
        await self.warmups.aclose()
        if self.platform is not None:
            await self.platform.aclose()
        with self._losing():
            await self.parts.aclose()
        await self.webhooks.aclose()
        await self.session.close()
        self._log.flush()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """At the end there is no later: what cannot be written is said to be lost."""
        try:
            yield
        except StoreUnavailable as trouble:
            self.events.emit(StoreTrouble("lost", str(trouble)))

    async def drain(self) -> None:
        """Let running requests end within the grace time, then end them with an error; every one is settled."""
        self.stopping = True
        self.feed.close()
        for _ in range(int(self.settings.grace_s * 10)):
            if not self.ongoing:
                return
            await asyncio.sleep(0.1)
        self.ongoing.interrupt_all(Cause.SHUTDOWN)

    # -- policy ------------------------------------------------------------------------------------------------------

    def _apply(self, policy: Policy) -> None:
        self.meters.apply(policy)
        self.accounting.replace_caps(policy.caps)
        self.parts.apply(policy)
        self.live.configure({name: _live_settings(policy, name) for name in policy.pools})
        for name, endpoint in policy.endpoints.items():
            self.backends[name] = HttpBackend(
                endpoint.url,
                self.session,
                self.clock,
                api_key=endpoint.api_key,
                headers=endpoint.headers,
                believed_asleep=partial(self._believed_asleep, name),
            )
        self.platform = platform_of(policy, self.platform, self.session, self.clock)
        self.warmups.platform = self.platform
        self.webhooks.configure(policy.webhooks)
        self.metrics.policy_in_force(policy.version)
        self.metrics.model_in_force(policy.prediction.model)

    def _container_at(self, address: str) -> HttpBackend:
        return HttpBackend(address, self.session, self.clock)

    async def _knock(self, pool: str, timeout_s: float) -> bool:
        """Who waits for a pool behind a wrong address waits long: the log says it, each reason once in a row."""
        backend, before = self.backends[pool], self.backends[pool].unreached
        answered = await backend.knock(timeout_s)
        if backend.unreached not in (None, before):
            LOGGER.warning("pool not reached", extra={"fields": {"pool": pool, "detail": backend.unreached}})
        return answered

    def _believed_asleep(self, pool: str) -> bool:
        return self.live.pool(pool).perhaps_asleep

    def _swapped(self, old: Policy, new: Policy) -> None:
        self._apply(new)
        self.history.note(self.reloader.editions()[0])
        self.events.emit(PolicyReloaded(new.version, old.version))

    def _refused(self, problem: FileProblem) -> None:
        self.events.emit(PolicyRefused(self.policy.version, tuple(problem.problems)))

    async def _check_files(self) -> None:
        with considerate():
            found = await asyncio.to_thread(self.reloader.examine)
            self.reloader.adopt(found)
            if found.loaded:
                settled()

    # -- pools -------------------------------------------------------------------------------------------------------

    async def _poll_platform(self) -> None:
        if self.platform is None:
            return
        try:
            containers = await self.platform.containers()
        except PlatformUnavailable as trouble:
            self.metrics.platform_said(listed=False)
            LOGGER.warning("platform not reached", extra={"fields": {"detail": str(trouble)}})
            self.live.observe_containers(self.clock.wall_us(), trouble.listed, whole=False)
            return
        self.metrics.platform_said(listed=True)
        self.live.observe_containers(self.clock.wall_us(), containers)
        await rest(self.platform, self.live, self.policy)

    async def _scrape(self) -> None:
        await self.scraping.look(self.policy)

    def _warned(self, warning: CapWarning) -> None:
        self.events.emit(
            CapWarned(warning.cap, str(warning.scope), warning.window, warning.spent_nusd, warning.amount_nusd)
        )

    # -- the store -------------------------------------------------------------------------------------------------

    def _store_changed(self, state: StoreState) -> None:
        """An outage has begun or ended."""
        if state.down_since_us is not None:
            self._down_since_us = state.down_since_us
            self.events.emit(StoreTrouble("down", state.trouble))
        else:
            self.events.emit(StoreBack((self.clock.wall_us() - self._down_since_us) / US_PER_S))

    def _retried(self, trouble: StoreUnavailable) -> None:
        self.events.emit(StoreTrouble("retry", str(trouble)))

    def _heard(self, heard: Heard) -> None:
        self.live.heard(*heard)

    # -- what routes ask ---------------------------------------------------------------------------------------------

    def class_of(self, model: str) -> str:
        """The class that a model name means. Raises ApiError `model_not_found`."""
        try:
            return resolve(self.policy, model).request_class
        except UnknownModel as unknown:
            raise ApiError("model_not_found", str(unknown), param="model") from None

    def medium_of(self, model: str) -> ModelKind | None:
        """What a model name makes where that is no text. Raises ApiError `model_not_found`."""
        return medium_of(self.policy.classes[self.class_of(model)])

    async def find_request(self, request_id: str) -> StoredRequest | None:
        """A past request from the ledger, read in a thread: the event loop never touches the disk."""
        return await asyncio.to_thread(find_request, self.settings.ledger, request_id)

    def warm_up(self, caller: Caller, model: str | None, pool: str | None) -> dict[str, Any]:
        """Start waking a pool, or the one that a request of a model name would get. Raises ApiError."""
        policy = self.policy
        if pool is None:
            if model is None:
                raise ApiError("invalid_value", "name a 'model' (class, class:tier, alias) or a 'pool' to warm")
            decision = self.controller.plan(RouteBody(model=model), caller, policy)
            pool = decision.chosen.pool.name if decision.chosen else decision.warm
            if pool is None:
                raise ApiError("no_capable_pool", f"no pool of '{model}' can be warmed now; POST /v1/route says why")
        if pool not in policy.endpoints:
            known = ", ".join(sorted(policy.endpoints)) or "none"
            raise ApiError("model_not_found", f"pool '{pool}' has no endpoint; those that have: {known}", param="pool")
        state = self.live.state(pool)
        if state.cold:
            self.warmups.start(pool)
        expected_s = 0.0 if not state.cold else state.boot_left_s or policy.boots_s[pool]
        status = "ready" if not state.cold else "starting"
        return {"pool": pool, "status": status, "expected_ready_in_s": round(expected_s, 1)}


def _always_on(spec: PoolSpec, endpoint: PoolEndpoint | None) -> int:
    """An API that is billed by the token is simply there."""
    if endpoint is None:
        return 0
    return endpoint.always_on if spec.terms is None else 1


def _live_settings(policy: Policy, name: str) -> LiveSettings:
    spec = policy.pools[name]
    endpoint = policy.endpoints.get(name)
    return LiveSettings(
        boot_s=policy.boots_s[name],
        scaledown_window_s=spec.scaledown_window_s,
        min_containers=spec.min_containers,
        always_on=_always_on(spec, endpoint),
        deployed=endpoint is not None,
        drained=name in policy.drained,
        kv_cache=spec.kv_cache,
        wakeable=_wakeable(policy, name),
    )


def _wakeable(policy: Policy, pool: str) -> bool:
    ref = None if policy.kubernetes is None else policy.kubernetes.deployments.get(pool)
    return ref is None or ref.scale_to_zero
