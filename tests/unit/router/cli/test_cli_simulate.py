"""`sluice simulate`: which pools run, and a policy part that a router can read."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.simulator import speaks_chat
from router.cli.simulate import NothingToSimulate, chosen_pools, simulated_pools
from router.service.simulated import policy_part

NOW_US = 1_795_000_000_000_000


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy([], environ={}, now_us=NOW_US, assume_deployed=True)


def test_all_pools_that_answer_chat_run_by_default(policy: Policy) -> None:
    """Media pools are left out; naming pools runs those."""
    names = {spec.name for spec in chosen_pools(policy, [])}
    assert names == {name for name, spec in policy.pools.items() if speaks_chat(spec)}
    assert names
    one = min(names)
    assert [spec.name for spec in chosen_pools(policy, [one])] == [one]


def test_an_endpoint_of_its_own_simulates_pictures_and_clips_too(policy: Policy) -> None:
    """`sluice serve --simulate` starts every pool that has containers, so that each class is served."""
    names = {spec.name for spec in simulated_pools(policy)}
    assert names == {name for name, spec in policy.pools.items() if spec.terms is None}


def test_an_unknown_pool_is_answered_with_the_nearest(policy: Policy) -> None:
    """A misspelt name says what was meant."""
    with pytest.raises(NothingToSimulate, match="did you mean 'qwen3-4b-bf16-a10'"):
        chosen_pools(policy, ["qwen3-4b-bf16-a1O"])


def test_the_policy_part_points_a_router_at_the_pools(policy: Policy, tmp_path: Path) -> None:
    """Beside the shipped policy it loads, with endpoints and the platform's address."""
    part = tmp_path / "simulated.yaml"
    part.write_text(policy_part("http://127.0.0.1:8900", ["qwen3-4b-bf16-a10"]), encoding="utf-8")
    loaded = load_policy([Path(policy.files[0]), part], environ={}, now_us=NOW_US)
    assert loaded.platform_url == "http://127.0.0.1:8900"
    assert loaded.endpoints["qwen3-4b-bf16-a10"].url == "http://127.0.0.1:8900/pools/qwen3-4b-bf16-a10"


def test_it_runs_until_interrupted() -> None:
    """As a process of its own: it listens, prints where, and ends with status 0 on an interrupt."""
    code = "from router.cli.main import main; import sys; sys.argv[1:] = ['simulate', '--port', '0']; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert lines[0].startswith("# simulated pools (speedup 1, origin_us ")
    assert lines[1:3] == ["version: 1\n", "platform:\n"]
    assert lines[3].startswith("  url: http://127.0.0.1:")
