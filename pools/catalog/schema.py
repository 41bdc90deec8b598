"""The shape of catalogue files: what each key may hold. `pools.catalog.load` turns the rows into `pools.spec` values.

A file has any of the top-level keys `gpus`, `models`, `pools` and `cases`, each a mapping from name to row. A pool row
may `extends: <another pool>` and change some keys, so pools are checked after that merge.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from pools.spec import Feature, KvCache, ModelKind
from pricing.errors import UnknownGpu
from pricing.prices.gpus import canonical_gpu

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Requests = Annotated[int, Field(ge=1, le=100_000)]  # of one container at a time
_CONTAINERS_AT_MOST = 10_000
Format = Literal["fp16", "bf16", "fp8", "awq", "gptq", "gguf-q2", "gguf-q4", "gguf-q8"]


def _known_gpu(name: str) -> str:
    try:
        return canonical_gpu(name)
    except UnknownGpu as error:
        raise ValueError(str(error)) from None


def _one_gpu(name: object) -> object:
    if isinstance(name, list):
        raise ValueError("a pool has one kind of GPU; give each its own pool, and list them on a class's ladder")
    return name


def _argument(value: object) -> object:
    """What can be written into a command line, itself or as JSON."""
    if isinstance(value, list):
        return [_argument(each) for each in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _argument(each) for name, each in value.items()}
    if isinstance(value, str | bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    raise ValueError("must be text, a number, true or false, or a list or table of these")


GpuId = Annotated[str, AfterValidator(_known_gpu), BeforeValidator(_one_gpu)]


EngineArgument = Annotated[Any, BeforeValidator(_argument)]


class Shape(BaseModel):
    """Base of the shapes: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GpuRow(Shape):
    """One GPU type; the row's name is a spelling that `pricing.prices.gpus` knows."""

    compute_capability: Annotated[int, Field(ge=70, le=130)]
    memory_gib: Positive
    bandwidth_gb_s: Positive
    fp16_tflops: Positive
    fp8_tflops: Positive | None = None
    bf16: StrictBool = True
    platform_name: str
    max_per_container: Count = 8
    link_gb_s: Positive = 16.0
    source: str


class WeightsRow(Shape):
    """Weights in one format: GiB to load, and the repository where it is not the model's own."""

    gib: Positive
    repo: str | None = None


class ItemRow(Shape):
    """The picture or clip that a media model's figures are about; `fps` 0 is a picture."""

    width: Count
    height: Count
    steps: Count
    frames: Count = 1
    fps: NotNegative = 0.0


class ModelRow(Shape):
    """One model's true configuration."""

    repo: Annotated[str, Field(min_length=1)]
    kind: ModelKind
    params_b: Positive
    active_params_b: Positive | None = None  # all of them where the row does not say
    weights: Annotated[dict[Format, WeightsRow], Field(min_length=1)]
    tokenizer: str | None = None  # the model's own where the row does not say
    native_context: CountOrNone = 0
    layers: CountOrNone = 0
    attention_layers: CountOrNone | None = None  # all layers where the row does not say
    hidden: CountOrNone = 0
    q_heads: CountOrNone = 0
    kv_heads: CountOrNone = 0
    head_dim: CountOrNone = 0
    experts: CountOrNone = 0
    experts_active: CountOrNone = 0
    expert_intermediate: CountOrNone = 0
    expert_layers: CountOrNone | None = None  # all layers where the row does not say
    state_mib_per_sequence: NotNegative = 0.0
    fp8_block: CountOrNone = 0
    image_patch: CountOrNone = 0
    image_tokens_max: CountOrNone = 0
    not_read_gib: NotNegative = 0.0
    activation_gib: NotNegative = 0.0
    vllm_since: Annotated[str, Field(pattern=r"^(\d+(\.\d+)*)?$")] = ""
    tool_parser: str = ""
    seconds_per_item: dict[GpuId, Positive] | None = None
    seconds_once: dict[GpuId, NotNegative] = {}
    from_file: StrictBool = False
    item: ItemRow | None = None
    source: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """A model without its architecture would look as if its cache cost nothing."""
        media = self.kind in (ModelKind.IMAGE, ModelKind.VIDEO)
        needed = ("seconds_per_item",) if media else _ARCHITECTURE
        missing = [key for key in (*needed, *(_EXPERTS if self.experts else ())) if not getattr(self, key)]
        if missing:
            raise ValueError(f"a model of kind {self.kind} needs {', '.join(missing)}; add them from its config.json")
        whole = self.seconds_per_item or {}
        longer = [gpu for gpu, once_s in self.seconds_once.items() if once_s >= whole.get(gpu, 0.0)]
        if longer:
            raise ValueError(f"seconds_once of {longer[0]} is not below its seconds_per_item, of which it is a part")
        expert_layers = self.layers if self.expert_layers is None else self.expert_layers
        experts_b = expert_layers * self.experts * 3 * self.hidden * self.expert_intermediate / 1e9
        if experts_b > self.params_b:
            raise ValueError(
                f"the experts alone have {experts_b:.1f} billion parameters, params_b says {self.params_b:g}; where "
                "not all layers have experts, say how many by expert_layers"
            )
        if media and self.item is None:
            raise ValueError(f"a model of kind {self.kind} needs item: the width, height and steps of its figures")
        return self


