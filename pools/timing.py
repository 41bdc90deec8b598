"""How long a pool takes: first token, each token, and a boot. Roofline by GPU, batch and context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Expected seconds of one request: to its first token, to its last, and the first token's 95th percentile."""

    ttft_s: float
    total_s: float
    ttft_p95_s: float


@dataclass(frozen=True, slots=True)
class TimingModel:
    """One pool's coefficients, computed once at load so that an estimate is a few multiplications."""
