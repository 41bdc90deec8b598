"""What a running attempt costs, by the way in which its pool is billed: seconds of containers, or tokens.

A pool that is billed by the second has a meter, which attempts enter with their holds and whose clock their neighbours
turn too. One that is billed by the token has none: what an attempt costs there is its own usage at the prices of its
book, whoever else runs, so that this replica alone can say it. Holds, ticks, cuts and settlements are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from pools.spec import PoolSpec
from pricing.budgets.store import MeterEntry
from pricing.clock import US_PER_S, Clock
from pricing.ledger.rows import Evidence
from pricing.meter.meters import Charge, Meters, Reading
from pricing.prices.rates import ContainerRate
from pricing.prices.token_price import TokenPrice

BYTES_PER_TOKEN: Final = 4
"""Of what an answer says, while no usage has been told: the prior of prompts (`pools.wire.tokens`)."""


class Charged(Protocol):
    """What is asked of an attempt, see `router.money.accounting.Attempt`."""

    hold_id: str
    pool: PoolSpec
    rate: ContainerRate
    weight: int
    kv_tokens: int
    share_nusd_per_h: int
    dispatched_us: int
    expected_prompt_tokens: int
    output_bound: int
    streamed: bool
    produced_tokens: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int
    refused: bool
    estimated: bool


class Charging(Protocol):
    """One way of billing. Attempts are those of pools that are billed so."""

    def entry(self, attempt: Charged) -> MeterEntry | None:
        """What an attempt's hold enters its pool's meter with; None where there is none."""
        ...

    async def read(self, attempts: Sequence[Charged]) -> Mapping[str, Reading]:
        """What each has cost so far, and is costing an hour, by hold; those of which nothing is known are left out."""
        ...

    async def leave(self, attempt: Charged) -> Charge:
        """The attempt's work is done: what it costs. Asked again, it gives the same answer.

        Raises StoreUnavailable, and HoldEnded where nothing is known of it.
        """
        ...


class BySeconds:
    """A share of busy container time, as the pool's meter says."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def entry(self, attempt: Charged) -> MeterEntry | None:
        return MeterEntry(attempt.pool.name, attempt.weight, attempt.kv_tokens)

    async def read(self, attempts: Sequence[Charged]) -> Mapping[str, Reading]:
        return await self._meters.read([(attempt.pool.name, attempt.hold_id) for attempt in attempts])

    async def leave(self, attempt: Charged) -> Charge:
        return await self._meters.leave(attempt.pool.name, attempt.hold_id)


class ByTokens:
    """Usage at the prices of a book. No step waits.

    While an answer is being written its tokens are estimated: of a stream from what it has said, of one that comes
    whole from the time and the speed that the pool's row states, to its bound at most. `usage` then says what they
    were; where none comes, as of a stream that broke, the estimate is charged, marked so. An API that answered with an
    error bills nothing, unless it had begun to speak.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def entry(self, attempt: Charged) -> MeterEntry | None:
        return None

    async def read(self, attempts: Sequence[Charged]) -> Mapping[str, Reading]:
        return {
            attempt.hold_id: Reading(self._so_far_nusd(attempt, _price(attempt)), attempt.share_nusd_per_h)
            for attempt in attempts
        }

    async def leave(self, attempt: Charged) -> Charge:
        price = _price(attempt)
        if attempt.prompt_tokens is not None and attempt.completion_tokens is not None:
            usage = attempt.prompt_tokens, attempt.completion_tokens, attempt.cached_tokens
            return Charge(price.cost_nusd(*usage), Evidence.OBSERVED)
        if attempt.refused and not attempt.produced_tokens:
            return Charge(0, Evidence.OBSERVED)
        attempt.estimated = True
        return Charge(self._so_far_nusd(attempt, price), Evidence.MODELLED)

    def _so_far_nusd(self, attempt: Charged, price: TokenPrice) -> int:
        prompt = attempt.expected_prompt_tokens if attempt.prompt_tokens is None else attempt.prompt_tokens
        produced = attempt.produced_tokens if attempt.streamed else self._likely_tokens(attempt)
        return price.cost_nusd(prompt, max(produced, attempt.completion_tokens or 0), attempt.cached_tokens)

    def _likely_tokens(self, attempt: Charged) -> int:
        """Of an answer that comes whole: what may have been written of it by now."""
        terms = attempt.pool.terms
        if terms is None:
            return 0
        writing_s = (self._clock.mono_us() - attempt.dispatched_us) / US_PER_S - terms.first_token_s
        return min(attempt.output_bound, max(0, int(writing_s * terms.tokens_per_s)))


def _price(attempt: Charged) -> TokenPrice:
    price = attempt.rate.tokens
    assert price is not None  # its caller has looked
    return price


def tokens_said(text: bytes) -> int:
    """About how many tokens a frame brought that said something, at least one."""
    return max(1, len(text) // BYTES_PER_TOKEN)