_ARCHITECTURE = ("native_context", "layers", "hidden", "q_heads", "kv_heads", "head_dim")
_EXPERTS = ("experts_active", "expert_intermediate")


class PoolRow(Shape):
    """One deployment, after `extends` was followed. What is left out is derived; see docs/catalogue.md."""

    model: str
    quantization: str
    gpu: GpuId
    gpu_count: Count = 1
    engine: Literal["vllm", "llama.cpp", "vllm-omni", "diffusers", "seedvr2", "tgi"] = "vllm"
    billed_by: Literal["seconds"] = "seconds"
    engine_version: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    max_model_len: CountOrNone = 0
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.92
    tensor_parallel: Count | None = None
    expert_parallel: StrictBool = False
    features: list[Feature] | None = None
    target_concurrency: Requests | None = None
    max_concurrency: Requests | None = None
    min_containers: Annotated[int, Field(ge=0, le=_CONTAINERS_AT_MOST)] = 0
    max_containers: Annotated[int, Field(ge=1, le=_CONTAINERS_AT_MOST)] = 4
    scaledown_window_s: Annotated[float, Field(ge=2, le=3600)] = 60.0
    boot_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    cpu_cores: Annotated[float, Field(ge=0.125, le=1_024)] = 4.0
    memory_gib: Annotated[float, Field(gt=0, le=65_536)] = 32.0
    region: str | None = None
    served_model_name: str | None = None
    weights_off_gpu_gib: NotNegative = 0.0
    activation_gib: NotNegative | None = None
    kv_cache: KvCache = KvCache.PAGED
    kv_tokens: Count | None = None
    engine_args: dict[str, EngineArgument] = {}
    time_factor: Annotated[float, Field(ge=0.05, le=20)] = 1.0
    source: str = ""


class TokenPoolRow(Shape):
    """A pool that is billed by the token, after `extends` was followed. See docs/platforms.md."""

    billed_by: Literal["tokens"]
    served_model_name: Annotated[str, Field(min_length=1)]
    model: str | None = None
    priced_as: Annotated[str, Field(min_length=1)] | None = None
    price_book: str | Annotated[list[str], Field(min_length=1)] | None = None
    max_model_len: Count
    features: list[Feature] = [Feature.TOOLS, Feature.JSON_SCHEMA]
    image_tokens_max: Count | None = None
    max_concurrency: Requests = 64
    first_token_s: Positive = 1.0
    tokens_per_s: Positive = 50.0
    source: str = ""


class CaseRow(Shape):
    """A placement that a document states and that cannot load."""

    document: str
    claim: str
    pool: dict[str, Any]
    instead: list[str] = []


class CatalogFile(Shape):
    """One file. Pools are checked one by one after `extends` was followed."""

    gpus: dict[str, GpuRow] = {}
    models: dict[str, ModelRow] = {}
    pools: dict[str, dict[str, Any]] = {}
    cases: dict[str, CaseRow] = {}
