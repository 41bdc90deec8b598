"""A pool's row as what Modal is told, and what is refused before it is told."""

from __future__ import annotations

import json
import math

import pytest

from pools.catalog.load import load_catalog
from pools.fit.memory import GIB
from pools.fit.timing import boot_seconds
from pools.modal.check import GPUS, name_problems, pool_problems, secret_problems, settings_problems
from pools.modal.declare import DOWNLOAD_GB_PER_S, START_TIMES, app_name, declare
from pools.modal.plan import Action, Deployed, PoolCost, make_plan
from pools.modal.settings import ModalSettings
from pools.spec import PoolSpec
from pricing.prices.billed import Billed
from support.values import replace

CATALOG = load_catalog()
A10 = CATALOG.pools["qwen3-4b-bf16-a10"]
SETTINGS = ModalSettings(place="policy.yaml:3")
COST = PoolCost(rate_nusd_per_h=3_600_000_000, boot_s=100.0)


def problems(pool: PoolSpec) -> list[str]:
    return list(pool_problems(pool, CATALOG.gpus))


def test_nothing_speaks_against_any_shipped_pool() -> None:
    """Every shipped pool loads, with GPUs, regions and counts that Modal has, under a name of its own."""
    assert [problem for pool in CATALOG.pools.values() for problem in problems(pool)] == []
    assert list(name_problems([declare(pool, SETTINGS) for pool in CATALOG.pools.values()])) == []


def test_a_start_may_take_a_download_and_two_boots() -> None:
    """The largest model's first container has time to download its weights; the smallest has at least five minutes."""
    large = CATALOG.pools["qwen3-coder-480b-fp8-8xh100"]
    download_s = large.model.weights_gib["fp8"] * GIB / 1e9 / DOWNLOAD_GB_PER_S
    assert declare(large, SETTINGS).startup_timeout_s == math.ceil(START_TIMES * boot_seconds(large) + download_s)
    assert declare(CATALOG.pools["sdxl-lora-fp16-t4"], SETTINGS).startup_timeout_s == 300


def test_what_a_container_is_told_has_no_secret_in_it() -> None:
    """Secrets go by name; the environment holds the pool, its command and its times."""
    declared = declare(A10, replace(SETTINGS, secrets=("huggingface",)))
    assert declared.secrets == ("huggingface",)
    assert sorted(declared.env) == [
        "POOL_COMMAND", "POOL_DRAIN_S", "POOL_NAME", "POOL_PORT", "POOL_STARTUP_S",
    ]  # fmt: skip
    assert json.loads(declared.env["POOL_COMMAND"]) == list(declared.command)


def test_the_plan_tag_changes_with_anything_that_is_declared() -> None:
    """Another window is another digest; another place in the file is not."""
    plans = [
        declare(pool, SETTINGS).tags["plan"]
        for pool in (A10, replace(A10, scaledown_window_s=60.0), replace(A10, place="elsewhere.yaml:9"))
    ]
    assert plans[0] == plans[2] != plans[1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("H100", "GPU 'H100' may run on an H200; write H100! as its platform_name"),
        ("A100", "may be an A100 of 40 or 80 GB; write A100-40GB or A100-80GB"),
        ("L40", "Modal has no GPU 'L40'; did you mean 'L40S'?"),
        ("NOPE", "Modal has no GPU 'NOPE'; it has T4"),
    ],
)
def test_gpu_names_that_the_sdk_lets_through_are_refused(name: str, says: str) -> None:
    """Names that do not exist, and those that leave open what is billed, with the row's place."""
    [problem] = problems(replace(A10, gpu=replace(A10.gpu, platform_name=name)))
    assert problem.startswith("pools/catalog/pools.yaml:")
    assert says in problem


def test_more_gpus_than_a_container_can_have_are_refused() -> None:
    """Five A10 are one more than Modal puts into a container."""
    found = problems(replace(A10, gpu_count=5, tensor_parallel=1))
    assert any("one container has at most 4×A10, this pool asks for 5" in problem for problem in found)


def test_more_cores_and_memory_than_a_container_can_have_are_refused() -> None:
    """Each with what Modal has at most, and the row's own figure."""
    found = problems(replace(A10, cpu_cores=65.0, memory_gib=337.0))
    assert [problem.partition(": pool ")[2] for problem in found] == [
        f"'{A10.name}': one container has at most 64 cores, this pool asks for cpu_cores 65",
        f"'{A10.name}': one container has at most 336 GiB, this pool asks for memory_gib 337",
    ]


def test_regions_that_do_not_exist_are_refused() -> None:
    """With the nearest one that does."""
    [problem] = problems(replace(A10, region="us-eastt"))
    assert problem.endswith("Modal has no region 'us-eastt'; did you mean 'us-east'?")
    [problem] = settings_problems(replace(SETTINGS, routing_region="us-eastt"))
    assert problem == "policy.yaml:3: no routing_region 'us-eastt'; did you mean 'us-east'?"


@pytest.mark.parametrize("window_s", [1.0, 3601.0])
def test_scale_down_windows_out_of_range_are_refused(window_s: float) -> None:
    """Modal takes 2 to 3600 seconds."""
    [problem] = problems(replace(A10, scaledown_window_s=window_s))
    assert "Modal takes 2 to 3600 s" in problem


def test_a_pool_that_cannot_load_is_refused_with_its_arithmetic() -> None:
    """The documents' 480B on four H100."""
    [problem] = problems(CATALOG.cases["qwen3-coder-480b-fp8-4xh100"].pool)
    assert "cannot load: weights 449.1 GiB + overhead 8.0 GiB > 291.5 GiB on 4×H100" in problem


