"""Pool states from a file, for looking at a decision without live pools: `sluice explain --state FILE`.

    qwen3-vl-8b-fp8-l4: {ready: 1, in_flight: 3, idle_s: 20}
    qwen3-vl-8b-fp8-a10: {breaker: open, breaker_retry_s: 12}

Pools that the file does not name are cold, healthy and deployed; those with `always_on` at their endpoint are awake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from policies.files.schema import Shape
from policies.policy import Policy
from pools.live.state import BreakerState, PoolState
from pools.spec import Feature
from pricing.errors import FileProblem
from pricing.files.document import read_yaml
from pricing.files.validate import validate
from pricing.nearest import nearest

Count = Annotated[int, Field(ge=0)]
Wait = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StateShape(Shape):
    """What may be said of a pool; what is left out is as for a pool asleep and healthy.

    See `pools.live.state.PoolState`.
    """

    ready: Count = 0
    booting: Count = 0
    in_flight: Count = 0
    kv_tokens_in_flight: Count = 0
    most_in_flight: Count | None = None
    kv_ceiling: Count | None = None
    boot_left_s: Wait | None = None
    idle_s: Wait | None = None
    breaker: BreakerState = BreakerState.CLOSED
    breaker_retry_s: Wait = 0.0
    breaker_reason: str = ""
    probed: bool = False
    misconfigured: bool = False
    shapes_open: frozenset[Count] = frozenset()
    shapes_retry_s: Wait = 0.0
    features_off: frozenset[Feature] = frozenset()
    drained: bool = False
    deployed: bool = True
    wakeable: bool = True
    ttft_s: Wait | None = None
    foreign_in_flight: Count = 0
    foreign_kv_share: Annotated[float, Field(ge=0, le=1)] = 0.0


def cold_and_healthy(policy: Policy) -> dict[str, PoolState]:
    """Every pool of a policy asleep, healthy and deployed; drained ones are drained, and those always on are awake."""
    ready = {name: endpoint.always_on for name, endpoint in policy.endpoints.items()}
    return {name: PoolState(ready=ready.get(name, 0), drained=name in policy.drained) for name in policy.pools}


def read_states(path: Path, policy: Policy) -> dict[str, PoolState]:
    """The states of a YAML or JSON file over those of `cold_and_healthy`. Raises FileProblem for what is unknown."""
    document = read_yaml(path)
    if not isinstance(document.data, Mapping):
        raise FileProblem([document.problem((), "write a mapping from pool to its state, such as l4: {ready: 1}")])
    states = cold_and_healthy(policy)
    problems: list[str] = []
    for name, row in document.data.items():
        if name not in states:
            problems.append(document.problem((name,), f"no pool '{name}' in this policy{_hint(name, states)}"))
            continue
        try:
            shape = validate(document, StateShape, (name,), row)
        except FileProblem as error:
            problems += error.problems
            continue
        drained = shape.drained or states[name].drained
        states[name] = PoolState(**{**shape.model_dump(), "drained": drained})
    if problems:
        raise FileProblem(problems)
    return states


def _hint(name: object, known: Iterable[str]) -> str:
    return nearest(str(name), known) or f"; pools are {', '.join(known)}"
