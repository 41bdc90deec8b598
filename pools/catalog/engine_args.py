"""A pool's row as the command line of its engine.

Every argument is one that the row's engine version knows: `pools/catalog/engine_arguments.yaml` has them by release.
What a row's other keys decide (`max_model_len`, `gpu_count` …) cannot be said a second time under `engine_args`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from pools.catalog.known_arguments import KnownArguments, known_arguments
from pools.catalog.not_kept import not_kept
from pools.catalog.worker_args import worker_arguments, worker_serves, worker_takes, worker_wants
from pools.fit.compatibility import version
from pools.spec import ArgValue, Feature, PoolSpec
from pricing.errors import FileProblem
from pricing.nearest import nearest

DRAIN_S: Final = 25
"""How long vLLM lets requests end after SIGTERM: within the 30 s that a platform gives exit handlers."""

QUEUE_TIMES: Final = 2
"""Requests in the engine, running and waiting, over `max_concurrency`. The platform answers 429 at `max_concurrency`
already; this bounds what several answers to one request (`n`) and callers inside the container add."""

_OWNED: Final[Mapping[str, str]] = {
    "model": "model",
    "served-model-name": "served_model_name",
    "max-model-len": "max_model_len",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "tensor-parallel-size": "tensor_parallel",
    "data-parallel-size": "gpu_count and tensor_parallel",
    "data-parallel-size-local": "gpu_count and tensor_parallel",
    "pipeline-parallel-size": "gpu_count and tensor_parallel",
    "prefill-context-parallel-size": "gpu_count and tensor_parallel",
    "enable-expert-parallel": "expert_parallel",
    "max-num-seqs": "max_concurrency",
    "dtype": "quantization",
    "quantization": "quantization",
}
"""Arguments that other keys of a row decide."""

_PLATFORMS: Final = frozenset(
    {
        "host", "port", "uds", "grpc", "grpc-port", "ssl-certfile", "omni", "headless", "nnodes", "node-rank",
        "master-addr", "master-port", "data-parallel-address", "data-parallel-rank", "data-parallel-rpc-port",
        "data-parallel-start-rank", "data-parallel-external-lb", "data-parallel-hybrid-lb",
        "data-parallel-multi-port-external-lb",
    }
)  # fmt: skip
"""One container serves HTTP at its port, by itself: what speaks otherwise, elsewhere, or of other nodes."""
_SECRET: Final = frozenset({"api-key", "hf-token", "ssl-keyfile"})
_DTYPES: Final[Mapping[str, str]] = {"bf16": "bfloat16", "fp16": "float16"}
"""Weights in 16 bits are loaded as what the row says; other formats say it themselves."""


class NoServer(FileProblem):
    """A row whose engine and model nothing here can serve; other means may."""


def argument_problems(pool: PoolSpec) -> Iterator[str]:
    """What is wrong with a row's `engine_args`, one sentence each."""
    known = known_arguments(pool.engine)
    if known is None:
        taken = worker_takes(pool)
        for name, value in pool.engine_args.items():
            if name not in taken:
                yield f"engine_args: {pool.engine} takes no --{name}{nearest(name, taken)}; take it out"
            elif (wanted := worker_wants(name, value)) is not None:
                yield f"engine_args: --{name} is {wanted}, not {json.dumps(value)}"
        return
    yield from _known_problems(pool, known)


def _known_problems(pool: PoolSpec, known: KnownArguments) -> Iterator[str]:
    oldest = known.releases[0]
    if version(pool.engine_version) < version(oldest):
        yield f"arguments of {pool.engine} before {oldest} are not known; raise engine_version"
        return
    for name, value in pool.engine_args.items():
        if name in _OWNED:
            yield f"engine_args: --{name} follows from {_OWNED[name]}; set that instead"
        elif name in _PLATFORMS:
            yield f"engine_args: --{name} is set by what deploys the pool; take it out"
        elif name in _SECRET:
            yield f"engine_args: --{name} would put a secret into a file; the platform guards pools, take it out"
        elif (trouble := known.trouble(name, pool.engine_version)) is not None:
            yield f"engine_args: {trouble}"
        elif (wanted := known.wants(name, value)) is not None:
            yield f"engine_args: --{name} is {wanted}, not {json.dumps(value)}"


