"""Who sends what in the demo, and that bodies and policy files are what they say."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections import Counter
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.policy import Policy
from policies.requirements import Tier
from pools.simulator.request import parse_chat
from router.demo.bodies import Bodies, image_url
from router.demo.plan import BOUNDS, PROFILES, plan
from router.demo.tenants import new_keys, trial_budget_nusd, write_policy
from router.demo.trace import TraceRow, shipped_trace

KEYS = new_keys()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "policy"
    write_policy(folder, KEYS, trial_nusd=1_500_000)
    return folder


@pytest.fixture(scope="module")
def policy(files: Path) -> Policy:
    return load_policy([files], environ={}, now_us=1_790_000_000_000_000, assume_deployed=True)


def test_a_plan_follows_from_its_seed() -> None:
    """The same seed plans the same, another one differently."""
    rows = shipped_trace()[:200]
    assert plan(rows, 1) == plan(rows, 1) != plan(rows, 2)


def test_a_plan_is_the_trace_with_tenants() -> None:
    """Every row becomes one request at its instant; tenants have their shares, about two thirds are streamed."""
    rows = shipped_trace()
    requests = plan(rows, 0)
    assert [(one.at_s, one.input_tokens, one.output_tokens) for one in requests] == [
        (row.at_s, row.input_tokens, row.output_tokens) for row in rows
    ]
    tenants = Counter(one.tenant for one in requests)
    for profile in PROFILES:
        share = profile.weight / sum(one.weight for one in PROFILES)
        assert abs(tenants[profile.name] / len(requests) - share) < 0.05
    assert 0.6 < sum(one.stream for one in requests) / len(requests) < 0.73


def test_what_a_row_states_is_kept() -> None:
    """A stated tenant, class or tier is not drawn, and a class goes to a tenant that uses it."""
    rows = [
        TraceRow(0.0, 10, 10, "newsletter", "code", "premium"),
        TraceRow(1.0, 10, 10, None, "vision"),
        TraceRow(2.0, 10, 10, None, None, "premium"),
        TraceRow(3.0, 10, 10, None, "chat", "premium"),
    ]
    stated, vision, premium, nobodys = plan(rows, 0)
    assert (stated.tenant, stated.model) == ("newsletter", "code:premium")
    assert (vision.tenant, vision.request_class) == ("shop-photos", "vision")
    assert premium.model in ("chat:premium", "code:premium", "vision:premium")
    assert nobodys.model == "chat:premium"


def test_a_bound_leaves_room_for_the_recorded_answer() -> None:
    """Clients that send max_tokens send one of a few usual values, which their answer fits in."""
    for one in plan(shipped_trace(), 0):
        assert one.max_tokens is None or (one.max_tokens in BOUNDS and one.max_tokens >= one.output_tokens)


def test_a_prompt_is_about_as_long_as_it_was_recorded(policy: Policy) -> None:
    """The simulated engine counts the recorded tokens within 20%, pictures included, and answers with exactly them."""
    pool = policy.pools["vl-8b-bf16-l40s"]
    bodies = Bodies(0)
    for one in [one for one in plan(shipped_trace(), 0) if one.input_tokens > 400][:60]:
        counted = parse_chat(pool, {**json.loads(bodies.body(one)), "model": pool.served_model_name})
        assert abs(counted.prompt_tokens / one.input_tokens - 1) < 0.2
        assert len(counted.outputs[0].ids) == one.output_tokens


def test_every_request_has_somewhere_else_to_go(policy: Policy) -> None:
    """Whatever a tenant asks for, its class has two pools that may serve it; every tenant has a key and a cap."""
    for profile in PROFILES:
        assert policy.tenants[profile.name].keys
        assert any(cap.scope.value == profile.name for cap in policy.caps.caps)
        for habit in profile.habits:
            ladder = policy.classes[habit.request_class].ladder
            assert sum(rung.tier.rank >= Tier(habit.tier).rank for rung in ladder) >= 2


def test_the_picture_is_a_png() -> None:
    """Signature, size and the header's checksum are right."""
    png = base64.b64decode(image_url().partition(";base64,")[2])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (640, 480)
    assert struct.unpack(">I", png[29:33]) == (zlib.crc32(png[12:29]),)


def test_the_trial_budget_is_a_part_of_what_will_be_asked_for() -> None:
    """It grows with the tenant's recorded answers, and is never nothing."""
    requests = plan(shipped_trace(), 0)
    assert trial_budget_nusd([]) == 6_000_000
    assert trial_budget_nusd([]) < trial_budget_nusd(requests[:900]) < trial_budget_nusd(requests)
    assert trial_budget_nusd(requests) % 100_000 == 0


def test_keys_are_new_for_each_run_and_stand_in_no_file(files: Path) -> None:
    """The policy's files hold hashes of keys, and no two runs share a key."""
    assert set(new_keys().values()).isdisjoint(KEYS.values())
    written = "".join(path.read_text(encoding="utf-8") for path in files.iterdir())
    assert not any(key in written for key in KEYS.values())


def test_a_tenant_of_the_trace_alone_gets_a_key_and_no_cap(tmp_path: Path) -> None:
    """It asks as the row says, in its own name, and the policy knows it beside the demo's own tenants."""
    rows = [TraceRow(0.0, 10, 20, "acme", "vision", "standard"), TraceRow(1.0, 10, 20, "acme")]
    requests = plan(rows, 0)
    assert [one.tenant for one in requests] == ["acme", "acme"]
    assert (requests[0].request_class, requests[0].tier) == ("vision", "standard")
    keys = new_keys(requests)
    write_policy(tmp_path / "policy", keys, trial_nusd=1_500_000)
    known = load_policy([tmp_path / "policy"], environ={}, now_us=1_790_000_000_000_000, assume_deployed=True)
    assert set(known.tenants) == set(keys)
    assert known.keys[hashlib.sha256(keys["acme"].encode()).hexdigest()].tenant == "acme"
