"""`sluice budget`, as people call it: looking at caps, and changing them in their files."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from policies.files.fileset import SHIPPED_DEFAULT
from pricing.clock import SystemClock
from pricing.errors import FileProblem
from router.cli.cap_edit import PolicyFiles
from router.cli.cap_text import set_amount
from support.cli import TENANTS, said, sluice
from support.ledgers import write_small_ledger
from support.no_rights import folder_of_others, without_rights
from support.scripted_server import Exchange, scripted


def test_budget_shows_every_cap(policy: Path, tmp_path: Path) -> None:
    """Amount, spent, held, left and reset of each; a ledger that does not exist yet has spent nothing."""
    result = sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite", "--json")
    caps = {cap["cap"]: cap for cap in json.loads(result.output)}
    assert list(caps) == ["acme/day", "acme/month", "pool:qwen3-vl-8b-fp8-l4/day"]
    assert (caps["acme/day"]["left_usd"], caps["acme/day"]["resets"], caps["acme/day"]["state"]) == (5.0, None, "ok")
    assert (caps["acme/month"]["amount_usd"], caps["acme/month"]["left_nusd"]) == (None, None)
    assert caps["acme/month"]["resets"].endswith("-01T00:00:00Z")
    table = sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite").output
    assert "pool:qwen3-vl-8b-fp8-l4/day" in table
    assert "unlimited" in table


def test_budget_says_where_there_is_no_ledger_yet(policy: Path, tmp_path: Path) -> None:
    """Nothing spent and nothing known look alike in the table: a note tells them apart."""
    nowhere = tmp_path / "none.sqlite"
    assert f"note: no ledger at {nowhere} yet" in sluice("budget", "--policy", policy, "--ledger", nowhere).output
    write_small_ledger(kept := tmp_path / "kept.sqlite")
    assert "note:" not in sluice("budget", "--policy", policy, "--ledger", kept).output


def test_budget_shows_rate_limits(policy: Path, tmp_path: Path) -> None:
    """Those of the files, for each tenant and key; their use is known to a running endpoint alone."""
    (policy / "limits.yaml").write_text("version: 1\ndefaults: {limits: {requests_per_minute: 1_200, in_flight: 9}}\n")
    lines = sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite").output.splitlines()
    assert [line.split() for line in lines if line.strip().startswith("tenant:acme")] == [
        ["tenant:acme", "requests", "a", "minute", "1,200"],
        ["tenant:acme", "in", "flight", "9"],
    ]
    assert "the endpoint knows: add --url" in lines[-1]


async def test_budget_asks_an_endpoint() -> None:
    """`--url` shows what all pages of `/budgets` say: caps, and limits with their use."""
    cap = {
        "object": "budget",
        "cap": "acme/month",
        "scope": "tenant:acme",
        "window": "1mo",
        "amount_usd": "unlimited",
        "spent_usd": 1.25,
        "held_usd": 0.0,
        "left_usd": "unlimited",
        "warned": False,
        "lowering_tier": False,
        "resets_at": 1767225600.0,
    }
    limit = {
        "object": "rate_limit",
        "scope": "key:acme-1",
        "dimension": "tokens",
        "limit": 10_000,
        "used": 9_000,
        "remaining": 1_000,
        "resets_in_s": 41.5,
    }
    pages = {
        "/budgets?limit=1000": {"data": [cap], "limits": [], "has_more": True, "last_id": "acme/month"},
        "/budgets?limit=1000&after=acme%2Fmonth": {"data": [], "limits": [limit], "has_more": False, "last_id": "x"},
    }

    async def script(exchange: Exchange) -> None:
        await exchange.answer("200 OK", json.dumps(pages[exchange.request.path]).encode())

    async with scripted(script) as server:
        words = ("budget", "show", "--url", f"{server.url}/v1", "--key", "sk-test")
        shown = await asyncio.to_thread(sluice, *words)
        plain = await asyncio.to_thread(sluice, *words, "--json")
    lines = [line.split() for line in shown.output.splitlines()]
    shows = ["acme/month", "tenant:acme", "1mo", "unlimited", "$1.2500", "$0.0000", "unlimited"]
    assert shows in [line[: len(shows)] for line in lines]
    assert ["key:acme-1", "tokens", "a", "minute", "10,000", "9,000", "42", "s"] in lines
    assert json.loads(plain.output) == {"object": "list", "data": [cap], "limits": [limit]}
    assert [one.path for one in server.received] == [*pages, *pages]
    assert {one.headers["authorization"] for one in server.received} == {"Bearer sk-test"}


def test_budget_show_is_what_budget_alone_does(policy: Path, tmp_path: Path) -> None:
    """Options stand before the word or behind it; behind counts where both are given."""
    ledger = ("--ledger", tmp_path / "none.sqlite")
    alone = sluice("budget", "--policy", policy, *ledger, "--json")
    assert len(json.loads(alone.output)) == 3
    for words in (
        ("show", "--policy", policy, *ledger, "--json"),
        ("--policy", policy, *ledger, "--json", "show"),
        ("--policy", SHIPPED_DEFAULT, "--json", "show", *ledger, "--policy", policy),
    ):
        assert sluice("budget", *words).output == alone.output


def test_budget_without_caps_says_so(tmp_path: Path) -> None:
    """The shipped policy limits nobody, and that is said rather than an empty table printed."""
    result = sluice("budget", "--policy", SHIPPED_DEFAULT, "--ledger", tmp_path / "none.sqlite")
    assert "The policy has no caps" in result.output


def test_budget_set_changes_one_number_and_keeps_the_comments(policy: Path) -> None:
    """The file differs from before in the one line, whose comment is still there."""
    result = sluice("budget", "set", "acme/day", "7.25", "--policy", policy)
    assert result.exit_code == 0, result.output
    before, after = TENANTS.splitlines(), (policy / "tenants.yaml").read_text(encoding="utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1
    assert "amount_usd: 7.25" in changed[0][1]
    assert "# dollars; ask Kim before changing" in changed[0][1]
    assert [path.name for path in sorted(policy.iterdir())] == ["default.yaml", "tenants.yaml"]


@pytest.mark.parametrize(
    ("cap", "amount", "shown"),
    [
        ("acme/month", "100", 100.0),
        ("pool:qwen3-vl-8b-fp8-l4/day", "0.000000001", 1e-9),
        ("pool:qwen3-vl-8b-fp8-l4/day", "0", 0.0),
        ("acme/day", "unlimited", None),
    ],
)
def test_budget_set_takes_every_amount(policy: Path, tmp_path: Path, cap: str, amount: str, shown: float) -> None:
    """Flow style, quoted numbers, single nano-dollars, 0 and unlimited: what was asked for is in force."""
    assert sluice("budget", "set", cap, amount, "--policy", policy).exit_code == 0
    caps = json.loads(sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite", "--json").output)
    assert {each["cap"]: each["amount_usd"] for each in caps}[cap] == shown


def test_budget_raise_has_an_end(policy: Path, tmp_path: Path) -> None:
    """A raise is added to the file with its end, and is in force now."""
    for cap in ("acme/day", "pool:qwen3-vl-8b-fp8-l4/day"):
        assert sluice("budget", "raise", cap, "20", "--until", "4h", "--policy", policy).exit_code == 0
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    assert sluice("budget", "raise", "acme/day", "30", "--until", tomorrow, "--policy", policy).exit_code == 0
    caps = json.loads(sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite", "--json").output)
    assert {each["cap"]: each["amount_usd"] for each in caps}["acme/day"] == 30.0
    text = (policy / "tenants.yaml").read_text(encoding="utf-8")
    assert text.count("until:") == 3
    assert "# dollars; ask Kim before changing" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set", "acme/dya", "7"), "there is no cap 'acme/dya'; did you mean 'acme/day'?"),
        (("set", "nothing/here", "7"), "there are: acme/day, acme/month, pool:qwen3-vl-8b-fp8-l4/day"),
        (("set", "acme/day", "lots"), "not an amount of dollars: 'lots'"),
        (("set", "acme/day", "unlimitd"), "not an amount of dollars: 'unlimitd'; did you mean 'unlimited'?"),
        (("set", "acme/day", "0.0000000001"), "more than nine decimals"),
        (("raise", "acme/day", "5", "--until", "4h"), "acme/day is no lower than 5 already"),
        (("raise", "acme/month", "5", "--until", "4h"), "acme/month is no lower than 5 already"),
        (("raise", "acme/day", "20", "--until", "2020-01-01"), "has passed; name a time to come"),
        (("raise", "acme/day", "20", "--until", "soon"), "'soon' is not a time"),
    ],
)
def test_budget_refuses_mistakes_and_leaves_the_file(policy: Path, words: tuple[str, ...], message: str) -> None:
    """Each message says what would be right; the file is as it was."""
    result = sluice("budget", *words, "--policy", policy)
    assert (result.exit_code, message in said(result)) == (2, True), said(result)
    assert (policy / "tenants.yaml").read_text(encoding="utf-8") == TENANTS


def test_budget_does_not_touch_a_set_that_is_wrong(policy: Path) -> None:
    """Files that are wrong already are reported with file and line, not edited."""
    broken = TENANTS.replace("window: 24h", "window: 24x")
    (policy / "tenants.yaml").write_text(broken, encoding="utf-8")
    result = sluice("budget", "set", "acme/day", "7", "--policy", policy)
    assert isinstance(result.exception, FileProblem)
    assert "tenants.yaml:11" in str(result.exception)
    assert (policy / "tenants.yaml").read_text(encoding="utf-8") == broken


def test_budget_keeps_the_line_breaks_of_a_file(policy: Path) -> None:
    """One that an editor for Windows saved changes in the lines that change, and in no other."""
    file = policy / "tenants.yaml"
    before = TENANTS.replace("\n", "\r\n").encode()
    file.write_bytes(before)
    assert sluice("budget", "set", "acme/day", "9", "--policy", policy).exit_code == 0
    assert file.read_bytes() == before.replace(b"amount_usd: 5 ", b"amount_usd: 9 ")
    assert sluice("budget", "raise", "acme/day", "10", "--until", "4h", "--policy", policy).exit_code == 0
    after = file.read_bytes()
    assert after.count(b"\r\n") == after.count(b"\n") == before.count(b"\n") + 1


def test_two_who_change_caps_at_once_lose_nothing(policy: Path) -> None:
    """Neither edit is undone by the other, and no cap gets another's amount."""
    caps = {"acme/day": 7, "acme/month": 8, "pool:qwen3-vl-8b-fp8-l4/day": 9}

    def change(cap: str) -> None:
        files = PolicyFiles((policy,), {}, SystemClock().wall_us())
        files.change(files.find(cap), set_amount(Decimal(caps[cap])))

    with ThreadPoolExecutor(len(caps)) as threads:
        list(threads.map(change, caps))
    shown = json.loads(sluice("budget", "--policy", policy, "--ledger", policy / "none.sqlite", "--json").output)
    assert {cap["cap"]: cap["amount_usd"] for cap in shown} == caps
    assert sorted(path.name for path in policy.iterdir()) == ["default.yaml", "tenants.yaml"]


