"""`sluice deploy` from its arguments to what reaches a control plane on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from grpclib import Status
from typer.testing import CliRunner, Result

from pools.modal.errors import ModalTrouble
from pricing.errors import FileProblem, SluiceError
from router.cli.deploy import app
from router.cli.pools import app as pools_app
from support.modal_control_plane import FakeModal, control_plane
from support.modal_router import SECRETS, router_policy, write_policy
from support.repository import ROOT

URL = "https://ws--sluice-router-endpoint.us-east.modal.direct"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_policy(tmp_path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModal]:
    """Modal as this machine's token would reach it."""
    fake = FakeModal(secrets=tuple(SECRETS))
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-fake")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-fake")
    with control_plane(fake) as client:
        modal.Client._set_env_client(client)
        yield fake
        modal.Client._set_env_client(None)


def sluice_deploy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def output(*arguments: str | Path) -> str:
    result = sluice_deploy(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def planned(policy: Path) -> Any:
    return json.loads(output("--dry-run", "--json", "--policy", policy))


def problems(policy: Path) -> list[str]:
    result = sluice_deploy("--dry-run", "--offline", "--policy", policy)
    assert isinstance(result.exception, FileProblem), result.output
    return result.exception.problems


def test_a_plan_needs_no_account(policy: Path) -> None:
    """It shows containers, Secrets and dollars an hour, says that nobody was asked, and asks nobody."""
    text = output("--dry-run", "--offline", "--policy", policy)
    assert "1 CPU, 1024 MiB, $0.0553/h" in text
    assert "$0.1106 an hour, $2.65 a day while nobody asks, at most $0.2212 an hour" in text
    assert "Secret sluice-stores  SLUICE_REDIS_URL, SLUICE_LEDGER" in text
    assert "answers may end within 420 s, then SIGTERM" in text
    assert "Modal was not asked" in text


def test_a_plan_shows_what_would_change(fake: FakeModal, policy: Path, tmp_path: Path) -> None:
    """New at first, nothing after it was deployed, then an edit of the policy, then one of its own keys."""
    assert planned(policy)["action"] == "create"
    assert fake.apps == {}
    output("--policy", policy)
    assert (planned(policy)["action"], planned(policy)["changes"]) == ("keep", [])
    policy.write_text(policy.read_text().replace("420", "300"))
    change = planned(policy)
    assert (change["action"], [text.split(":")[0] for text in change["changes"]]) == ("change", ["policy"])
    output("--policy", policy)
    write_policy(tmp_path, min_containers=3)
    assert "containers: 2-4 -> 3-4" in planned(policy)["changes"]


def test_deploying_says_where_it_serves_and_deploying_again_changes_nothing(fake: FakeModal, policy: Path) -> None:
    """A deployment replaces containers under running answers, so one that changes nothing is not made."""
    assert f"sluice serves {URL}/v1" in output("--policy", policy)
    again = output("--policy", policy)
    assert "sluice-router is deployed as it should be" in again
    assert f"ready once {URL}/health/readiness answers 200" in again
    assert [each.deployments for each in fake.apps.values()] == [1]


def test_stopping_leaves_nothing_that_bills(fake: FakeModal, policy: Path) -> None:
    """Its containers are gone, pools stay, and stopping twice is no error."""
    output("--policy", policy)
    fake.boot("sluice-router", "ta-1", 1.0)
    assert output("stop", "--policy", policy).startswith("stopped sluice-router; Redis, PostgreSQL")
    assert [(each.stopped, each.tasks) for each in fake.apps.values()] == [(True, {})]
    assert output("stop", "--policy", policy) == "no router of this prefix is deployed\n"


def test_what_is_still_listed_after_a_stop_is_an_error(
    fake: FakeModal, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Modal takes the stop and goes on listing the App, it may bill."""
    output("--policy", policy)
    monkeypatch.setattr(modal.App, "stop", lambda *_, **__: None)
    result = sluice_deploy("stop", "--policy", policy)
    assert isinstance(result.exception, ModalTrouble)
    assert "still lists sluice-router as deployed" in str(result.exception)


def test_pools_are_no_routers_and_routers_no_pools(fake: FakeModal, policy: Path) -> None:
    """`sluice pools stop --all` leaves the router, and the other way round."""
    runner = CliRunner()
    assert runner.invoke(pools_app, ["deploy", "--policy", str(policy)]).exit_code == 0
    output("--policy", policy)
    assert "router" not in runner.invoke(pools_app, ["stop", "--all", "--policy", str(policy)]).output
    assert not fake.app("sluice-router").stopped


def test_a_missing_secret_stops_everything(fake: FakeModal, policy: Path) -> None:
    """Before the App is made, with the line that asks for it and the command that makes it."""
    fake.secrets.remove("sluice-stores")
    result = sluice_deploy("--policy", policy)
    assert isinstance(result.exception, FileProblem)
    [problem] = result.exception.problems
    assert problem.startswith(f"{policy}:")
    assert "modal secret create sluice-stores SLUICE_REDIS_URL=… SLUICE_LEDGER=…" in problem
    assert fake.apps == {}


def test_a_secret_that_lacks_a_variable_stops_everything(fake: FakeModal, policy: Path) -> None:
    """Modal compares the names; no value is ever asked for."""
    fake.secret_keys["sluice-stores"] = {"SLUICE_REDIS_URL"}
    result = sluice_deploy("--policy", policy)
    assert isinstance(result.exception, FileProblem)
    [problem] = result.exception.problems
    assert "Secret 'sluice-stores' does not hold SLUICE_REDIS_URL, SLUICE_LEDGER: " in problem
    assert "missing key(s) SLUICE_LEDGER" in problem
    assert fake.apps == {}


def test_an_app_of_that_name_that_is_not_ours_is_left_alone(fake: FakeModal, policy: Path) -> None:
    """Neither replaced nor stopped."""
    output("--policy", policy)
    fake.app("sluice-router").tags = {"team": "other"}
    for arguments in (("--policy", policy), ("stop", "--policy", policy)):
        result = sluice_deploy(*arguments)
        assert isinstance(result.exception, ModalTrouble)
        assert "no router of ours; choose another app_prefix" in str(result.exception)
    assert fake.app("sluice-router").deployments == 1


def test_without_a_token_it_says_where_one_goes(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login is asked for, and a dry run goes on without."""
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.setenv(name, "")
    result = sluice_deploy("--policy", policy)
    assert isinstance(result.exception, SluiceError)
    assert "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET" in str(result.exception)
    assert "Modal was not asked" in output("--dry-run", "--policy", policy)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (Status.RESOURCE_EXHAUSTED, "a limit of the account is reached"),
        (Status.UNAVAILABLE, "deploying 'sluice-router'"),
    ],
)
def test_a_deployment_that_fails_says_why(fake: FakeModal, policy: Path, status: Status, says: str) -> None:
    """In one line, with what to do."""
    fake.fail("FunctionCreate", status)
    result = sluice_deploy("--policy", policy)
    assert isinstance(result.exception, ModalTrouble)
    assert says in str(result.exception)


