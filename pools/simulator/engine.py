"""Continuous batching of one container, as a pure state machine on integer microseconds.

Like vLLM's V1 scheduler: a step decodes one token of every running sequence and spends what is left of its token
budget on prefill, in chunks; waiting sequences are admitted in order while there is a slot and KV cache for their
prompt; when the cache is full the youngest running sequence is preempted and computed again later.

A step costs O(1) unless somebody joins or leaves: sequences that decode share one step counter, so a sequence's
progress is `base + steps since it joined`, read when somebody asks.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

from pools.simulator.roofline import EngineProfile


class Stage(Enum):
    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The flags of `vllm serve` that are imitated, and the one physical figure that a test may want to set.

    `kv_tokens` overrides the KV cache that the pool's memory leaves. `max_num_queued_reqs` bounds running + waiting
    of a container (503 above it); None is vLLM's default, an unbounded queue.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_num_queued_reqs: int | None = None
    kv_tokens: int | None = None


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer being computed: `output_tokens` (at least 1) after `prompt_tokens`.

    `stride` > 1 makes it slow: one token every so many steps. `fatal` kills the engine at its last token.
    `ended_us` is when it ended by itself. The fields with an underscore are the engine's.
    """

    prompt_tokens: int
    output_tokens: int
    stride: int = 1
    fatal: bool = False
    stage: Stage = Stage.WAITING
    ended_us: int | None = None
    _base: int = 0  # tokens produced when it joined the decoding batch
    _joined: int = 0  # the engine's step count then
    _kv: int = 0  # KV tokens held then
    _left: int = 0  # tokens still to prefill
    _finish_step: int = 0


