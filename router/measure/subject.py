"""What is measured, and with which load: everything that a measurement is given before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pools.media import MediaAsked
from pools.spec import PoolSpec
from pricing.errors import SluiceError
from pricing.prices.rates import ContainerRate

PATIENCE_S: Final = 600.0
"""Of one request, whole; as long as the policies' `max_total_s`."""

STALL_S: Final = 60.0
"""Between two tokens. Longer than a policy's 20 s: a measurement wants to see slow answers, not to move on."""


class CannotMeasure(SluiceError):
    """What was asked for cannot be measured; the message says what to give instead."""


class Stopped(SluiceError):
    """The operator interrupted before anything was measured."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The load: `requests` answers, `concurrency` of them at a time, each of the given sizes in tokens.

    `media` is what each asks for of a pool that makes pictures or clips, where tokens count for nothing.
    """

    requests: int = 50
    concurrency: int = 10
    prompt_tokens: int = 128
    output_tokens: int = 256
    seed: int = 0
    exact_length: bool = True
    timeout_s: float = PATIENCE_S
    media: MediaAsked | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """An endpoint that speaks OpenAI's API. `pool`, `boot_s` and `rate` are what the catalogue says of it.

    Without a `pool` nothing is claimed, and `rate_nusd_per_h` may be None, where nobody said what it costs.
    `always_on` counts containers of a plain server, 0 where a platform starts and stops them.
    """

    url: str
    model: str
    pool: PoolSpec | None = None
    boot_s: float | None = None
    rate_nusd_per_h: int | None = None
    rate: ContainerRate | None = None
    always_on: int = 0
    machine: str = "not stated"

    @property
    def shown_url(self) -> str:
        """The address without what may be secret in it: user, password, query."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def check_shape(shape: Shape, pool: PoolSpec) -> None:
    """Raises CannotMeasure for a load that this pool cannot take."""
    tokens = shape.prompt_tokens + shape.output_tokens
    if shape.media is None and tokens > pool.max_model_len:
        text = f"{shape.prompt_tokens} + {shape.output_tokens} tokens are more than the {pool.max_model_len} of"
        raise CannotMeasure(f"{text} '{pool.name}'; lower --prompt-tokens or --output-tokens")
    most = pool.max_concurrency * pool.max_containers
    if shape.concurrency > most:
        of = f"{pool.max_containers} containers × {pool.max_concurrency}"
        raise CannotMeasure(f"'{pool.name}' takes at most {most} requests at once ({of}); lower --concurrency")