def without(*names: str) -> dict[str, list[str]]:
    return {secret: [name for name in held if name not in names] for secret, held in SECRETS.items()}


@pytest.mark.parametrize(
    ("router", "says"),
    [
        ({"min_containers": 0}, "min_containers is 0: without a container Modal answers 503 by itself"),
        ({"min_containers": 5}, "min_containers 5 is above max_containers 4; lower it"),
        ({"max_containers": 99_999_999_999}, "less than or equal to 10000, not 99999999999"),
        ({"max_concurrency": 99_999_999_999}, "less than or equal to 100000, not 99999999999"),
        ({"target_concurrency": 500}, "target_concurrency 500 is above max_concurrency 400"),
        ({"region": "us-eastt"}, "Modal has no region 'us-eastt'; did you mean 'us-east'?"),
        ({"secrets": without("SLUICE_LEDGER")}, "no Secret holds SLUICE_LEDGER: on Modal budgets are in Redis"),
        ({"secrets": without("SLUICE_REDIS_URL", "SLUICE_LEDGER")}, "SLUICE_REDIS_URL and SLUICE_LEDGER"),
        ({"secrets": without("MODAL_TOKEN_ID")}, "no Secret holds MODAL_TOKEN_ID, by which the router asks Modal"),
        ({"secrets": without("MODAL_PROXY_KEY")}, "${MODAL_PROXY_KEY} is in no Secret of the router"),
        ({"secrets": {**SECRETS, "more": ["SLUICE_LEDGER"]}}, "SLUICE_LEDGER is in more than one Secret"),
        ({"memory": 1}, "unknown key 'memory'"),
    ],
)
def test_what_cannot_serve_is_refused_with_its_line(tmp_path: Path, router: dict[str, Any], says: str) -> None:
    """Containers that would not be there, secrets that hold too little, a file in place of PostgreSQL."""
    path = write_policy(tmp_path, **router)
    told = problems(path)
    assert any(says in problem for problem in told), told
    assert all(problem.startswith(f"{path}:") for problem in told)


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    policy = router_policy()
    change(policy)
    return policy


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (edited(lambda p: p.pop("tenants")), "no tenants are configured, and this router is reached from outside"),
        (edited(lambda p: p["platform"]["modal"].pop("router")), "nothing here asks for a router on Modal"),
        (edited(lambda p: p.pop("platform")), "nothing here asks for a router on Modal"),
        (edited(lambda p: p.update(price_books=["/opt/books"])), "'/opt/books' is a place of this machine"),
        (edited(lambda p: p["classes"].pop("chat")), "there are no classes"),
        (
            edited(lambda p: p.update(webhooks=[{"url": "https://hooks.example", "secret": "${HOOK_SECRET}"}])),
            "${HOOK_SECRET} is in no Secret of the router",
        ),
        (
            edited(lambda p: p["platform"]["modal"].update(app_prefix="s" * 70)),
            "is longer than 64; shorten app_prefix",
        ),
        (
            edited(lambda p: p.update(pools={"router": {"extends": "qwen3-4b-bf16-a10"}})),
            "pool 'router' would be deployed as 'sluice-router', the router's App; rename it",
        ),
    ],
)
def test_a_policy_that_such_a_router_cannot_serve_is_refused(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    """Open to everybody, without the part that asks for it, with files that its image would not have."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(files, indent=1))
    told = problems(path)
    assert any(says in problem for problem in told), told


def test_a_pool_called_router_is_refused_by_its_own_verb_too(tmp_path: Path) -> None:
    """It would replace the router."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(edited(lambda p: p.update(pools={"router": {"extends": "qwen3-4b-bf16-a10"}}))))
    result = CliRunner().invoke(pools_app, ["plan", "--offline", "--policy", str(path)])
    assert "the router's App; rename it" in str(result.exception)


def test_files_beside_the_policy_go_with_it_where_it_names_them(fake: FakeModal, tmp_path: Path) -> None:
    """A price book in another folder is found from the policy's file, in the container as here."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "books").mkdir()
    book = (ROOT / "pricing" / "books" / "modal-2026-10.yaml").read_text().replace("id: modal-2026-10", "id: own")
    (tmp_path / "books" / "own.yaml").write_text(book)
    files = {**router_policy(), "price_book": "own", "price_books": ["../books"]}
    (tmp_path / "policies" / "a.yaml").write_text(json.dumps(files))
    (tmp_path / "policies" / "b.yaml").write_text("version: 1\naliases: {gpt-4o-mini: chat}\n")
    declared = planned(tmp_path / "policies")["declaration"]
    assert list(declared["files"]) == ["/policy/policies/a.yaml", "/policy/policies/b.yaml", "/policy/books/own.yaml"]
    assert declared["command"][-4:] == ["--policy", "/policy/policies/a.yaml", "--policy", "/policy/policies/b.yaml"]


def test_files_behind_links_go_with_it_too(fake: FakeModal, tmp_path: Path) -> None:
    """A folder that is a link, as deployments of files make them: what a policy names beside it is found from where the
    folder really lies.
    """
    real = tmp_path / "releases" / "7"
    (real / "policies").mkdir(parents=True)
    (real / "books").mkdir()
    book = (ROOT / "pricing" / "books" / "modal-2026-10.yaml").read_text().replace("id: modal-2026-10", "id: own")
    (real / "books" / "own.yaml").write_text(book)
    files = {**router_policy(), "price_book": "own", "price_books": ["../books"]}
    (real / "policies" / "a.yaml").write_text(json.dumps(files))
    (tmp_path / "current").symlink_to(real / "policies")
    declared = planned(tmp_path / "current")["declaration"]
    assert list(declared["files"]) == ["/policy/policies/a.yaml", "/policy/books/own.yaml"]


def test_a_router_without_anything_behind_it_is_told_so(tmp_path: Path) -> None:
    """A policy without endpoints has nothing to send requests to."""
    files = router_policy()
    del files["endpoints"]
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(files))
    text = output("--dry-run", "--offline", "--policy", path)
    assert "No pool has an endpoint" in text


def test_a_pinned_region_and_containers_that_stay_have_their_price(tmp_path: Path) -> None:
    """Of the price book: a region in the US is half as dear again, and CPU and memory three times the price if kept."""
    plain = planned_rate(tmp_path)
    assert planned_rate(tmp_path, region="us") == plain * 3 // 2
    assert planned_rate(tmp_path, nonpreemptible=True) == plain * 3


def planned_rate(folder: Path, **router: Any) -> int:
    rate = json.loads(output("--dry-run", "--offline", "--json", "--policy", write_policy(folder, **router)))
    return int(rate["rate_nusd_per_h"])
