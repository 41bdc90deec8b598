"""`sluice pools` from its arguments to what reaches a control plane on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest
from grpclib import Status
from typer.testing import CliRunner, Result

from policies.compile.load import load_policy
from pricing.errors import FileProblem, SluiceError
from pricing.prices.book import SHIPPED_FOLDER as BOOKS
from router.cli.pools import app
from support.modal_control_plane import FakeModal, control_plane

POLICY = """\
version: 1
price_book: modal-2026-10
platform:
  modal:
    app_prefix: team
    secrets: [huggingface]
    tags: {cost-centre: r42}
pools:
  small:
    extends: qwen3-4b-fp16-t4
    min_containers: 1
  fast:
    extends: qwen3-4b-bf16-a10
classes:
  chat:
    ladder:
      premium: [small, fast]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModal]:
    """Modal as this machine's token would reach it."""
    fake = FakeModal(secrets=("huggingface",))
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-fake")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-fake")
    with control_plane(fake) as client:
        modal.Client._set_env_client(client)
        yield fake
        modal.Client._set_env_client(None)


def sluice_pools(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def output(*arguments: str | Path) -> str:
    result = sluice_pools(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def error(*arguments: str | Path) -> Exception:
    result = sluice_pools(*arguments)
    assert isinstance(result.exception, SluiceError)
    return result.exception


def test_a_plan_needs_no_account(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows GPUs, scaling and dollars, says that nobody was asked, and asks nobody."""
    text = output("plan", "--policy", policy, "--offline")
    assert "$1.04 an hour while nothing runs" in text
    assert "Modal was not asked" in text
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["small", "fast"]


def test_a_plan_shows_what_would_change(fake: FakeModal, policy: Path) -> None:
    """New pools first, nothing after they are deployed, then what was edited, and what is left over."""
    planned = json.loads(output("plan", "--policy", policy, "--json"))
    assert [step["action"] for step in planned["steps"]] == ["create", "create"]
    assert fake.apps == {}
    output("deploy", "--policy", policy)
    policy.write_text(POLICY.replace("qwen3-4b-bf16-a10", "qwen3-vl-8b-fp8-a10").replace("small", "other"))
    planned = json.loads(output("plan", "--policy", policy, "--json"))
    assert {step["pool"]: step["action"] for step in planned["steps"]} == {"other": "create", "fast": "change"}
    assert "model: qwen3-4b -> qwen3-vl-8b" in planned["steps"][1]["changes"]
    assert planned["left_over"] == [{"app": "team-small", "pool": "small"}]


def test_deploying_gives_the_part_that_a_router_needs(fake: FakeModal, policy: Path) -> None:
    """One App a pool, tagged; and endpoints that load as a policy, their keys from the environment."""
    text = output("deploy", "--policy", policy)
    assert {each.name: each.tags["cost-centre"] for each in fake.apps.values()} == {
        "team-small": "r42",
        "team-fast": "r42",
    }
    part = text[text.index("endpoints:") :]
    policy.write_text(POLICY + part)
    environ = {"MODAL_PROXY_KEY": "wk-1", "MODAL_PROXY_SECRET": "ws-1"}
    loaded = load_policy([policy], environ=environ, now_us=1_795_000_000_000_000)
    assert loaded.endpoints["small"].url == "https://ws--team-small-pool.us-east.modal.direct"
    assert dict(loaded.endpoints["small"].headers) == {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}


def test_pools_that_are_called_by_a_number_keep_their_names(fake: FakeModal, policy: Path) -> None:
    """The printed part loads: what YAML would read as a number or as true stands in quotes."""
    text = POLICY.replace("small", '"1e3"').replace("fast", '"true"')
    policy.write_text(text)
    part = output("deploy", "--policy", policy)
    policy.write_text(text + part[part.index("endpoints:") :])
    environ = {"MODAL_PROXY_KEY": "wk-1", "MODAL_PROXY_SECRET": "ws-1"}
    assert set(load_policy([policy], environ=environ, now_us=1_795_000_000_000_000).endpoints) == {"1e3", "true"}


def test_what_deploying_prints_is_that_part_alone(fake: FakeModal, policy: Path) -> None:
    """So that it can go into a file: progress, and Apps that no pool asks for any more, stand beside it."""
    output("deploy", "--policy", policy)
    policy.write_text(POLICY.replace("small", "other"))
    result = sluice_pools("deploy", "--policy", policy)
    assert result.stdout.startswith("endpoints:\n  other:\n")
    assert "deployed and no pool" not in result.stdout
    assert "team-small is deployed and no pool of this policy: `sluice pools stop small` ends it" in result.stderr


def test_a_plan_as_json_says_what_it_leaves_out(policy: Path) -> None:
    """As the table does: a pool that nothing here can serve, with the reason."""
    policy.write_text(POLICY.replace("extends: qwen3-4b-bf16-a10", "extends: qwen3-4b-bf16-a10\n    engine: tgi"))
    planned = json.loads(output("plan", "--policy", policy, "--offline", "--json"))
    assert [step["pool"] for step in planned["steps"]] == ["small"]
    [line] = planned["left_out"]
    assert line.startswith(f"{policy}:")
    assert "'fast'" in line


def test_deploying_again_changes_nothing(fake: FakeModal, policy: Path) -> None:
    """What a plan keeps is not deployed: that would reset its autoscaler and replace its containers."""
    output("deploy", "--policy", policy)
    output("deploy", "--policy", policy)
    assert [each.deployments for each in fake.apps.values()] == [1, 1]


def test_an_app_of_somebody_elses_is_not_replaced(fake: FakeModal, policy: Path) -> None:
    """Another prefix may lead to the same name: `team-a` with pool `small`, and `team` with pool `a-small`."""
    policy.write_text(POLICY.replace("app_prefix: team", "app_prefix: team-a"))
    output("deploy", "small", "--policy", policy)
    policy.write_text(POLICY.replace("small", "a-small"))
    for verb in ("plan", "deploy"):
        trouble = str(error(verb, "--policy", policy))
        assert trouble == "an App 'team-a-small' is deployed and is no pool of ours; choose another app_prefix"
    assert [each.deployments for each in fake.apps.values()] == [1]


def test_a_missing_secret_stops_everything(fake: FakeModal, policy: Path) -> None:
    """Before the first App is made, with the line that asks for it."""
    fake.secrets.clear()
    problem = error("deploy", "--policy", policy)
    assert isinstance(problem, FileProblem)
    assert problem.problems == [
        f"{policy}:4: Modal has no Secret 'huggingface' in the default Environment; make it: "
        "modal secret create huggingface KEY=value"
    ]
    assert fake.apps == {}


def test_one_pool_that_cannot_load_stops_everything(fake: FakeModal, policy: Path) -> None:
    """With its arithmetic and its line; nothing is deployed, not even the pools that are right."""
    policy.write_text(POLICY.replace("extends: qwen3-4b-bf16-a10", "extends: qwen3-vl-8b-bf16-l40s\n    gpu: T4"))
    problem = str(error("deploy", "--policy", policy))
    assert f"{policy}:12: pool 'fast': cannot load:" in problem
    assert fake.apps == {}


def test_a_documents_placement_that_cannot_load_is_refused(policy: Path) -> None:
    """The 480B on four H100, by its name in the documents."""
    assert "short by 165.6 GiB" in str(error("plan", "qwen3-coder-480b-fp8-4xh100", "--policy", policy, "--offline"))


def test_a_misspelt_pool_is_answered_with_the_nearest(policy: Path) -> None:
    """With the policy's place."""
    assert "no pool 'smal'; did you mean 'small'?" in str(error("plan", "smal", "--policy", policy, "--offline"))


def test_status_shows_what_costs_money_now(fake: FakeModal, policy: Path) -> None:
    """Deployed or not, awake or asleep, containers and the rate of all of them."""
    output("deploy", "small", "--policy", policy)
    fake.boot("team-small", "ta-1", 1_700_000_000.0)
    fake.boot("team-small", "ta-2", 1_700_000_000.0)
    fake.serve("team-small", "ta-1")
    fake.app("team-small").answers = {200: 90, 429: 3, 503: 2}
    pools = json.loads(output("status", "--policy", policy, "--json"))["pools"]
    assert [(one["pool"], one["deployed"], one["ready"], one["booting"]) for one in pools] == [
        ("small", True, 1, 1),
        ("fast", False, 0, 0),
    ]
    assert pools[0]["nusd_per_h"] == 2 * 1_035_200_000
    assert pools[0]["last_hour"]["requests"] == 95
    lines = output("status", "--policy", policy).splitlines()
    assert lines[1].split()[:4] == ["small", "awake", "1", "1"]
    assert lines[1].split()[-3:] == ["$2.07", "95", "5"]
    assert "not deployed" in lines[2]


def test_what_a_book_does_not_bill_costs_nothing(fake: FakeModal, policy: Path) -> None:
    """Boots and idle time in a plan, and containers that boot in the status; one that serves has its rate."""
    book = (BOOKS / "modal-2026-10.yaml").read_text(encoding="utf-8")
    for key in ("image_pull", "model_init", "idle_tail"):
        book = book.replace(f"bills_{key}: true", f"bills_{key}: false")
    free = book.replace("id: modal-2026-10", "id: free").replace("series: modal", "series: free")
    (policy.parent / "free-book.yaml").write_text(free, encoding="utf-8")
    text = POLICY.replace("modal-2026-10", "free") + "price_books: [free-book.yaml]\n"
    policy.write_text(text, encoding="utf-8")
    [step] = json.loads(output("plan", "small", "--policy", policy, "--offline", "--json"))["steps"]
    assert (step["rate_nusd_per_h"], step["idle_nusd_per_h"], step["boot_nusd"], step["tail_nusd"]) == (
        1_035_200_000,
        0,
        0,
        0,
    )
    output("deploy", "small", "--policy", policy)
    for name in ("ta-1", "ta-2"):
        fake.boot("team-small", name, 1_700_000_000.0)
    fake.serve("team-small", "ta-1")
    assert json.loads(output("status", "--policy", policy, "--json"))["pools"][0]["nusd_per_h"] == 1_035_200_000


def test_status_goes_on_where_modal_does_not_say(fake: FakeModal, policy: Path) -> None:
    """Counts of the last hour that are refused, and containers of one pool, are question marks; all else stands."""
    output("deploy", "--policy", policy)
    for name in ("small", "fast"):
        fake.boot(f"team-{name}", f"ta-{name}", 1.0)
    fake.fail("ServerGetTimeRangeStats", Status.PERMISSION_DENIED, times=1)
    fake.fail("FlashContainerList", Status.PERMISSION_DENIED, times=1)
    text = output("status", "--policy", policy)
    assert "not all containers are known: small: Modal: as ordered" in text
    assert "the last hour of small is not known: Modal: as ordered" in text
    small, fast = (line for line in text.splitlines() if line.startswith(("small ", "fast ")))
    assert small.split() == ["small", "not", "known", "?", "?", "?", "?", "?"]
    assert fast.split()[1:4] == ["awake", "0", "1"]
    assert "an hour now, without 1 not known." in text
    fake.fail("ServerGetTimeRangeStats", Status.PERMISSION_DENIED)
    both = json.loads(CliRunner().invoke(app, ["status", "--policy", str(policy), "--json"]).stdout)["pools"]
    assert [(one["ready"] + one["booting"], one["last_hour"]) for one in both] == [(1, None), (1, None)]


def test_status_changes_nothing(fake: FakeModal, policy: Path) -> None:
    """Also where the files ask for other containers than what is deployed: that is for a deployment to bring."""
    output("deploy", "--policy", policy)
    fake.boot("team-small", "ta-1", 1.0)
    fake.serve("team-small", "ta-1")
    policy.write_text(POLICY.replace("min_containers: 1", "min_containers: 3"), encoding="utf-8")
    output("status", "--policy", policy)
    assert fake.app("team-small").autoscaler.min_containers == 1
    assert not fake.asked("FunctionUpdateSchedulingParams")


def test_stopping_leaves_nothing_that_bills(fake: FakeModal, policy: Path) -> None:
    """The named pool, then all with this prefix, then what they stored; a stopped one is said not to be deployed."""
    output("deploy", "--policy", policy)
    fake.boot("team-small", "ta-1", 1.0)
    assert output("stop", "small", "--policy", policy) == "small: stopped team-small\n"
    assert output("stop", "small", "--policy", policy) == "small: not deployed\n"
    text = output("stop", "--all", "--volumes", "--policy", policy)
    assert text == "fast: stopped team-fast\ndeleted Volumes sluice-weights, sluice-compile-cache\n"
    assert all(each.stopped and not each.tasks for each in fake.apps.values())
    assert fake.volumes == {}


def test_one_pool_that_cannot_be_stopped_leaves_no_other_alive(fake: FakeModal, policy: Path) -> None:
    """The rest is stopped, the Volumes of what still runs stay, and what is left is named."""
    output("deploy", "--policy", policy)
    fake.fail("AppStop", Status.PERMISSION_DENIED, times=1, message="not yours")
    trouble = str(error("stop", "--all", "--volumes", "--policy", policy))
    assert trouble == "stopping 'team-fast': not yours. What was not stopped goes on billing: stop it again"
    assert {each.name: each.stopped for each in fake.apps.values()} == {"team-small": True, "team-fast": False}
    assert len(fake.volumes) == 2


def test_what_cannot_be_deployed_any_more_can_be_stopped(fake: FakeModal, policy: Path) -> None:
    """A row that was broken after its deployment does not keep its containers alive."""
    output("deploy", "--policy", policy)
    policy.write_text(POLICY.replace("qwen3-4b-bf16-a10", "no-such-pool"))
    assert output("stop", "fast", "--policy", policy) == "fast: stopped team-fast\n"


def test_a_misspelt_pool_is_not_taken_for_stopped(fake: FakeModal, policy: Path) -> None:
    """It would go on billing: the nearest is named, and nothing is stopped, not even what was named rightly."""
    output("deploy", "--policy", policy)
    policy.write_text(POLICY.replace("  small:", "  other:").replace("[small, fast]", "[other, fast]"))
    for wrong, hint in (("smal", "'small'"), ("fastt", "'fast'"), ("othe", "'other'")):
        result = sluice_pools("stop", "fast", wrong, "--policy", policy)
        assert result.exit_code == 2
        assert f"no pool '{wrong}' is deployed or known; did you mean {hint}?" in " ".join(result.output.split())
    assert not any(each.stopped for each in fake.apps.values())
    assert output("stop", "small", "other", "--policy", policy) == "small: stopped team-small\nother: not deployed\n"


def test_a_stop_names_what_it_stops(policy: Path) -> None:
    """Neither nothing nor both."""
    assert sluice_pools("stop", "--policy", policy).exit_code == 2
    assert sluice_pools("stop", "small", "--all", "--policy", policy).exit_code == 2
    assert sluice_pools("stop", "small", "--volumes", "--policy", policy).exit_code == 2
    assert "Pools that are deployed, or --all." in output("stop", "--help")


def test_warming_up_waits_and_takes_its_minimum_back(fake: FakeModal, policy: Path) -> None:
    """The pool serves: its minimum is the row's again."""
    output("deploy", "fast", "--policy", policy)
    fake.boot("team-fast", "ta-1", 1.0)
    fake.serve("team-fast", "ta-1")
    assert output("warmup", "fast", "--policy", policy).startswith("fast is ready after ")
    asked = [request.settings.min_containers for request in fake.asked("FunctionUpdateSchedulingParams")]
    assert asked == [1, 0]


def test_a_pool_that_does_not_come_up_is_given_up(fake: FakeModal, policy: Path) -> None:
    """After the time that was given, with its minimum taken back: nothing goes on booting."""
    output("deploy", "fast", "--policy", policy)
    assert "did not serve within 1 s" in str(error("warmup", "fast", "--policy", policy, "--timeout-s", "1"))
    assert fake.app("team-fast").autoscaler.min_containers == 0


def test_without_a_token_it_says_where_one_goes(policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login is asked for: the message names the variables."""
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.setenv(name, "")
    assert "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET" in str(error("deploy", "--policy", policy))
    assert "Modal was not asked" in output("plan", "--policy", policy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("  modal:\n", "  url: http://127.0.0.1:1\n  modal:\n"), "url and modal would both run all pools; keep one"),
        (("app_prefix", "app_prefixx"), "unknown key 'app_prefixx'; did you mean 'app_prefix'?"),
        (("app_prefix: team", "routing_region: us-eastt"), "no routing_region 'us-eastt'; did you mean 'us-east'?"),
        (("{cost-centre: r42}", "{cost-centre: 'r 42'}"), "tags"),
    ],
)
def test_mistakes_under_platform_are_told_with_their_line(policy: Path, change: tuple[str, str], says: str) -> None:
    """By the plan, and by whatever else loads the policy."""
    policy.write_text(POLICY.replace(*change))
    for problem in (error("plan", "--policy", policy, "--offline"), _load_error(policy)):
        assert str(problem).startswith(f"{policy}:")
        assert says in str(problem)


def _load_error(policy: Path) -> FileProblem:
    with pytest.raises(FileProblem) as found:
        load_policy([policy], environ={}, now_us=1_795_000_000_000_000)
    return found.value
