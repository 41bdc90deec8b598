"""What a load came to: latencies, tokens, errors, and dollars at the pool's rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pools.media import clip_us
from pools.platform import ContainerInfo
from pricing.clock import US_PER_S
from pricing.money import cost_nusd, half_even_nusd
from pricing.prices.billed import ALL_BILLED, Billed
from router.measure.cold import ColdStart
from router.measure.load import Load, Sample
from router.measure.subject import Shape, Subject

TOKENS = 1_000_000  # that prices of language models are stated for


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds of several requests: their mean and nearest-rank percentiles, each a time that was measured."""

    mean_us: float
    p50_us: int
    p90_us: int
    p95_us: int
    p99_us: int
    max_us: int


def spread(values: Sequence[int]) -> Spread | None:
    """None where nothing was measured."""
    if not values:
        return None
    ordered = sorted(values)

    def rank(percent: int) -> int:
        return ordered[-(-percent * len(ordered) // 100) - 1]

    return Spread(sum(ordered) / len(ordered), rank(50), rank(90), rank(95), rank(99), ordered[-1])


@dataclass(frozen=True, slots=True)
class Serving:
    """Container time under the load. `by` is `platform`, where a list of containers says it, or `row`, where it is as
    many containers as the row's target_concurrency makes of the concurrency (`always_on` ones of a plain server).
    """

    container_us: int
    by: str


def listed_serving(containers: Sequence[ContainerInfo], began_us: int, ended_us: int) -> Serving:
    """Container time that a platform's list shows between two wall instants. Those that are gone are not seen.

    A container that serves, of which the list does not say since when, counts from its start.
    """
    ready = [one.started_us if one.ready_us is None else one.ready_us for one in containers if one.state == "ready"]
    return Serving(sum(max(0, ended_us - max(began_us, since_us)) for since_us in ready), "platform")


def assumed_serving(subject: Subject, shape: Shape, wall_us: int) -> Serving:
    """One container, or as many as the pool's row makes of this concurrency."""
    pool = subject.pool
    if subject.always_on:
        count = subject.always_on
    elif pool is None:
        count = 1
    else:
        count = min(pool.max_containers, -(-min(shape.concurrency, shape.requests) // pool.target_concurrency))
    return Serving(count * wall_us, "row")


@dataclass(frozen=True)
class Measurement:
    """One measurement. `began_us` is its wall instant; amounts are None where no rate, or no answer, is there."""

    subject: Subject
    shape: Shape
    began_us: int
    warm: Sample
    load: Load
    serving: Serving
    cold: ColdStart | None = None
    engine_version: str | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the load did not come to its end."""
        return len(self.load.samples) < self.shape.requests

    @cached_property
    def answers(self) -> list[Sample]:
        return [sample for sample in self.load.samples if sample.failure is None]

    @cached_property
    def errors(self) -> Counter[str]:
        """Failed requests by failure class."""
        return Counter(sample.failure.value for sample in self.load.samples if sample.failure is not None)

    @cached_property
    def latency(self) -> Spread | None:
        return spread([sample.latency_us for sample in self.answers])

    @cached_property
    def first_token(self) -> Spread | None:
        return spread([sample.ttft_us for sample in self.answers if sample.ttft_us is not None])

    @property
    def error_rate(self) -> float | None:
        return self.errors.total() / len(self.load.samples) if self.load.samples else None

    @property
    def tokens(self) -> int:
        """Generated tokens of whole answers."""
        return sum(sample.tokens for sample in self.answers)

    @property
    def tokens_mean(self) -> float | None:
        return self.tokens / len(self.answers) if self.answers else None

    @property
    def prompt_tokens_mean(self) -> float | None:
        counts = [sample.prompt_tokens for sample in self.answers if sample.prompt_tokens is not None]
        return sum(counts) / len(counts) if counts else None

    @property
    def tokens_per_s(self) -> float:
        """Of all answers together, over the wall time of the load."""
        return self.tokens * US_PER_S / self.load.wall_us if self.load.wall_us else 0.0

    @property
    def answers_per_s(self) -> float:
        """Whole answers over the wall time of the load: pictures or clips, where those are asked for."""
        return len(self.answers) * US_PER_S / self.load.wall_us if self.load.wall_us else 0.0

    @property
    def token_us(self) -> float | None:
        """Mean time from one token to the next, over all answers: first token to end, by the tokens after the first."""
        pairs = [
            (one.ended_us - one.first_us, one.tokens - 1) for one in self.answers if one.first_us and one.tokens > 1
        ]
        return sum(us for us, _ in pairs) / sum(count for _, count in pairs) if pairs else None

    @property
    def in_flight_mean(self) -> float:
        """Requests at a time, over the load; below the concurrency, since the last ones end one by one."""
        return sum(sample.latency_us for sample in self.load.samples) / self.load.wall_us if self.load.wall_us else 0.0

    @property
    def containers_mean(self) -> float:
        return self.serving.container_us / self.load.wall_us if self.load.wall_us else 0.0

    @property
    def beside(self) -> int:
        """Others that ran beside each request in its container, rounded: what the service-time model asks for."""
        return max(0, round(self.in_flight_mean / max(1.0, self.containers_mean)) - 1)

    # -- money: the time of the containers under the load × rate; boot and idle window are stated apart

    @property
    def cost_nusd(self) -> int | None:
        rate = self.subject.rate_nusd_per_h
        return None if rate is None else cost_nusd(rate, self.serving.container_us)

    def share_nusd(self, of: int, count: int) -> int | None:
        """The cost of `count` out of `of`, rounded half to even. Those that were answered pay for those that failed."""
        cost = self.cost_nusd
        return None if cost is None or not of else half_even_nusd(cost * count, of)

    @property
    def request_nusd(self) -> int | None:
        return self.share_nusd(len(self.answers), 1)

    @property
    def thousand_nusd(self) -> int | None:
        return self.share_nusd(len(self.answers), 1000)

    @property
    def video_s_nusd(self) -> int | None:
        """A second of video; None where clips were not asked for."""
        asked, pool = self.shape.media, self.subject.pool
        clip = 0 if asked is None or pool is None else clip_us(asked.on(pool.model.item))
        return self.share_nusd(len(self.answers) * clip, US_PER_S)

    @property
    def million_tokens_nusd(self) -> int | None:
        return self.share_nusd(self.tokens, TOKENS)

    @property
    def boot_nusd(self) -> int | None:
        return None if self.cold is None else self._at_rate(self.cold.boot_s, is_billed=self._billed.boot)

    @property
    def idle_window_nusd(self) -> int | None:
        """What the pool's scale-down window costs after the last request."""
        pool = self.subject.pool
        if pool is None or self.subject.always_on:
            return None
        return self._at_rate(pool.scaledown_window_s, is_billed=self._billed.idle)

    @property
    def _billed(self) -> Billed:
        """A price of the command line is of all time."""
        return ALL_BILLED if self.subject.rate is None else self.subject.rate.billed

    def _at_rate(self, duration_s: float, *, is_billed: bool) -> int | None:
        rate = self.subject.rate_nusd_per_h
        return None if rate is None else cost_nusd(rate if is_billed else 0, round(duration_s * US_PER_S))
