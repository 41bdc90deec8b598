"""A pool's row as its engine's command line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pools.catalog.engine_args import NoServer, argument_problems, engine_command
from pools.catalog.known_arguments import known_arguments
from pools.catalog.load import load_catalog
from pools.spec import ArgValue, PoolSpec
from pricing.errors import FileProblem
from support.values import replace

POOLS = load_catalog().pools


def with_args(name: str, release: str, **arguments: ArgValue) -> PoolSpec:
    spelt = {key.replace("_", "-"): value for key, value in arguments.items()}
    return replace(POOLS[name], engine_version=release, engine_args=spelt)


def pairs(command: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each argument with its value, "" for a switch."""
    for word, following in zip(command, (*command[1:], "--"), strict=True):
        if word.startswith("--"):
            yield word, "" if following.startswith("--") else following


def test_the_command_says_what_the_row_says() -> None:
    """Context, memory, concurrency, parallelism and names of a row stand on the command line."""
    pool = POOLS["qwen3-coder-480b-fp8-8xh100"]
    command = engine_command(pool, 8000)
    assert command[:3] == ("vllm", "serve", "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8")
    given = dict(pairs(command))
    assert given["--max-model-len"] == "131072"
    assert given["--max-num-seqs"] == str(pool.max_concurrency)
    assert given["--tensor-parallel-size"] == "8"
    assert given["--enable-expert-parallel"] == ""
    assert given["--tool-call-parser"] == "qwen3_coder"


def test_data_parallel_ranks_share_the_concurrency() -> None:
    """With two ranks, each runs half of what the container takes."""
    pool = replace(POOLS["qwen3-next-80b-fp8-2xh100"], tensor_parallel=1, max_concurrency=33)
    given = dict(pairs(engine_command(pool, 8000)))
    assert (given["--data-parallel-size"], given["--max-num-seqs"]) == ("2", "17")


def test_queues_are_bounded_and_drained_where_the_release_can() -> None:
    """0.32 has a queue limit and a drain, 0.20.2 a drain, 0.16 neither; nothing else changes."""
    wanted = {"--max-num-queued-reqs", "--shutdown-timeout"}
    found = {
        release: wanted & set(engine_command(with_args("qwen3-4b-bf16-a10", release), 8000))
        for release in ("0.32.0", "0.20.2", "0.16.0")
    }
    assert found == {"0.32.0": wanted, "0.20.2": {"--shutdown-timeout"}, "0.16.0": set()}


def test_vllm_omni_is_bounded_and_drained_like_the_vllm_below_it() -> None:
    """Pictures and clips wait and end under the same limits as text."""
    pool = POOLS["flux-dev-bf16-l40s"]
    given = dict(pairs(engine_command(pool, 8000)))
    assert given["--max-num-queued-reqs"] == str(2 * pool.max_concurrency)
    assert given["--shutdown-timeout"] == "25"


def test_a_row_adds_arguments_in_the_engines_spelling() -> None:
    """Switches, their negations, numbers and text of `engine_args` come after the row's own."""
    pool = with_args("qwen3-4b-bf16-a10", "0.32.0", enforce_eager=True, enable_prefix_caching=False, seed=7)
    assert engine_command(pool, 8000)[-4:] == ("--enforce-eager", "--no-enable-prefix-caching", "--seed", "7")


def test_lists_are_words_where_the_engine_takes_several_and_tables_are_json() -> None:
    """Adapters stand one behind the other; a speculative configuration is one word."""
    pool = with_args(
        "qwen3-4b-bf16-a10",
        "0.32.0",
        lora_modules=["a=me/a", "b=me/b"],
        speculative_config={"method": "ngram", "num_speculative_tokens": 4},
        allowed_origins=["*"],
    )
    assert engine_command(pool, 8000)[-7:] == (
        *("--lora-modules", "a=me/a", "b=me/b"),
        *("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 4}'),
        *("--allowed-origins", '["*"]'),
    )


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("enforce-eager", 1, "a switch, true or false, not 1"),
        ("enforce-eager", "true", 'a switch, true or false, not "true"'),
        ("seed", True, "given a value, not true"),
        ("seed", False, "given a value, not false"),
        ("disable-log-stats", False, "a switch without a --no- form, true or left out, not false"),
    ],
)
def test_values_that_the_engine_would_not_start_with_are_refused(argument: str, value: ArgValue, says: str) -> None:
    """What its parser would end with is said before a container is billed for it."""
    [problem] = argument_problems(replace(POOLS["qwen3-4b-bf16-a10"], engine_args={argument: value}))
    assert problem == f"engine_args: --{argument} is {says}"


@pytest.mark.parametrize(
    "changed",
    [
        {"served_model_name": "--trust-remote-code"},
        {"model": replace(POOLS["qwen3-4b-bf16-a10"].model, repo="--trust-remote-code")},
        {"engine_args": {"chat-template": "--api-key=x"}},
        {"engine_args": {"lora-modules": ["a=b", "--trust-remote-code"]}},
    ],
)
def test_no_value_becomes_an_argument_of_its_own(changed: dict[str, object]) -> None:
    """A text that begins with a dash is refused: the engine's parser would read it as another argument."""
    with pytest.raises(FileProblem, match="which its engine takes for another argument; change it"):
        engine_command(replace(POOLS["qwen3-4b-bf16-a10"], **changed), 8000)