def engine_command(pool: PoolSpec, port: int) -> tuple[str, ...]:
    """The command that serves a pool on `port` of its container. Raises FileProblem for a row that makes none, or one
    that would not do what the row says; NoServer among them.
    """
    known = known_arguments(pool.engine)
    if known is None and not worker_serves(pool):
        raise _no_server(pool)
    problems = [*argument_problems(pool), *not_kept(pool)]
    arguments = _arguments(pool, port)
    problems += _taken_for_others({"model": _repository(pool), **arguments})
    if problems:
        raise FileProblem([f"{pool.place}: pool '{pool.name}': {problem}" for problem in problems])
    if known is None:
        return ("python", "-m", "pools.modal.worker", pool.model.id, *_words(arguments))
    return ("vllm", "serve", _repository(pool), *_words(arguments, known.several))


def _no_server(pool: PoolSpec) -> NoServer:
    what = f"engine '{pool.engine}'"
    if pool.engine in ("diffusers", "seedvr2"):
        what = f"model '{pool.model.id}' on {pool.engine}"
    text = f"pool '{pool.name}': there is no server for {what} here; run your own"
    return NoServer([f"{pool.place}: {text}, and point `endpoints:` at it"])


def _arguments(pool: PoolSpec, port: int) -> dict[str, ArgValue]:
    if pool.engine == "vllm":
        return {**_common(pool, port), **_vllm(pool), **pool.engine_args}
    if pool.engine == "vllm-omni":
        return {**_common(pool, port), "omni": True, **_bounds(pool), **pool.engine_args}
    return _worker(pool, port)


def _taken_for_others(arguments: Mapping[str, ArgValue]) -> Iterator[str]:
    """Words that a command line would take for arguments of their own."""
    for name, value in arguments.items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and word.startswith("-"):
                yield f"--{name} would be given '{word}', which its engine takes for another argument; change it"


def _worker(pool: PoolSpec, port: int) -> dict[str, ArgValue]:
    """Models without a server of their own run in `pools.modal.worker`."""
    return {
        "repo": pool.model.repo,
        "weights": _repository(pool),
        "served-model-name": pool.served_model_name,
        "quantization": pool.quantization,
        "port": port,
        "max-num-queued-reqs": QUEUE_TIMES * pool.max_concurrency,
        **worker_arguments(pool),
        **pool.engine_args,
    }


def _repository(pool: PoolSpec) -> str:
    return pool.model.repos.get(pool.quantization, pool.model.repo)


def _common(pool: PoolSpec, port: int) -> dict[str, ArgValue]:
    return {"served-model-name": pool.served_model_name, "host": "0.0.0.0", "port": port}


def _vllm(pool: PoolSpec) -> dict[str, ArgValue]:
    """What the row's keys say, and what every vLLM is bounded by."""
    arguments: dict[str, ArgValue] = {
        "max-model-len": pool.max_model_len,
        "gpu-memory-utilization": pool.gpu_memory_utilization,
        "max-num-seqs": -(-pool.max_concurrency // max(1, pool.gpu_count // pool.tensor_parallel)),  # of each rank
    }
    if pool.quantization in _DTYPES:
        arguments["dtype"] = _DTYPES[pool.quantization]
    arguments |= _parallel(pool)
    if Feature.TOOLS in pool.features and pool.model.tool_parser:
        arguments |= {"enable-auto-tool-choice": True, "tool-call-parser": pool.model.tool_parser}
    arguments["enable-prompt-tokens-details"] = True  # how much of a prompt its cache had
    return arguments | _bounds(pool)


def _bounds(pool: PoolSpec) -> dict[str, ArgValue]:
    """A queue limit and a drain, where the engine's release has them."""
    wanted: dict[str, ArgValue] = {
        "max-num-queued-reqs": QUEUE_TIMES * pool.max_concurrency,
        "shutdown-timeout": DRAIN_S,
    }
    known = known_arguments(pool.engine)
    return {name: value for name, value in wanted.items() if known and known.knows(name, pool.engine_version)}


def _parallel(pool: PoolSpec) -> dict[str, ArgValue]:
    arguments: dict[str, ArgValue] = {}
    if pool.tensor_parallel > 1:
        arguments["tensor-parallel-size"] = pool.tensor_parallel
    if (ranks := pool.gpu_count // pool.tensor_parallel) > 1:
        arguments["data-parallel-size"] = ranks
    if pool.expert_parallel:
        arguments["enable-expert-parallel"] = True
    return arguments


def _words(arguments: Mapping[str, ArgValue], several: Collection[str] = ()) -> Iterator[str]:
    """A list is one word for each of its values where the argument takes `several`; else it is JSON, as a table is."""
    for name, value in arguments.items():
        if value is True:
            yield f"--{name}"
        elif value is False:
            yield f"--no-{name}"
        elif isinstance(value, list) and name in several:
            yield from (f"--{name}", *map(_text, value))
        else:
            yield from (f"--{name}", _text(value))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