def test_a_cap_that_may_not_be_changed_says_so(policy: Path) -> None:
    """A folder that is mounted read-only, as a ConfigMap is: the file and its line, and no trace."""
    with folder_of_others() as folder:
        shutil.copytree(policy, folder, dirs_exist_ok=True)
        files = PolicyFiles((folder,), {}, SystemClock().wall_us())
        cap = files.find("acme/day")
        with without_rights(folder), pytest.raises(FileProblem) as refused:
            files.change(cap, set_amount(Decimal(9)))
        assert (folder / "tenants.yaml").read_text(encoding="utf-8") == TENANTS
    said = "cannot be changed: Permission denied; edit it where it can be"
    assert refused.value.problems == [f"{folder / 'tenants.yaml'}:9: {said}"]


def test_budget_set_follows_a_link_and_keeps_it(policy: Path, tmp_path: Path) -> None:
    """A file behind a symbolic link is edited where it is; the link stays a link."""
    real = tmp_path / "elsewhere.yaml"
    (policy / "tenants.yaml").rename(real)
    (policy / "tenants.yaml").symlink_to(real)
    assert sluice("budget", "set", "acme/day", "9", "--policy", policy).exit_code == 0
    assert (policy / "tenants.yaml").is_symlink()
    assert "amount_usd: 9 " in real.read_text(encoding="utf-8")


def test_budget_takes_the_policy_before_or_after_the_word(policy: Path, tmp_path: Path) -> None:
    """`sluice budget --policy FILE set …` edits that file, not the one that would be taken without the option."""
    assert sluice("budget", "--policy", policy, "set", "acme/day", "8").exit_code == 0
    caps = json.loads(sluice("budget", "--policy", policy, "--ledger", tmp_path / "none.sqlite", "--json").output)
    assert {cap["cap"]: cap["amount_usd"] for cap in caps}["acme/day"] == 8
