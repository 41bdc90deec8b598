"""Rows of pools that are billed by the token: an API of somebody else's, about whose GPUs nothing is known or asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pools.catalog.schema import TokenPoolRow
from pools.fit.memory import MemoryFit
from pools.spec import API_ENGINE, NO_GPU, Feature, ModelKind, ModelSpec, PoolSpec, TokenTerms

HOLDS_ANYTHING: Final = MemoryFit(
    loads=True,
    weights_gib=0.0,
    overhead_gib=0.0,
    budget_gib=0.0,
    kv_gib=0.0,
    kv_bytes_per_token=0,
    kv_tokens=0,
    largest_max_model_len=0,
)
"""Memory is the provider's matter: what it holds is its context length, and how much at once its rate limit."""


def token_pool(name: str, row: TokenPoolRow, model: ModelSpec | None, place: str) -> PoolSpec:
    """The frozen row. `model` is the catalogue's where the row names one: its tokenizer and pictures are shared."""
    books = (row.price_book,) if isinstance(row.price_book, str) else tuple(row.price_book or ())
    return PoolSpec(
        name=name,
        model=_stand_in(row) if model is None else model,
        quantization="",
        gpu=NO_GPU,
        gpu_count=1,
        engine=API_ENGINE,
        engine_version="",
        max_model_len=row.max_model_len,
        gpu_memory_utilization=1.0,
        tensor_parallel=1,
        expert_parallel=False,
        features=frozenset(row.features),
        target_concurrency=row.max_concurrency,
        max_concurrency=row.max_concurrency,
        min_containers=0,
        max_containers=1,
        scaledown_window_s=0.0,
        boot_s=0.0,
        cpu_cores=0.0,
        memory_gib=0.0,
        region=None,
        served_model_name=row.served_model_name,
        source=row.source,
        place=place,
        terms=TokenTerms(row.priced_as or row.served_model_name, books, row.first_token_s, row.tokens_per_s),
    )


def token_pool_problems(row: TokenPoolRow, model: ModelSpec | None) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) of a row that contradicts itself or its model."""
    sees = Feature.VISION in row.features
    if model is not None and model.kind in (ModelKind.IMAGE, ModelKind.VIDEO):
        yield "model", f"'{row.model}' makes {model.kind}s, which are not billed by the token here; name a text model"
    if sees and model is None and row.image_tokens_max is None:
        text = "'image_tokens_max' is missing: what one image counts for; see the provider's prices, or name a model"
        yield "features", text
    if not sees and row.image_tokens_max is not None:
        yield "image_tokens_max", "'image_tokens_max' without the feature vision; add it to features, or take this out"


def _stand_in(row: TokenPoolRow) -> ModelSpec:
    """A model of which only its name is known. Its tokens are its own, so that the ratio of bytes is learnt apart."""
    sees = Feature.VISION in row.features
    bare = ModelSpec(
        id=row.served_model_name,
        repo="",
        kind=ModelKind.VISION if sees else ModelKind.TEXT,
        params_b=0.0,
        active_params_b=0.0,
        weights_gib={},
        tokenizer=row.served_model_name,
        native_context=row.max_model_len,
    )
    return replace(bare, image_tokens_max=row.image_tokens_max or 0) if sees else bare