class Engine:
    """The scheduler of one container. Time only moves forward; every method takes the present in microseconds."""

    def __init__(self, profile: EngineProfile, settings: EngineSettings) -> None:
        self.profile = profile
        self.settings = settings
        self.kv_tokens = settings.kv_tokens or profile.kv_tokens
        self.kv_used = 0
        self.dead = False
        self.preemptions = 0
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self.finished: Counter[str] = Counter()  # by finish reason
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._decoding: dict[Sequence, None] = {}  # in the order they joined
        self._finishes: list[tuple[int, int, Sequence]] = []  # heap: step, tie-break, sequence
        self._ties = 0
        self._steps = 0
        self._chunks: list[tuple[Sequence, int]] = []  # prefill of the step under way
        self._step_began_us = 0
        self._step_ends_us: int | None = None

    @property
    def running(self) -> int:
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def produced(self, sequence: Sequence) -> int:
        """Tokens of a sequence that exist by now."""
        if sequence.stage is Stage.DECODE:
            return sequence._base + (self._steps - sequence._joined) // sequence.stride
        return sequence.output_tokens if sequence.stage is Stage.ENDED else sequence._base

    def add(self, sequence: Sequence, now_us: int) -> None:
        """Queue a sequence; it joins at the next step."""
        sequence._left = sequence.prompt_tokens
        self.prompt_tokens_total += sequence.prompt_tokens
        self._waiting.append(sequence)
        if self._step_ends_us is None:
            self._begin(now_us)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence whose client has left; its slot and cache are free at once."""
        if sequence.stage is Stage.WAITING:
            self._waiting.remove(sequence)
        elif sequence.stage is Stage.PREFILL:
            self._prefilling.remove(sequence)
            self._chunks = [chunk for chunk in self._chunks if chunk[0] is not sequence]
            self.kv_used -= sequence._kv
        elif sequence.stage is Stage.DECODE:
            self._leave_batch(sequence)
        sequence.output_tokens = self.produced(sequence)
        sequence.stage = Stage.ENDED

    def advance(self, until_us: int) -> list[Sequence]:
        """Run every step that ends by `until_us`; the sequences that ended, in order. A death ends the run."""
        ended: list[Sequence] = []
        while self._step_ends_us is not None and self._step_ends_us <= until_us:
            at_us = self._step_ends_us
            self._complete(at_us, ended)
            if self.dead:
                self._step_ends_us = None
            else:
                self._begin(at_us)
        return ended

    def next_milestone_us(self) -> int | None:
        """About when the next sequence gets its first token or ends; None when nothing runs."""
        if self._step_ends_us is None or self._chunks or not self._finishes:
            return self._step_ends_us
        more_steps = max(0, self._finishes[0][0] - self._steps - 1)
        return self._step_ends_us + more_steps * (self._step_ends_us - self._step_began_us)

    def _begin(self, at_us: int) -> None:
        """Plan the step that starts now, or go idle."""
        self._plan_prefill(admits=not self._make_room())
        if not self._decoding and not self._chunks:
            self._step_ends_us = None
            return
        tokens = sum(size for _, size in self._chunks)
        pairs = sum(size * (item._kv - item._left + size // 2) for item, size in self._chunks)
        step_us = self.profile.step_us(len(self._decoding), self.kv_used, tokens, pairs)
        self._step_began_us = at_us
        self._step_ends_us = at_us + step_us

    def _make_room(self) -> bool:
        """Preempt the youngest until every running sequence has room for one more token; whether one had to go."""
        before = self.preemptions
        while self.kv_used + len(self._decoding) > self.kv_tokens and len(self._decoding) > 1:
            victim = next(reversed(self._decoding))
            produced = self.produced(victim)
            self._leave_batch(victim)
            victim.stage = Stage.WAITING
            victim._base = produced
            victim._left = victim.prompt_tokens + produced
            self._waiting.appendleft(victim)
            self.preemptions += 1
        return self.preemptions > before

    def _plan_prefill(self, *, admits: bool) -> None:
        """Spend the step's token budget on prompts; after a preemption nobody new is admitted."""
        self._chunks = []
        if not self._waiting and not self._prefilling:
            return
        budget = self.settings.max_num_batched_tokens - len(self._decoding)
        for sequence in self._prefilling:
            budget = self._take_chunk(sequence, budget)
        while admits and self._waiting and budget > 0 and self._fits(self._waiting[0]):
            sequence = self._waiting.popleft()
            sequence.stage = Stage.PREFILL
            sequence._kv = sequence._left + self.profile.state_tokens
            self.kv_used += sequence._kv
            self._prefilling.append(sequence)
            budget = self._take_chunk(sequence, budget)

    def _fits(self, sequence: Sequence) -> bool:
        if self.running >= self.settings.max_num_seqs:
            return False
        need = sequence._left + self.profile.state_tokens + len(self._decoding)
        return self.running == 0 or self.kv_used + need <= self.kv_tokens

    def _take_chunk(self, sequence: Sequence, budget: int) -> int:
        size = min(sequence._left, budget)
        if size > 0:
            self._chunks.append((sequence, size))
        return budget - max(0, size)

    def _complete(self, at_us: int, ended: list[Sequence]) -> None:
        """The step under way is done: its tokens exist."""
        self._steps += 1
        self.kv_used += len(self._decoding)
        self.generation_tokens_total += len(self._decoding)
        while self._finishes and self._finishes[0][0] <= self._steps:
            finish_step, _, sequence = heapq.heappop(self._finishes)
            if sequence.stage is Stage.DECODE and sequence._finish_step == finish_step:
                self._leave_batch(sequence)
                self._end(sequence, at_us, ended)
        for sequence, size in self._chunks:
            sequence._left -= size
            if sequence._left == 0:
                self._prefilling.remove(sequence)
                self._join_batch(sequence, at_us, ended)

    def _join_batch(self, sequence: Sequence, at_us: int, ended: list[Sequence]) -> None:
        """Prefill is done, and with it the first token (a slow sequence waits for its own)."""
        if sequence.stride == 1:
            sequence._base += 1
            sequence._kv += 1
            self.kv_used += 1
            self.generation_tokens_total += 1
        if sequence._base >= sequence.output_tokens:
            self.kv_used -= sequence._kv
            self._end(sequence, at_us, ended)
            return
        sequence.stage = Stage.DECODE
        sequence._joined = self._steps
        sequence._finish_step = self._steps + (sequence.output_tokens - sequence._base) * sequence.stride
        self._decoding[sequence] = None
        self._ties += 1
        heapq.heappush(self._finishes, (sequence._finish_step, self._ties, sequence))

    def _leave_batch(self, sequence: Sequence) -> None:
        del self._decoding[sequence]
        self.kv_used -= sequence._kv + self._steps - sequence._joined

    def _end(self, sequence: Sequence, at_us: int, ended: list[Sequence]) -> None:
        sequence.stage = Stage.ENDED
        sequence.ended_us = at_us
        ended.append(sequence)
        self.dead = self.dead or sequence.fatal
