"""Read the catalogue: the shipped files and whatever a team adds, checked as one and built into frozen rows.

Every problem of every file is reported at once as "path:line: what is wrong; what to do". A name that stands twice is
an error that names both places; to change a shipped pool, `extends` it under a new name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pools.catalog.engine_args import argument_problems
from pools.catalog.schema import CaseRow, CatalogFile, GpuRow, ModelRow, PoolRow, TokenPoolRow
from pools.catalog.token_pools import token_pool, token_pool_problems
from pools.fit.memory import fit
from pools.spec import ONE_PICTURE, CaseSpec, Catalog, Feature, GpuSpec, MediaSize, ModelKind, ModelSpec, PoolSpec
from pricing.errors import FileProblem
from pricing.files.document import Document, parse_yaml, read_yaml
from pricing.files.validate import validate
from pricing.nearest import nearest
from pricing.prices.gpus import ALIASES, canonical_gpu

T = TypeVar("T")

SHIPPED: Final = ("gpus.yaml", "models.yaml", "pools.yaml", "cases.yaml")

TYPICAL_TOKENS: Final = 4096
"""Prompt and answer of one request when a pool's concurrency is derived: the 90th percentile of production chat
(2,734 + 424 tokens in Azure's trace of 2023) at the next power of two."""

MAX_CONCURRENCY: Final = 64
"""Derived concurrency stops here; from there on, more requests at once mostly make each of them slower."""

_TEXT: Final = frozenset({Feature.TOOLS, Feature.JSON_SCHEMA, Feature.LOGPROBS})
_FEATURES: Final[Mapping[ModelKind, frozenset[Feature]]] = {
    ModelKind.TEXT: _TEXT,
    ModelKind.VISION: _TEXT | {Feature.VISION},
    ModelKind.IMAGE: frozenset({Feature.EDITS}),
}
_KINDS: Final[Mapping[Feature, frozenset[ModelKind]]] = {
    Feature.VISION: frozenset({ModelKind.VISION}),
    Feature.EDITS: frozenset({ModelKind.IMAGE}),
    **dict.fromkeys(_TEXT, frozenset({ModelKind.TEXT, ModelKind.VISION})),
}
"""Kinds of models that can have a feature."""

_NO_EDITS: Final = frozenset({"diffusers"})
"""Engines that make pictures of text alone, unless the model is one that starts from a picture (`from_file`). A row
whose own server does more says so under `features`."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One row, checked or not yet, and where it stands."""

    document: Document
    where: tuple[str, ...]
    row: Any

    @property
    def place(self) -> str:
        return self.document.place(self.where)

    def problem(self, key: str, text: str) -> str:
        return self.document.problem((*self.where, key), text)


_Rows = Mapping[str, _Row]


def load_catalog(extra: Sequence[Path | Document] = ()) -> Catalog:
    """The shipped catalogue with the rows of `extra` added: files, or documents that are read already.

    Raises FileProblem with every problem found.
    """
    gpu_rows, model_rows, pool_rows, case_rows = _rows([*_shipped(), *_each(extra, _document)])
    gpus = {name: _gpu(name, row.row) for name, row in gpu_rows.items()}
    models = {name: _model(name, row.row) for name, row in model_rows.items()}

    def pool(name: str, row: _Row) -> PoolSpec:
        return _timed(_pool(name, row, pool_rows, gpus, models), row)

    def case(name: str, row: _Row) -> CaseSpec:
        return _case(name, row, pool_rows, gpus, models)

    pools = _each(pool_rows.items(), lambda item: (item[0], pool(*item)))
    cases = _each(case_rows.items(), lambda item: (item[0], case(*item)))
    return Catalog(
        gpus=MappingProxyType(gpus),
        models=MappingProxyType(models),
        pools=MappingProxyType(dict(pools)),
        cases=MappingProxyType(dict(cases)),
    )


def _document(source: Path | Document) -> Document:
    return source if isinstance(source, Document) else read_yaml(source)


@cache
def _shipped() -> tuple[Document, ...]:
    """The package's own files, parsed once a process. Places read as in the repository, wherever it is installed."""
    folder = resources.files("pools") / "catalog"
    return tuple(
        parse_yaml((folder / name).read_text(encoding="utf-8"), Path("pools", "catalog", name)) for name in SHIPPED
    )


def _each(items: Iterable[Any], build: Callable[[Any], T]) -> list[T]:
    """Build every item, and only then raise the problems of all of them."""
    built: list[T] = []
    problems: list[str] = []
    for item in items:
        try:
            built.append(build(item))
        except FileProblem as error:
            problems.extend(error.problems)
    if problems:
        raise FileProblem(list(dict.fromkeys(problems)))
    return built


def _rows(documents: Sequence[Document]) -> tuple[_Rows, _Rows, _Rows, _Rows]:
    """GPUs, models, pools and cases of all files by name. Raises FileProblem for a name given twice."""
    files = _each(documents, lambda document: (document, validate(document, CatalogFile)))
    problems: list[str] = []

    def gather(section: str) -> _Rows:
        rows: dict[str, _Row] = {}
        for document, file in files:
            for key, content in getattr(file, section).items():
                row = _Row(document, (section, key), content)
                name = canonical_gpu(key) if section == "gpus" else key
                if name in rows:
                    first = rows[name].place
                    problems.append(f"{row.place}: '{key}' is already at {first}; give this one another name")
                rows.setdefault(name, row)
        return rows

    gathered = gather("gpus"), gather("models"), gather("pools"), gather("cases")
    if problems:
        raise FileProblem(problems)
    return gathered


def _gpu(name: str, row: GpuRow) -> GpuSpec:
    return GpuSpec(id=name, aliases=ALIASES[name], **row.model_dump())


def _model(name: str, row: ModelRow) -> ModelSpec:
    apart = {"weights", "active_params_b", "attention_layers", "expert_layers", "tokenizer", "item"}
    plain = row.model_dump(exclude=apart)
    return ModelSpec(
        id=name,
        weights_gib={form: weights.gib for form, weights in row.weights.items()},
        repos={form: weights.repo for form, weights in row.weights.items() if weights.repo is not None},
        active_params_b=row.params_b if row.active_params_b is None else row.active_params_b,
        attention_layers=row.layers if row.attention_layers is None else row.attention_layers,
        expert_layers=row.layers if row.expert_layers is None else row.expert_layers,
        tokenizer=name if row.tokenizer is None else row.tokenizer,
        item=ONE_PICTURE if row.item is None else MediaSize(**row.item.model_dump()),
        **plain,
    )


def _extended(name: str, row: _Row, pool_rows: _Rows) -> dict[str, Any]:
    """A pool's keys over those of the pool it extends, and so on up."""
    keys = dict(row.row)
    seen = [name]
    while "extends" in keys:
        parent = str(keys.pop("extends"))
        if parent in seen:
            raise FileProblem([row.problem("extends", f"{' -> '.join([*seen, parent])} is a circle; end it")])
        if parent not in pool_rows:
            raise FileProblem([row.problem("extends", f"no pool '{parent}'{nearest(parent, pool_rows)}")])
        seen.append(parent)
        keys = {**pool_rows[parent].row, **keys}
    return keys


def _pool(
    name: str, row: _Row, pool_rows: _Rows, gpus: Mapping[str, GpuSpec], models: Mapping[str, ModelSpec]
) -> PoolSpec:
    keys = _extended(name, row, pool_rows)
    if keys.get("billed_by") == "tokens":
        return _by_tokens(name, row, keys, models)
    shape = validate(row.document, PoolRow, row.where, keys)
    if shape.gpu not in gpus:
        raise FileProblem([row.problem("gpu", f"GPU '{shape.gpu}' has no row; add it to pools/catalog/gpus.yaml")])
    if shape.model not in models:
        text = f"no model '{shape.model}'{nearest(shape.model, models)}; models are rows of pools/catalog/models.yaml"
        raise FileProblem([row.problem("model", text)])
    model, gpu = models[shape.model], gpus[shape.gpu]
    problems = list(_mismatches(shape, row, model))
    if problems:
        raise FileProblem(problems)
    spec = _spec(name, row, shape, model, gpu)
    if spec.engine_args and (problems := [row.problem("engine_args", text) for text in argument_problems(spec)]):
        raise FileProblem(problems)
    return _with_concurrency(spec, shape, gpus)


def _by_tokens(name: str, row: _Row, keys: Mapping[str, Any], models: Mapping[str, ModelSpec]) -> PoolSpec:
    shape = validate(row.document, TokenPoolRow, row.where, keys)
    if shape.model is not None and shape.model not in models:
        text = f"no model '{shape.model}'{nearest(shape.model, models)}; leave it out where the catalogue has none"
        raise FileProblem([row.problem("model", text)])
    model = None if shape.model is None else models[shape.model]
    problems = [row.problem(key, text) for key, text in token_pool_problems(shape, model)]
    if problems:
        raise FileProblem(problems)
    return token_pool(name, shape, model, row.place)


def _mismatches(shape: PoolRow, row: _Row, model: ModelSpec) -> Iterable[str]:
    """What a pool's row and its model's row contradict each other in."""
    if shape.quantization not in model.weights_gib:
        known = ", ".join(model.weights_gib)
        hint = nearest(shape.quantization, model.weights_gib)
        text = f"'{shape.model}' has no weights '{shape.quantization}'{hint} (it has {known})"
        yield row.problem("quantization", text)
    elif shape.weights_off_gpu_gib >= model.weights_gib[shape.quantization]:
        text = f"all {model.weights_gib[shape.quantization]:g} GiB of weights are off the GPU; lower it"
        yield row.problem("weights_off_gpu_gib", f"'weights_off_gpu_gib': {text}")
    for feature in shape.features or ():
        if model.kind not in _KINDS[feature]:
            text = f"'{shape.model}' makes {model.kind}, without the feature {feature}; take it out"
            yield row.problem("features", text)
    if model.native_context and not shape.max_model_len:
        text = f"'max_model_len' is missing; vLLM would take the native {model.native_context}, which few GPUs hold"
        yield row.problem("max_model_len", text)
    if shape.max_concurrency and shape.target_concurrency and shape.target_concurrency > shape.max_concurrency:
        yield row.problem("target_concurrency", "'target_concurrency' is above max_concurrency; lower it")
    if shape.min_containers > shape.max_containers:
        yield row.problem("min_containers", "'min_containers' is above max_containers; lower it")


def _timed(pool: PoolSpec, row: _Row) -> PoolSpec:
    """The pool, if its service time can be known."""
    seconds = pool.model.seconds_per_item
    if seconds is not None and pool.gpu.id not in seconds:
        text = f"'{pool.model.id}' has no seconds_per_item for {pool.gpu.id}; add it to the model's row"
        raise FileProblem([row.problem("gpu", text)])
    return pool


def _spec(name: str, row: _Row, shape: PoolRow, model: ModelSpec, gpu: GpuSpec) -> PoolSpec:
    """The frozen row, with one request at a time until its memory fit is known."""
    derived = {"model", "gpu", "features", "tensor_parallel", "served_model_name"}
    derived |= {"target_concurrency", "max_concurrency", "activation_gib", "billed_by"}
    usual = _FEATURES.get(model.kind, frozenset())
    if shape.engine in _NO_EDITS and not model.from_file:
        usual -= {Feature.EDITS}
    features = usual if shape.features is None else frozenset(shape.features)
    return PoolSpec(
        name=name,
        model=model,
        gpu=gpu,
        features=features,
        tensor_parallel=shape.tensor_parallel or shape.gpu_count,
        served_model_name=shape.served_model_name or model.repos.get(shape.quantization, model.repo),
        target_concurrency=1,
        max_concurrency=1,
        activation_gib=model.activation_gib if shape.activation_gib is None else shape.activation_gib,
        place=row.place,
        **shape.model_dump(exclude=derived),
    )


def _with_concurrency(pool: PoolSpec, shape: PoolRow, gpus: Mapping[str, GpuSpec]) -> PoolSpec:
    """Concurrency as the row says; else as many typical requests as memory holds, and half of them as the target.

    With the target at half, a burst of twice the target is still served while the next container boots. Media models
    take one item at a time.
    """
    held = fit(pool, gpus).concurrency_at(min(TYPICAL_TOKENS, pool.max_model_len)) if pool.max_model_len else 1
    target = shape.target_concurrency or 1
    maximum = shape.max_concurrency or max(target, min(held, MAX_CONCURRENCY))
    return replace(pool, target_concurrency=shape.target_concurrency or max(1, maximum // 2), max_concurrency=maximum)


def _case(
    name: str, row: _Row, pool_rows: _Rows, gpus: Mapping[str, GpuSpec], models: Mapping[str, ModelSpec]
) -> CaseSpec:
    content: CaseRow = row.row
    inner = _Row(row.document, (*row.where, "pool"), content.pool)
    unknown = [pool for pool in content.instead if pool not in pool_rows]
    if unknown:
        raise FileProblem([row.problem("instead", f"no pool '{unknown[0]}'{nearest(unknown[0], pool_rows)}")])
    pool = _pool(name, inner, pool_rows, gpus, models)
    return CaseSpec(name, content.document, content.claim, pool, tuple(content.instead), row.place)
