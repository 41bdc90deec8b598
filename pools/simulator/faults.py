"""Failures on demand: what an operator of the simulator may ask a pool to do wrong, and for which requests."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pools.simulator.request import EngineRequest
from pools.simulator.text import Output
from pricing.errors import SluiceError


class FaultKind(StrEnum):
    """How a request goes wrong. Only `engine_death` takes its container, and all others in it, along."""

    OUT_OF_MEMORY = "out_of_memory"  # 500 with CUDA's text; the container lives on
    ENGINE_DEATH = "engine_death"  # EngineCore dies: the recorded 500 to all in flight, the container is replaced
    CRASH_MID_STREAM = "crash_mid_stream"  # the recorded 500 and [DONE] in this stream only; `reset`: a cut connection
    HANG = "hang"  # headers, if streamed, and then nothing; /health stays 200
    STALL = "stall"  # as under SIGTERM: tokens, then nothing, no error and no end
    ABORT = "abort"  # under SIGTERM too, while others wait: tokens, then finish reason `abort` and [DONE]
    OVERLOAD = "overload"  # the queue is full: 503, inside a 200 when streamed
    REFUSE = "refuse"  # the connection is cut without an answer
    SLOW = "slow"  # one token every `factor` steps
    GARBAGE = "garbage"  # bytes that are no JSON, with status 200
    BAD_JSON = "bad_json"  # JSON answers are cut in the middle, with finish reason `stop`
    EMPTY = "empty"  # no text at all, with finish reason `stop`


class BadFault(SluiceError):
    """A fault that was asked for wrongly; the message says what is allowed."""


STRIKING = frozenset((FaultKind.OUT_OF_MEMORY, FaultKind.ENGINE_DEATH, FaultKind.CRASH_MID_STREAM, FaultKind.STALL))
DEFAULT_AFTER_TOKENS = {FaultKind.CRASH_MID_STREAM: 8, FaultKind.STALL: 8, FaultKind.ABORT: 8}


@dataclass(slots=True)
class Fault:
    """One standing order. It hits the next `count` requests, or each with probability `rate`.

    `after_tokens` is how many tokens come out before it strikes, `factor` how much slower `slow` is,
    `min_total_tokens` spares requests whose prompt and output bound together are smaller, `only_streams` those that are
    not streamed.
    """

    kind: FaultKind
    count: int | None = 1
    rate: float | None = None
    after_tokens: int = 0
    factor: int = 10
    min_total_tokens: int = 0
    reset: bool = False
    only_streams: bool = False

    @property
    def strikes(self) -> bool:
        """Whether the answer breaks off after `after_tokens` tokens."""
        return self.kind in STRIKING


class Faults:
    """The standing orders of one pool, oldest first."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._orders: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._orders.append(fault)

    def clear(self) -> None:
        self._orders.clear()

    def take(self, total_tokens: int, stream: bool) -> Fault | None:
        """The fault that hits such a request, if any; counts it down."""
        for fault in self._orders:
            if total_tokens < fault.min_total_tokens or (fault.only_streams and not stream):
                continue
            if fault.rate is not None:
                if self._rng.random() < fault.rate:
                    return fault
                continue
            if fault.count:
                fault.count -= 1
                if not fault.count:
                    self._orders.remove(fault)
                return fault
        return None


def parse_fault(data: object) -> Fault:
    """A fault from JSON: `{"kind": …, "count" | "rate": …, …}`. Raises BadFault."""
    if not isinstance(data, Mapping):
        raise BadFault('a fault is a JSON object, for example {"kind": "hang", "count": 1}')
    known = {"kind", "count", "rate", "after_tokens", "factor", "min_total_tokens", "reset", "only_streams"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise BadFault(f"unknown key '{unknown[0]}'; known: {', '.join(sorted(known))}")
    try:
        kind = FaultKind(str(data.get("kind")))
    except ValueError:
        raise BadFault(f"'kind' is one of {', '.join(FaultKind)}, not {data.get('kind')!r}") from None
    rate = _rate(data)
    return Fault(
        kind=kind,
        count=None if rate is not None else _whole(data, "count", 1, least=1),
        rate=rate,
        after_tokens=_whole(data, "after_tokens", DEFAULT_AFTER_TOKENS.get(kind, 0)),
        factor=_whole(data, "factor", 10, least=2),
        min_total_tokens=_whole(data, "min_total_tokens", 0),
        reset=data.get("reset") is True,
        only_streams=data.get("only_streams") is True,
    )


def _rate(data: Mapping[str, Any]) -> float | None:
    rate = data.get("rate")
    if rate is None:
        return None
    if "count" in data:
        raise BadFault("give 'count' or 'rate', not both")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise BadFault(f"'rate' is a share from 0 to 1, not {rate!r}")
    return float(rate)


def _whole(data: Mapping[str, Any], key: str, default: int, least: int = 0) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadFault(f"'{key}' is a whole number from {least} up, not {value!r}")
    return value


def spoil(request: EngineRequest, fault: Fault | None) -> EngineRequest:
    """The request with answers that `bad_json`, `empty` or `abort` spoiled; unchanged for any other fault."""
    if fault is None or fault.kind not in (FaultKind.EMPTY, FaultKind.BAD_JSON, FaultKind.ABORT):
        return request
    return replace(request, outputs=tuple(_spoilt(output, fault) for output in request.outputs))


def _spoilt(output: Output, fault: Fault) -> Output:
    if fault.kind is FaultKind.EMPTY:
        return Output(output.ids[:1], ("",), "stop")
    if fault.kind is FaultKind.BAD_JSON:
        return _first(output, len(output.ids) // 2, "stop")
    return _first(output, fault.after_tokens, "abort")


def _first(output: Output, tokens: int, finish_reason: str) -> Output:
    kept = max(1, tokens)
    return Output(output.ids[:kept], output.pieces[:kept], finish_reason)
