"""What a pool is: the catalogue's rows as frozen values, in one unit each.

Memory is GiB (2**30 bytes), bandwidth GB/s (1e9), compute TFLOP/s dense, durations seconds, context tokens.
Rows are read from `pools/catalog/*.yaml` by `pools.catalog.load`; sources and dates stand beside each row there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ArgValue = str | bool | int | float | list[Any] | dict[str, Any]
"""Of an engine's argument; True is the bare switch, False its `--no-` form. Lists and tables are what JSON can say."""


class ModelKind(StrEnum):
    """What a model produces; text and vision models speak the chat API, the others make media."""

    TEXT = "text"
    VISION = "vision"
    IMAGE = "image"
    VIDEO = "video"


class Feature(StrEnum):
    """What a request may need of a pool beyond plain text."""

    VISION = "vision"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    LOGPROBS = "logprobs"
    EDITS = "edits"  # a picture made of another: `/v1/images/edits`


class KvCache(StrEnum):
    """What an engine does when its KV cache is full."""

    PAGED = "paged"  # it makes requests wait, or computes them again later: vLLM and everything like it
    CONTIGUOUS = "contiguous"  # it fails with out of memory, and all that ran with it: one tensor for a whole batch


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU type. `id` is canonical (`A10`); `aliases` are other spellings (`A10G`)."""

    id: str
    aliases: tuple[str, ...]
    compute_capability: int  # 75 is sm_75
    memory_gib: float  # what torch reports as usable total
    bandwidth_gb_s: float
    fp16_tflops: float
    fp8_tflops: float | None  # None: no FP8 arithmetic (weight-only FP8 may still load)
    bf16: bool
    platform_name: str  # the pinned string a platform is asked for, e.g. `H100!`
    source: str
    max_per_container: int = 8  # how many of them one container may have
    link_gb_s: float = 16.0  # to the other GPUs of the container, one way: NVLink, or PCIe


@dataclass(frozen=True, slots=True)
class MediaSize:
    """One picture (a frame of it) or clip: pixels, denoising steps, frames, and frames a second (0 for a picture)."""

    width: int = 1024
    height: int = 1024
    steps: int = 1
    frames: int = 1
    fps: float = 0.0


ONE_PICTURE: Final = MediaSize()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model's true configuration. Diffusion models leave the attention fields at 0."""

    id: str
    repo: str
    kind: ModelKind
    params_b: float  # total parameters, 1e9
    active_params_b: float  # touched per token
    weights_gib: Mapping[str, float]  # by quantization name
    tokenizer: str  # pools whose models share it can continue each other's token ids
    native_context: int = 0
    layers: int = 0
    attention_layers: int = 0  # layers that keep a KV cache
    hidden: int = 0
    q_heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    experts: int = 0
    experts_active: int = 0
    expert_layers: int = 0  # layers that have experts
    state_mib_per_sequence: float = 0.0  # linear-attention state, per running sequence
    fp8_block: int = 0  # block size of FP8 weights, 0 where it does not constrain parallelism
    expert_intermediate: int = 0
    image_patch: int = 0  # pixels per side of one image token, after merging
    image_tokens_max: int = 0
    seconds_per_item: Mapping[str, float] | None = None  # media models: GPU id -> seconds for one image or clip
    source: str = ""
    repos: Mapping[str, str] = field(default_factory=dict)  # repository by quantization, where it differs from `repo`
    not_read_gib: float = 0.0  # embedding table and vision tower: loaded, but not read by a decode step
    activation_gib: float = 0.0  # media models: peak working memory beside the weights, where a pool says nothing else
    item: MediaSize = ONE_PICTURE  # media models: the size that `seconds_per_item` and `activation_gib` are about
    seconds_once: Mapping[str, float] = field(default_factory=dict)  # of `seconds_per_item`, once a request
    from_file: bool = False  # media models: makes something of a picture or clip, and nothing of text alone
    vllm_since: str = ""  # first vLLM that knows the architecture; "" where any supported release does
    tool_parser: str = ""  # vLLM's parser of the model's tool calls; "": it serves none


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """How a pool is sold that is billed by the token, and how fast it is said to be.

    `priced_as` is the model's name in price books; `price_books` those that follow one another in time for this pool,
    none for the policy's own. `first_token_s` and `tokens_per_s` are of one answer, whatever else runs there.
    """

    priced_as: str
    price_books: tuple[str, ...]
    first_token_s: float
    tokens_per_s: float


NO_GPU: Final = GpuSpec("api", (), 0, 0.0, 0.0, 0.0, None, True, "", "no GPU of ours: billed by the token")
"""Of pools that are billed by the token. Rows of the ledger and reports call it `api`."""

API_ENGINE: Final = "api"
"""What serves pools that are billed by the token: any server that speaks the OpenAI protocol, and no more than that."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One deployment: model × quantization × GPU type × count × engine × context × scaling settings.

    Or, with `terms`, an API that is billed by the token; what is about containers is then nothing, and not looked at.
    """

    name: str
    model: ModelSpec
    quantization: str
    gpu: GpuSpec
    gpu_count: int
    engine: str  # "vllm", "llama.cpp", "vllm-omni", "diffusers", "seedvr2", "tgi"; "api" by the token
    engine_version: str
    max_model_len: int  # tokens, prompt + output; 0 for media models
    gpu_memory_utilization: float
    tensor_parallel: int
    expert_parallel: bool
    features: frozenset[Feature]
    target_concurrency: int  # requests per container that the autoscaler aims at
    max_concurrency: int  # requests per container above which the platform answers 429
    min_containers: int
    max_containers: int
    scaledown_window_s: float
    boot_s: float | None  # measured boot; None: `pools.fit.timing.boot_seconds` models it
    cpu_cores: float
    memory_gib: float
    region: str | None  # None: no region pin, multiplier 1
    served_model_name: str
    weights_off_gpu_gib: float = 0.0  # weights kept in host memory (a text encoder on the CPU)
    activation_gib: float = 0.0  # media: peak working memory of the model's item on this GPU
    source: str = ""
    place: str = ""  # "file:line" of the row, for messages
    kv_cache: KvCache = KvCache.PAGED
    kv_tokens: int | None = None  # of one container, as its engine logs it at start; None: the memory fit's arithmetic
    engine_args: Mapping[str, ArgValue] = field(default_factory=dict)  # beyond those that the row's other keys give
    time_factor: float = 1.0  # measured service time over the modelled one; `sluice measure` finds it
    terms: TokenTerms | None = None  # billed by the token


@dataclass(frozen=True, slots=True)
class CaseSpec:
    """A placement that a document states and that cannot load: kept by name, so that it is refused with its arithmetic.

    `claim` is what the document says; `instead` names the shipped pools that serve the same purpose.
    """

    name: str
    document: str
    claim: str
    pool: PoolSpec
    instead: tuple[str, ...]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every row by name. `pools.catalog.load.load_catalog` reads it; it never changes afterwards."""

    gpus: Mapping[str, GpuSpec]
    models: Mapping[str, ModelSpec]
    pools: Mapping[str, PoolSpec]
    cases: Mapping[str, CaseSpec]
