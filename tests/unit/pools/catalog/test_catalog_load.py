"""The catalogue: what ships, what a team adds, and what is said about mistakes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pools.catalog.load import load_catalog
from pools.fit.memory import fit
from pools.fit.timing import boot_seconds, timing_model
from pools.spec import Feature, ModelKind
from pricing.errors import FileProblem

CATALOG = load_catalog()


def problems_of(tmp_path: Path, text: str) -> list[str]:
    """What loading one extra file complains about, with the file's folder taken off."""
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    with pytest.raises(FileProblem) as caught:
        load_catalog([path])
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("name", CATALOG.pools)
def test_every_shipped_pool_loads(name: str) -> None:
    """A shipped pool fits its GPUs, and can be timed."""
    pool = CATALOG.pools[name]
    result = fit(pool, CATALOG.gpus)
    assert result.loads, result.problem
    assert result.remedy is None
    assert timing_model(pool).estimate(500, 100, 0).total_s > 0
    assert boot_seconds(pool) > 1


@pytest.mark.parametrize("name", [name for name, pool in CATALOG.pools.items() if pool.max_model_len])
def test_shipped_contexts_leave_the_arithmetics_own_uncertainty(name: str) -> None:
    """One request of max_model_len leaves at least 1 GiB of KV cache free, and concurrency follows from memory."""
    pool = CATALOG.pools[name]
    result = fit(pool, CATALOG.gpus)
    used_gib = pool.max_model_len * result.kv_bytes_per_token / 2**30 + result.state_mib_per_sequence / 1024
    assert result.kv_gib - used_gib >= 1.0
    assert pool.max_concurrency == min(64, result.concurrency_at(4096))
    assert pool.target_concurrency == max(1, pool.max_concurrency // 2)


@pytest.mark.parametrize("name", CATALOG.cases)
def test_no_case_loads_and_each_has_a_pool_instead(name: str) -> None:
    """A placement kept as a case is refused with a reason, and the pools named instead of it load."""
    case = CATALOG.cases[name]
    assert fit(case.pool, CATALOG.gpus).problem
    assert case.instead
    assert all(fit(CATALOG.pools[pool], CATALOG.gpus).loads for pool in case.instead)


@pytest.mark.parametrize(
    ("model", "gpus"),
    [
        ("flux-schnell", {"T4", "A10", "L40S"}),
        ("flux-dev", {"L40S", "A100-40GB"}),
        ("instantid", {"T4", "A10", "L40S"}),
        ("sdxl-lora", {"T4", "A10", "L40S"}),
        ("wan2.1", {"L40S", "A100-40GB", "A100-80GB"}),
        ("seedvr2", {"A10", "L40S"}),
        ("qwen3-vl-8b", {"T4", "A10", "L4", "L40S", "A100-80GB"}),
        ("qwen3-4b", {"T4", "A10", "A100-40GB"}),
        ("qwen2.5-coder-7b", {"A10"}),
        ("qwen3-coder-30b", {"A100-40GB"}),
        ("qwen3-next-80b", {"H100", "H200"}),
        ("qwen3-coder-480b", {"H100", "H200"}),
    ],
)
def test_every_gpu_that_a_document_names_has_a_pool(model: str, gpus: set[str]) -> None:
    """Each system has a pool on every GPU that its document recommends, uses or names as an alternative."""
    assert {pool.gpu.id for pool in CATALOG.pools.values() if pool.model.id.startswith(model)} == gpus


def test_what_a_row_leaves_out_is_derived() -> None:
    """Features follow from the kind of model, the served name from the weights, parallelism from the GPUs."""
    vision = CATALOG.pools["qwen3-vl-8b-fp8-a10"]
    assert vision.features == set(Feature) - {Feature.EDITS}
    assert vision.served_model_name == "Qwen/Qwen3-VL-8B-Instruct-FP8"
    assert CATALOG.pools["qwen3-next-80b-fp8-2xh100"].tensor_parallel == 2
    assert Feature.VISION not in CATALOG.pools["qwen3-4b-bf16-a10"].features
    image = CATALOG.pools["flux-dev-bf16-l40s"]
    assert image.model.kind is ModelKind.IMAGE
    assert (image.features, image.max_concurrency) == ({Feature.EDITS}, 1)


def test_the_image_worker_makes_edits_of_faces_alone() -> None:
    """Of the diffusers engine's pools InstantID's have edits, all of vllm-omni's have, and clips are no pictures."""
    media = [pool for pool in CATALOG.pools.values() if pool.model.kind in (ModelKind.IMAGE, ModelKind.VIDEO)]
    able = {pool.name for pool in media if Feature.EDITS in pool.features}
    omni = {pool.name for pool in media if pool.engine == "vllm-omni" and pool.model.kind is ModelKind.IMAGE}
    assert able == omni | {name for name in CATALOG.pools if name.startswith("instantid-")}
    assert len(omni) == 3


def test_rows_know_their_place() -> None:
    """A shipped row names its file as in the repository, so that a message leads to it."""
    assert CATALOG.pools["qwen3-vl-8b-awq-t4"].place.startswith("pools/catalog/pools.yaml:")
    assert CATALOG.cases["flux-schnell-bf16-t4"].place.startswith("pools/catalog/cases.yaml:")


def test_a_pool_extends_a_shipped_one(tmp_path: Path) -> None:
    """A row takes over what it does not say, and concurrency is derived anew from its own memory."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        textwrap.dedent("""\
            pools:
              mine:
                extends: qwen3-vl-8b-bf16-l40s
                gpu: A100 80GB
                scaledown_window_s: 300
              shorter: {extends: mine, max_model_len: 8192, max_concurrency: 8}
            """),
        encoding="utf-8",
    )
    pools = load_catalog([path]).pools
    assert (pools["mine"].gpu.id, pools["mine"].scaledown_window_s, pools["mine"].max_model_len) == (
        "A100-80GB",
        300,
        153520,
    )
    assert pools["mine"].max_concurrency == 64
    assert (pools["shorter"].max_concurrency, pools["shorter"].target_concurrency) == (8, 4)
    assert pools["shorter"].gpu.id == "A100-80GB"


def test_a_new_gpu_and_a_new_model_can_be_added(tmp_path: Path) -> None:
    """An extra file brings its own GPU and model, and a pool of both."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        textwrap.dedent("""\
            gpus:
              A6000:
                compute_capability: 86
                memory_gib: 44.4
                bandwidth_gb_s: 768
                fp16_tflops: 155
                platform_name: A6000
                source: datasheet
            models:
              mini:
                repo: example/mini
                kind: text
                params_b: 1
                weights: {fp16: {gib: 1.9}}
                native_context: 8192
                layers: 16
                hidden: 2048
                q_heads: 16
                kv_heads: 4
                head_dim: 128
                source: example
            pools:
              mini-a6000: {model: mini, quantization: fp16, gpu: A6000, engine_version: "0.32.0", max_model_len: 8192}
            """),
        encoding="utf-8",
    )
    pool = load_catalog([path]).pools["mini-a6000"]
    assert fit(pool, CATALOG.gpus).loads
    assert (pool.model.tokenizer, pool.model.active_params_b, pool.served_model_name) == ("mini", 1, "example/mini")


def test_a_name_given_twice_names_both_places(tmp_path: Path) -> None:
    """A row under a shipped name is refused, with the place of either."""
    line = CATALOG.pools["qwen3-vl-8b-awq-t4"].place
    assert problems_of(tmp_path, "pools:\n  qwen3-vl-8b-awq-t4: {extends: qwen3-vl-8b-fp8-a10}\n") == [
        f"mine.yaml:2: 'qwen3-vl-8b-awq-t4' is already at {line}; give this one another name"
    ]


def test_a_gpu_under_an_alias_is_the_same_gpu(tmp_path: Path) -> None:
    """`A10G` is `A10`, so a second row for it is a repetition."""
    text = """\
        gpus:
          A10G:
            compute_capability: 86
            memory_gib: 22
            bandwidth_gb_s: 600
            fp16_tflops: 70
            platform_name: A10
            source: mine
        """
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("mine.yaml:2: 'A10G' is already at pools/catalog/gpus.yaml:")


@pytest.mark.parametrize(
    ("row", "line", "said"),
    [
        ("extends: qwen3-vl-8b-fp8-a1", 3, "no pool 'qwen3-vl-8b-fp8-a1'; did you mean 'qwen3-vl-8b-fp8-a10'?"),
        ("extends: mine", 3, "mine -> mine is a circle; end it"),
        ("extends: qwen3-4b-bf16-a10\n    model: qwen3-5b", 4, "no model 'qwen3-5b'; did you mean 'qwen3-4b'?"),
        ("extends: qwen3-4b-bf16-a10\n    gpu: A1O0", 4, "'A1O0' is not a known GPU"),
        ("extends: qwen3-4b-bf16-a10\n    gpu: A100", 4, "write A100-40GB or A100-80GB"),
        ("extends: qwen3-4b-bf16-a10\n    gpu: [A10, L4]", 4, "a pool has one kind of GPU; give each its own pool"),
        ("extends: qwen3-4b-bf16-a10\n    features: [vision]", 4, "'qwen3-4b' makes text, without the feature vision"),
        (
            "extends: flux-dev-bf16-l40s\n    features: [tools]",
            4,
            "makes image, without the feature tools; take it out",
        ),
        ("extends: qwen3-4b-bf16-a10\n    engine_args: {seed: null}", 4, "must be text, a number, true or false, or"),
        ("extends: qwen3-4b-bf16-a10\n    engine_args: {seed: .nan}", 4, "must be text, a number, true or false, or"),
        ("extends: qwen3-4b-bf16-a10\n    gpu: B300", 4, "GPU 'B300' has no row; add it to"),
        ("extends: qwen3-4b-bf16-a10\n    quantization: fp6", 4, "did you mean 'fp16'? (it has bf16, fp16, fp8)"),
        ("extends: qwen3-4b-bf16-a10\n    max_model_length: 1", 4, "did you mean 'max_model_len'?"),
        ("extends: qwen3-4b-bf16-a10\n    max_model_len: 0", 4, "vLLM would take the native 262144"),
        ("extends: qwen3-4b-bf16-a10\n    memory_gib: -4", 4, "greater than 0"),
        ("extends: qwen3-4b-bf16-a10\n    min_containers: 9", 4, "'min_containers' is above max_containers"),
        ("extends: qwen3-4b-bf16-a10\n    target_concurrency: 9\n    max_concurrency: 4", 4, "above max_concurrency"),
        ("extends: flux-dev-bf16-l40s\n    gpu: H100", 4, "'flux-dev' has no seconds_per_item for H100"),
        ("extends: qwen3-4b-bf16-a10\n    scaledown_window_s: 7200", 4, "less than or equal to 3600"),
        ("extends: qwen3-4b-bf16-a10\n    cpu_cores: .inf", 4, "less than or equal to 1024, not inf"),
        ("extends: qwen3-4b-bf16-a10\n    memory_gib: 1e12", 4, "less than or equal to 65536"),
        ("extends: qwen3-4b-bf16-a10\n    boot_s: 1e30", 4, "less than or equal to 86400"),
        ("extends: qwen3-4b-bf16-a10\n    max_concurrency: 99999999999", 4, "less than or equal to 100000"),
        ("extends: qwen3-4b-bf16-a10\n    max_containers: 99999999999", 4, "less than or equal to 10000"),
        ("extends: flux-schnell-q4-t4\n    weights_off_gpu_gib: 20", 4, "all 15.7 GiB of weights are off the GPU"),
        ("model: qwen3-4b", 2, "is missing; add it"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path: Path, row: str, line: int, said: str) -> None:
    """Each mistake is said with file, line and what to do."""
    found = problems_of(tmp_path, f"pools:\n  mine:\n    {row}\n")
    assert all(problem.startswith(f"mine.yaml:{line}: ") for problem in found)
    assert said in found[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("kind: text, params_b: 1", "needs native_context, layers, hidden, q_heads, kv_heads, head_dim; add them"),
        ("kind: image, params_b: 1", "needs seconds_per_item"),
        (
            "kind: image, params_b: 1, seconds_per_item: {T4: 3}, experts: 8",
            "needs experts_active, expert_intermediate",
        ),
        (
            "kind: image, params_b: 1, seconds_per_item: {T4: 3}, layers: 10, hidden: 1000, experts: 100, "
            "experts_active: 2, expert_intermediate: 1000",
            "the experts alone have 3.0 billion parameters, params_b says 1; where not all layers have experts",
        ),
    ],
)
def test_half_a_model_is_refused(tmp_path: Path, keys: str, said: str) -> None:
    """A model without its architecture, or with more experts than parameters, is refused at its line."""
    row = f"{{repo: a/b, {keys}, weights: {{fp16: {{gib: 2}}}}, source: example}}"
    (problem,) = problems_of(tmp_path, f"models:\n  mini: {row}\n")
    assert problem.startswith("mine.yaml:2: ")
    assert said in problem


def test_a_model_without_a_repository_is_refused(tmp_path: Path) -> None:
    """Nothing could be loaded from it."""
    [problem] = problems_of(
        tmp_path, 'models:\n  mini: {repo: "", kind: text, params_b: 1, weights: {fp16: {gib: 2}}, source: x}\n'
    )
    assert problem.startswith("mine.yaml:2: 'models.mini.repo'")


def test_every_problem_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    """Two bad rows are two problems in one go, and a row without fault is none."""
    text = """\
        pools:
          one: {extends: nothing-like-it}
          two: {extends: qwen3-4b-bf16-a10}
          three: {extends: two, gpu_count: 0}
        """
    assert [problem.split(" ")[0] for problem in problems_of(tmp_path, text)] == ["mine.yaml:2:", "mine.yaml:4:"]


def test_a_case_names_pools_that_exist(tmp_path: Path) -> None:
    """A case that points to a pool nobody has is refused."""
    text = """\
        cases:
          mine:
            document: a page
            claim: it fits
            pool: {extends: qwen3-4b-bf16-a10}
            instead: [qwen3-4b-bf16-a11]
        """
    assert problems_of(tmp_path, text) == [
        "mine.yaml:6: no pool 'qwen3-4b-bf16-a11'; did you mean 'qwen3-4b-bf16-a10'?"
    ]
