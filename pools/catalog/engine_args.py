"""A pool's row as the command line of its engine.

Every argument is one that the row's engine version knows: `pools/catalog/engine_arguments.yaml` has them by release.
What a row's other keys decide (`max_model_len`, `gpu_count` …) cannot be said a second time under `engine_args`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from pools.catalog.worker_args import worker_arguments, worker_serves, worker_takes, worker_wants
from pools.fit.compatibility import version
from pools.spec import ArgValue, Feature, PoolSpec
from pricing.errors import FileProblem
from pricing.yamlfile import nearest, parse_yaml, validate

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
    "enable-expert-parallel": "expert_parallel",
    "max-num-seqs": "max_concurrency",
    "dtype": "quantization",
    "quantization": "quantization",
}
"""Arguments that other keys of a row decide."""

_PLATFORMS: Final = frozenset({"host", "port", "omni"})
_SECRET: Final = frozenset({"api-key", "hf-token", "ssl-keyfile"})
_DTYPES: Final[Mapping[str, str]] = {"bf16": "bfloat16", "fp16": "float16"}
"""Weights in 16 bits are loaded as what the row says; other formats say it themselves."""


class NoServer(FileProblem):
    """A row whose engine and model nothing here can serve; other means may."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Span(_Shape):
    since: str
    until: str | None = None
    arguments: list[str]


class _Engine(_Shape):
    releases: Annotated[list[str], Field(min_length=1)]
    spans: list[_Span]


class _ArgumentsFile(_Shape):
    vllm: _Engine
    vllm_omni: Annotated[_Engine, Field(alias="vllm-omni")]


@dataclass(frozen=True, slots=True)
class KnownArguments:
    """Arguments of one engine by the releases that have them, without their leading dashes."""

    engine: str
    releases: tuple[str, ...]
    spans: Mapping[str, tuple[str, str | None]]  # argument -> first and last release read that has it

    def trouble(self, argument: str, release: str) -> str | None:
        """Why an argument cannot be given to a release; None where it can."""
        if argument not in self.spans:
            hint = self._hint(argument, release)
            return f"no release of {self.engine} that was read has an argument --{argument}{hint}"
        since, until = self.spans[argument]
        if version(release) < version(since):
            return f"--{argument} came with {self.engine} {since}, this pool runs {release}; raise engine_version"
        if until is not None and version(release) > version(until):
            return f"--{argument} was last seen in {self.engine} {until}, this pool runs {release}; take it out"
        return None

    def knows(self, argument: str, release: str) -> bool:
        return self.trouble(argument, release) is None

    def _hint(self, argument: str, release: str) -> str:
        return nearest(argument, [name for name in self.spans if self.knows(name, release)])


def known_arguments(engine: str) -> KnownArguments | None:
    """What is known of an engine's arguments; None for one whose command line is not ours to write."""
    return _known().get(engine)


@cache
def _known() -> Mapping[str, KnownArguments]:
    where = Path("pools", "catalog", "engine_arguments.yaml")
    text = (resources.files("pools") / "catalog" / where.name).read_text(encoding="utf-8")
    file = validate(parse_yaml(text, where), _ArgumentsFile)
    vllm = _spans(file.vllm)
    omni = {**vllm, **_spans(file.vllm_omni)}
    return {
        "vllm": KnownArguments("vllm", tuple(file.vllm.releases), vllm),
        "vllm-omni": KnownArguments("vllm-omni", tuple(file.vllm_omni.releases), omni),
    }


def _spans(engine: _Engine) -> dict[str, tuple[str, str | None]]:
    return {name: (span.since, span.until) for span in engine.spans for name in span.arguments}


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
    oldest = known.releases[0]
    if version(pool.engine_version) < version(oldest):
        yield f"arguments of {pool.engine} before {oldest} are not known; raise engine_version"
        return
    for name in pool.engine_args:
        if name in _OWNED:
            yield f"engine_args: --{name} follows from {_OWNED[name]}; set that instead"
        elif name in _PLATFORMS:
            yield f"engine_args: --{name} is set by what deploys the pool; take it out"
        elif name in _SECRET:
            yield f"engine_args: --{name} would put a secret into a file; the platform guards pools, take it out"
        elif (trouble := known.trouble(name, pool.engine_version)) is not None:
            yield f"engine_args: {trouble}"


def engine_command(pool: PoolSpec, port: int) -> tuple[str, ...]:
    """The command that serves a pool on `port` of its container. Raises FileProblem for a row that makes none,
    NoServer among them.
    """
    problems = [f"{pool.place}: pool '{pool.name}': {problem}" for problem in argument_problems(pool)]
    if problems:
        raise FileProblem(problems)
    if pool.engine == "vllm":
        arguments = {**_common(pool, port), **_vllm(pool), **pool.engine_args}
    elif pool.engine == "vllm-omni":
        arguments = {**_common(pool, port), "omni": True, **_bounds(pool), **pool.engine_args}
    elif worker_serves(pool):
        return _worker(pool, port)
    else:
        what = f"engine '{pool.engine}'"
        if pool.engine in ("diffusers", "seedvr2"):
            what = f"model '{pool.model.id}' on {pool.engine}"
        text = f"pool '{pool.name}': there is no server for {what} here; run your own"
        raise NoServer([f"{pool.place}: {text}, and point `endpoints:` at it"])
    return ("vllm", "serve", _repository(pool), *_words(arguments))


def _worker(pool: PoolSpec, port: int) -> tuple[str, ...]:
    """Models without a server of their own run in `pools.modal.worker`."""
    arguments: dict[str, ArgValue] = {
        "repo": pool.model.repo,
        "weights": _repository(pool),
        "served-model-name": pool.served_model_name,
        "quantization": pool.quantization,
        "port": port,
        "max-num-queued-reqs": QUEUE_TIMES * pool.max_concurrency,
        **worker_arguments(pool),
        **pool.engine_args,
    }
    return ("python", "-m", "pools.modal.worker", pool.model.id, *_words(arguments))


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
    known = _known()[pool.engine]
    return {name: value for name, value in wanted.items() if known.knows(name, pool.engine_version)}


def _parallel(pool: PoolSpec) -> dict[str, ArgValue]:
    arguments: dict[str, ArgValue] = {}
    if pool.tensor_parallel > 1:
        arguments["tensor-parallel-size"] = pool.tensor_parallel
    if (ranks := pool.gpu_count // pool.tensor_parallel) > 1:
        arguments["data-parallel-size"] = ranks
    if pool.expert_parallel:
        arguments["enable-expert-parallel"] = True
    return arguments


def _words(arguments: Mapping[str, ArgValue]) -> Iterator[str]:
    for name, value in arguments.items():
        if value is True:
            yield f"--{name}"
        elif value is False:
            yield f"--no-{name}"
        else:
            yield from (f"--{name}", _text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