def test_two_pools_with_one_app_are_refused() -> None:
    """Dots and capitals do not count in an App's name, so these two would replace one another."""
    twins = [declare(replace(A10, name=name, place=f"p.yaml:{i}"), SETTINGS) for i, name in enumerate(("a.b", "A-b"))]
    [problem] = name_problems(twins)
    assert problem.startswith("p.yaml:1: pool 'A-b': its App would be called 'sluice-a-b', as that of 'a.b' (p.yaml:0)")


def test_a_name_too_long_for_modal_is_refused() -> None:
    """Apps have at most 64 characters."""
    [problem] = name_problems([declare(replace(A10, name="x" * 80), SETTINGS)])
    assert "longer than 64; shorten its name" in problem


def test_a_name_that_cannot_be_a_tag_is_refused() -> None:
    """The billing report is grouped by it."""
    [problem] = name_problems([declare(replace(A10, name="chat pool"), SETTINGS)])
    assert "pool becomes a tag, with letters, digits, - _ and . only, at most 63; rename it" in problem


def test_a_name_that_leaves_the_prefix_alone_is_refused() -> None:
    """Its App would not be found again among those of the prefix, and so never be stopped."""
    [problem] = name_problems([declare(replace(A10, name="___"), SETTINGS)])
    assert "its App would have the prefix alone as its name; rename it" in problem


def test_a_missing_secret_is_named_with_how_to_make_it() -> None:
    """Only those that are not there; the settings' place says where they are asked for."""
    [problem] = secret_problems(("hf", "other"), ("other",), SETTINGS)
    assert problem == (
        "policy.yaml:3: Modal has no Secret 'hf' in the default Environment; make it: modal secret create hf KEY=value"
    )


def test_tags_that_modal_would_refuse_are_refused() -> None:
    """Letters, digits and a few signs, at most 63."""
    assert list(settings_problems(replace(SETTINGS, tags={"team": "a b"}))) != []
    assert list(settings_problems(replace(SETTINGS, tags={"team": "research"}))) == []


@pytest.mark.parametrize("name", ["pool", "plan", "role", "sluice"])
def test_tags_that_apps_have_of_themselves_are_refused(name: str) -> None:
    """A pool that is tagged as the router would be stopped in its place."""
    [problem] = settings_problems(replace(SETTINGS, tags={name: "router"}))
    assert problem == f"policy.yaml:3: tag '{name}' is one that Apps have of themselves; give yours another name"


def test_one_volume_for_weights_and_kernels_is_refused() -> None:
    """Modal mounts a Volume in one place only."""
    [problem] = settings_problems(replace(SETTINGS, cache_volume=SETTINGS.weights_volume))
    assert "weights_volume and cache_volume are both 'sluice-weights'" in problem


def test_names_become_part_of_a_host_name() -> None:
    """Lower case letters, digits and hyphens."""
    assert app_name("Qwen2.5_Coder--7b", ModalSettings(app_prefix="Team.A")) == "team-a-qwen2-5-coder-7b"


def test_every_gpu_of_the_catalogue_is_pinned() -> None:
    """What the catalogue asks for is one of Modal's names that mean one card."""
    assert [gpu.id for gpu in CATALOG.gpus.values() if gpu.platform_name not in GPUS] == []


def test_a_plan_says_what_changes_and_what_it_costs() -> None:
    """New, changed, unchanged and left over; idle cost is the minimum of containers, a boot and a tail at the rate."""
    new, changed, same = (declare(replace(A10, name=name, min_containers=2), SETTINGS) for name in ("n", "c", "s"))
    before = declare(replace(A10, name="c", engine_version="0.30.0"), SETTINGS)
    deployed = [
        Deployed(each.app, "ap-1", each.tags) for each in (before, same, declare(replace(A10, name="old"), SETTINGS))
    ]
    plan = make_plan([new, changed, same], {"n": COST, "c": COST, "s": COST}, deployed)
    assert [step.action for step in plan.steps] == [Action.CREATE, Action.CHANGE, Action.KEEP]
    assert plan.steps[1].changes == ("engine: vllm-0.30.0 -> vllm-0.32.0",)
    assert [each.pool for each in plan.left_over] == ["old"]
    assert plan.idle_nusd_per_h == 3 * 2 * COST.rate_nusd_per_h
    assert (plan.steps[0].boot_nusd, plan.steps[0].tail_nusd) == (100_000_000, 120_000_000)


def test_a_plan_asks_nothing_for_what_the_book_does_not_bill() -> None:
    """Boots, or the minimum of containers and the window after the last request."""
    pool = declare(replace(A10, min_containers=1), SETTINGS)
    for billed, costs in ((Billed(boot=False), (True, False, True)), (Billed(idle=False), (False, True, False))):
        [step] = make_plan([pool], {A10.name: replace(COST, billed=billed)}, None).steps
        assert (step.idle_nusd_per_h > 0, step.boot_nusd > 0, step.tail_nusd > 0) == costs
        assert step.rate_nusd_per_h == COST.rate_nusd_per_h


def test_a_plan_without_modal_says_that_it_does_not_know() -> None:
    """Nothing is called new or unchanged when nobody was asked."""
    plan = make_plan([declare(A10, SETTINGS)], {A10.name: COST}, None)
    assert [step.action for step in plan.steps] == [Action.UNKNOWN]
    assert plan.to_deploy == plan.steps


def test_a_change_that_no_tag_tells_is_seen_all_the_same() -> None:
    """Another engine argument differs in the digest only."""
    before, after = declare(A10, SETTINGS), declare(replace(A10, engine_args={"seed": 1}), SETTINGS)
    [step] = make_plan([after], {A10.name: COST}, [Deployed(before.app, "ap-1", before.tags)]).steps
    assert step.changes == ("its settings, image or engine arguments",)
