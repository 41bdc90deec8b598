"""An engine of 2023 with continuous batching and without paging, as LLM-Pilot measured it (TGIS).

Requests wait in order and join the batch while its admission limit, in tokens of prompt and answer, has room for them.
A step is a prefill of all who join, then one token for each of the batch. The cache of a batch is one piece of memory:
a step that needs more tokens than the GPU holds fails with CUDA out of memory, and with it every request of the batch.
The admission limit was meant to prevent that; it is above what the GPU holds, which is how the measured pools failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

FAILS_AFTER_DEATH_S: Final = 13.5  # median time until the measured server that had died (2×T4) refused a request


class OutOfMemory(Exception):
    """CUDA out of memory: the whole batch is lost."""


class EngineGone(Exception):
    """The server ended, or ended before and has not come back."""


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """Seconds of a prefill (`prefill_s` and for each token) and of a step (`step_s` and for each sequence); what the
    GPU holds and what the scheduler admits, in tokens. `dies`: out of memory ends the server.
    """

    prefill_s: float
    prefill_token_s: float
    step_s: float
    step_sequence_s: float
    holds_tokens: int
    admits_tokens: int
    dies: bool = False


@dataclass(slots=True, eq=False)
class _Sequence:
    prompt_tokens: int
    output_tokens: int
    done: asyncio.Future[None]
    produced: int = 0

    @property
    def held(self) -> int:
        return self.prompt_tokens + self.produced

    @property
    def whole(self) -> int:
        return self.prompt_tokens + self.output_tokens


class BatchEngine:
    """One server. `run` must run beside those who `generate`."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.out_of_memory = 0  # times, not requests
        self._waiting: deque[_Sequence] = deque()
        self._batch: list[_Sequence] = []
        self._wanted = asyncio.Event()
        self._gone = False

    async def generate(self, prompt_tokens: int, output_tokens: int) -> None:
        """Returns when the answer is complete. Raises OutOfMemory and EngineGone."""
        if self._gone:
            await asyncio.sleep(FAILS_AFTER_DEATH_S)
            raise EngineGone
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Sequence(prompt_tokens, output_tokens, done))
        self._wanted.set()
        await done

    async def run(self) -> None:
        """Work for ever."""
        while True:
            if not self._batch and not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            await self._prefill(self._joining())
            if self._batch:
                await self._decode()

    def _joining(self) -> list[_Sequence]:
        admitted = sum(sequence.whole for sequence in self._batch)
        joining: list[_Sequence] = []
        while self._waiting:
            admitted += self._waiting[0].whole
            if admitted > self.profile.admits_tokens and (self._batch or joining):
                break
            joining.append(self._waiting.popleft())
        return joining

    async def _prefill(self, joining: list[_Sequence]) -> None:
        if not joining:
            return
        tokens = sum(sequence.prompt_tokens for sequence in joining)
        await asyncio.sleep(self.profile.prefill_s + self.profile.prefill_token_s * tokens)
        self._batch += joining
        self._produce(joining)

    async def _decode(self) -> None:
        await asyncio.sleep(self.profile.step_s + self.profile.step_sequence_s * len(self._batch))
        self._produce(self._batch)

    def _produce(self, sequences: list[_Sequence]) -> None:
        """One more token each, if the whole batch then fits."""
        if sum(sequence.held for sequence in self._batch) + len(sequences) > self.profile.holds_tokens:
            self._fail()
            return
        for sequence in sequences:
            sequence.produced += 1
            if sequence.produced >= sequence.output_tokens:
                sequence.done.set_result(None)
        self._batch = [sequence for sequence in self._batch if not sequence.done.done()]

    def _fail(self) -> None:
        self.out_of_memory += 1
        lost, self._batch = self._batch, []
        self._gone = self.profile.dies
        if self._gone:
            lost += self._waiting
            self._waiting.clear()
        for sequence in lost:
            sequence.done.set_exception(EngineGone() if self._gone else OutOfMemory())
