"""The measurement beside what catalogue and service-time model claim, and the keys of a row that close the gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pools.fit.timing import REQUEST_OVERHEAD_S, ServiceTime, timing_model
from pools.media import MediaAsked
from pools.spec import PoolSpec
from pricing.clock import US_PER_S
from router.measure.media import MADE, modelled_s, seconds_per_item
from router.measure.result import Measurement

CLOSE: Final = 0.2
"""A ratio this near to 1 is within the model's own error on published measurements (docs/catalogue.md: 7 to 14% in the
median, 20% at the 90th percentile) and no reason to change a row."""

LEAST_FACTOR: Final = 0.05
MOST_FACTOR: Final = 20.0
"""What a row may say. Beyond it something else was measured: a cache, a stub, another model."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure, measured and claimed, in the same unit."""

    what: str
    unit: str
    measured: float
    claimed: float

    @property
    def ratio(self) -> float | None:
        return self.measured / self.claimed if self.claimed else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Keys for the pool's row. `time_factor` replaces the row's; `boot_s` is None where no boot was measured.

    `seconds_per_item` is what the model's row could say for this GPU instead; None for models that make text.
    """

    time_factor: float
    boot_s: float | None
    seconds_per_item: float | None = None


def claims(measured: Measurement) -> list[Claim]:
    """Empty without a pool, or without a whole answer."""
    subject = measured.subject
    found: list[Claim] = []
    if subject.pool is not None and measured.shape.media is not None:
        found += _media_claims(measured, subject.pool)
    elif subject.pool is not None and measured.latency is not None and measured.first_token is not None:
        time = _modelled(measured, subject.pool)
        modelled_tokens_per_s = measured.in_flight_mean * (measured.tokens_mean or 0.0) / time.total_s
        found += [
            Claim("first token, mean", "s", measured.first_token.mean_us / US_PER_S, time.ttft_s),
            Claim("first token, p95", "s", measured.first_token.p95_us / US_PER_S, time.ttft_p95_s),
            Claim("whole answer, mean", "s", measured.latency.mean_us / US_PER_S, time.total_s),
            Claim("all tokens, a second", "/s", measured.tokens_per_s, modelled_tokens_per_s),
        ]
    if measured.cold is not None and subject.boot_s is not None:
        found.append(Claim("boot", "s", measured.cold.boot_s, subject.boot_s))
    return found


def calibration(measured: Measurement) -> Calibration | None:
    """What the row should say; None without a pool, without a whole answer, and where the factor is beyond reason.

    The model's times are its factor × a sum, but for a fixed overhead of each request. So the factor that makes
    the mean answer what was measured is the ratio of both without that overhead, times the factor that the row has.
    """
    pool = measured.subject.pool
    if pool is None or measured.latency is None:
        return None
    asked = measured.shape.media
    overhead_s = REQUEST_OVERHEAD_S if asked is None else 0.0
    took_s = max(0.0, measured.latency.mean_us / US_PER_S - overhead_s)
    modelled = _modelled(measured, pool).total_s if asked is None else _modelled_media(measured, pool, asked)
    factor = pool.time_factor * took_s / (modelled - overhead_s)
    if not LEAST_FACTOR <= factor <= MOST_FACTOR:
        return None
    boot_s = None if measured.cold is None else round(measured.cold.boot_s, 1)
    item_s = None if asked is None else round(seconds_per_item(pool, asked, factor), 3)
    return Calibration(round(factor, 3), boot_s, item_s)


def _media_claims(measured: Measurement, pool: PoolSpec) -> list[Claim]:
    asked, latency = measured.shape.media, measured.latency
    if asked is None or latency is None:
        return []
    whole_s, what = _modelled_media(measured, pool, asked), MADE[asked.kind]
    return [
        Claim(f"whole {what}, mean", "s", latency.mean_us / US_PER_S, whole_s),
        Claim(f"{what}s, an hour", "/h", 3600 * measured.answers_per_s, 3600 * measured.in_flight_mean / whole_s),
    ]


def _modelled_media(measured: Measurement, pool: PoolSpec, asked: MediaAsked) -> float:
    return modelled_s(pool, asked, measured.in_flight_mean / max(1.0, measured.containers_mean))


def _modelled(measured: Measurement, pool: PoolSpec) -> ServiceTime:
    """The model's time of what was sent: sizes as the engine counted them, or as asked for where it did not."""
    counted = measured.prompt_tokens_mean
    prompt = measured.shape.prompt_tokens if counted is None else round(counted)
    return timing_model(pool).estimate(prompt, round(measured.tokens_mean or 0), measured.beside)