@pytest.mark.parametrize(
    ("release", "argument", "says"),
    [
        ("0.32.0", "enforce_eagre", "did you mean 'enforce-eager'?"),
        ("0.28.0", "max_num_queued_tokens", "came with vllm 0.29.0, this pool runs 0.28.0; raise engine_version"),
        ("0.32.0", "disable_log_requests", "was last seen in vllm 0.16.0, this pool runs 0.32.0; take it out"),
        ("0.32.0", "max_model_len", "follows from max_model_len; set that instead"),
        ("0.32.0", "pipeline_parallel_size", "follows from gpu_count and tensor_parallel; set that instead"),
        ("0.32.0", "port", "is set by what deploys the pool; take it out"),
        ("0.32.0", "headless", "is set by what deploys the pool; take it out"),
        ("0.32.0", "nnodes", "is set by what deploys the pool; take it out"),
        ("0.32.0", "uds", "is set by what deploys the pool; take it out"),
        ("0.32.0", "api_key", "would put a secret into a file"),
        ("0.10.0", "seed", "arguments of vllm before 0.16.0 are not known; raise engine_version"),
    ],
)
def test_arguments_that_a_release_does_not_know_are_refused(release: str, argument: str, says: str) -> None:
    """Each is refused with the row's place and what to do, before anything is deployed."""
    pool = with_args("qwen3-4b-bf16-a10", release, **{argument: 1})
    assert [says in problem for problem in argument_problems(pool)] == [True]
    with pytest.raises(FileProblem, match=r"pools/catalog/pools\.yaml:\d+: pool 'qwen3-4b-bf16-a10': "):
        engine_command(pool, 8000)


def test_every_argument_of_every_shipped_pool_is_known_to_its_release() -> None:
    """No command of a shipped pool has an argument that its engine's release lacks."""
    for pool in POOLS.values():
        known = known_arguments(pool.engine)
        if known is not None:
            names = [name for name, _ in pairs(engine_command(pool, 8000))]
            assert [name for name in names if not known.knows(name.removeprefix("--"), pool.engine_version)] == []


def test_engines_without_known_arguments_take_none() -> None:
    """The worker's row cannot carry vLLM's arguments, only its own: a LoRA, and how many may wait."""
    worker = POOLS["sdxl-lora-fp16-t4"]
    [problem] = argument_problems(replace(worker, engine_args={"seed": 1, "lora": "me/style"}))
    assert problem == "engine_args: diffusers takes no --seed; take it out"
    assert engine_command(replace(worker, engine_args={"lora": "me/style"}), 8000)[-2:] == ("--lora", "me/style")
    [problem] = argument_problems(replace(POOLS["seedvr2-3b-fp8-a10"], engine_args={"lora": "me/style"}))
    assert problem == "engine_args: seedvr2 takes no --lora; take it out"


@pytest.mark.parametrize(
    ("name", "argument", "value", "says"),
    [
        ("sdxl-lora-fp16-t4", "lora", True, "a repository, not true"),
        ("instantid-fp16-t4", "base", 5, "a repository, not 5"),
        ("seedvr2-3b-fp8-a10", "job-s", "soon", 'a whole number above 0, not "soon"'),
        ("seedvr2-3b-fp8-a10", "job-s", -5, "a whole number above 0, not -5"),
        ("sdxl-lora-fp16-t4", "max-num-queued-reqs", 0, "a whole number above 0, not 0"),
        ("sdxl-lora-fp16-t4", "max-num-queued-reqs", True, "a whole number above 0, not true"),
    ],
)
def test_values_that_the_worker_would_not_start_with_are_refused(
    name: str, argument: str, value: ArgValue, says: str
) -> None:
    """Before a container is billed that ends at its start, or takes nobody in."""
    [problem] = argument_problems(replace(POOLS[name], engine_args={argument: value}))
    assert problem == f"engine_args: --{argument} is {says}"


@pytest.mark.parametrize("name", ["sdxl-lora-fp16-t4", "instantid-fp16-t4", "seedvr2-3b-fp8-a10"])
def test_the_workers_queue_follows_from_its_row(name: str) -> None:
    """At most twice `max_concurrency`, as for vLLM; the row may say another number."""
    option = "--max-num-queued-reqs"
    several = replace(POOLS[name], max_concurrency=3)
    assert dict(pairs(engine_command(several, 8000)))[option] == "6"
    assert dict(pairs(engine_command(replace(several, engine_args={option[2:]: 9}), 8000)))[option] == "9"


@pytest.mark.parametrize(
    ("pool", "what"),
    [
        (replace(POOLS["wan2.1-1.3b-bf16-l40s"], engine="diffusers"), "model 'wan2.1-1.3b' on diffusers"),
        (replace(POOLS["sdxl-lora-fp16-t4"], engine="seedvr2"), "model 'sdxl-lora' on seedvr2"),
        (replace(POOLS["qwen3-4b-bf16-a10"], engine="tgi"), "engine 'tgi'"),
    ],
)
def test_what_has_no_server_here_says_what_to_do(pool: PoolSpec, what: str) -> None:
    """TGI, and models that the worker does not serve: run your own, and point the router at it."""
    says = f"there is no server for {what} here; run your own, and point `endpoints:` at it"
    with pytest.raises(NoServer, match=re.escape(says)):
        engine_command(pool, 8000)
