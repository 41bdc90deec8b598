"""The verbs about money where replicas share the ledger: the same reports, and what waits in Redis."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from policies.files.fileset import SHIPPED_DEFAULT
from pricing.budgets.store import Settlement
from pricing.clock import SystemClock
from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import recent_rows
from pricing.ledger.upgrade import HEAD, ensure_current
from pricing.redis.store import RedisStore
from router.cli.main import app
from support.ledgers import recent_requests, write_small_ledger
from support.money import cap, caps, row, wish
from support.real_redis import RedisServer
from support.shared_ledger import SharedLedger, fill, shared_ledger

WINDOW = ("--since", "2026-01-01", "--until", "2026-01-03")
TENANTS = """\
version: 1
tenants:
    acme:
        keys:
            - {id: k1, sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
        caps:
            - {name: day, amount_usd: "0.000001", window: 24h}
"""


def sluice(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"SLUICE_LEDGER": "", "SLUICE_REDIS_URL": ""})


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@pytest.fixture
def small(tmp_path: Path, postgres_url: str) -> tuple[Path, str]:
    """The small ledger as a file and as a database."""
    path, url = tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    write_small_ledger(path)
    ensure_current(url)
    run(fill(url, reversed(recent_rows(path, 100)), recent_requests(path, 100)))
    return path, postgres_url


@pytest.mark.parametrize(
    "words",
    [
        ("report", *WINDOW),
        ("report", *WINDOW, "--by", "day,outcome", "--format", "csv"),
        ("explain", "c", "--json"),
        ("ledger", "show", "--json"),
    ],
)
def test_reports_and_past_requests_read_the_same(small: tuple[Path, str], words: tuple[str, ...]) -> None:
    """A verb prints the same for both kinds of ledger."""
    path, url = small
    from_file, from_database = (sluice(*words, "--ledger", place) for place in (path, url))
    assert from_file.exit_code == from_database.exit_code == 0
    assert from_database.output == from_file.output


def test_upgrade_creates_the_tables(postgres_url: str) -> None:
    """`sluice ledger upgrade` makes an empty database a ledger, and says so each time, without the user."""
    for _ in range(2):
        done = sluice("ledger", "upgrade", "--ledger", postgres_url)
        assert done.exit_code == 0
        assert done.output.startswith("postgresql://127.0.0.1:")
        assert f"tables of version {HEAD}" in done.output
    assert sluice("ledger", "show", "--ledger", postgres_url).output.endswith("has no rows yet.\n")


def scene(redis_url: str, postgres_url: str, namespace: str, step: Any) -> None:
    """Do something with the ledger of a namespace, on an event loop of its own."""

    async def work() -> None:
        async with shared_ledger(redis_url, postgres_url) as ledger:
            ledger.stream = type(ledger.stream)(ledger.client, namespace)
            ledger.namespace = namespace
            await step(ledger)

    run(work())


async def spend(ledger: SharedLedger) -> None:
    store = RedisStore(
        ledger.client, SystemClock(), caps(cap(1_000)), replica="r1", namespace=ledger.namespace, on_warn=print
    )
    await store.open(wish("a:1", 900))
    await store.settle(Settlement("a:1", 850, (row("a:1", 850, at_us=SystemClock().wall_us()),)))


def test_verify_says_as_of_which_entry_everything_agrees(redis_url: str, postgres_url: str, request: Any) -> None:
    """Rows that wait are counted with the others; a row that is gone is a disagreement and exit status 1."""
    name = f"cli-{id(request)}"
    scene(redis_url, postgres_url, name, spend)
    words = ("ledger", "verify", "--ledger", postgres_url, "--redis", redis_url, "--namespace", name)
    # The row says a pool metered it and no pool was: the scene has no meter.
    found = sluice(*words)
    assert found.exit_code == 1
    assert "1 rows, 0 requests, 0 open holds, $0.000000850 in all" in found.output
    assert "1 of the rows wait in Redis" in found.output
    assert "pool l4: its meter charged $0.000000000, its ledger rows say $0.000000850" in found.output
    document = json.loads(sluice(*words, "--json").output)
    assert (document["agrees"], document["waiting"], len(document["problems"])) == (False, 1, 1)


def test_budgets_are_shown_as_replicas_see_them(
    redis_url: str, postgres_url: str, tmp_path: Path, request: Any
) -> None:
    """Caps with what all replicas spent; looking takes no warning away from a replica."""
    name = f"cli-{id(request)}"
    scene(redis_url, postgres_url, name, spend)
    shutil.copy(SHIPPED_DEFAULT, tmp_path)
    (tmp_path / "tenants.yaml").write_text(TENANTS, encoding="utf-8")
    words = ("budget", "--policy", tmp_path, "--ledger", postgres_url, "--redis", redis_url, "--namespace", name)
    [status] = json.loads(sluice(*words, "--json").output)
    assert (status["cap"], status["spent_nusd"], status["left_nusd"], status["state"]) == (
        "acme/day",
        850,
        150,
        "warned",
    )


def test_budgets_that_redis_lost_are_given_back(
    redis_server: RedisServer, postgres_url: str, tmp_path: Path, request: Any
) -> None:
    """First what would change, then the same done, then nothing left to do; verifying agrees of them in the end."""
    name = f"cli-{id(request)}"
    where = ("--ledger", postgres_url, "--redis", redis_server.url, "--namespace", name)

    async def spent_and_drained(ledger: SharedLedger) -> None:
        await spend(ledger)
        await ledger.drain()

    scene(redis_server.url, postgres_url, name, spent_and_drained)
    redis_server.command("DEL", *redis_server.command("KEYS", f"{{{name}}}:*"))
    would = sluice("ledger", "restore-budgets", *where)
    assert would.exit_code == 0
    assert "tenant:acme: $0.000000850" in would.output
    assert "sums would change; --write does it" in would.output
    assert redis_server.command("KEYS", f"{{{name}}}:spent:*") == []
    wrote = json.loads(sluice("ledger", "restore-budgets", "--write", "--json", *where).output)
    assert wrote["written"]
    assert {"name": "tenant:acme", "nusd": 850} in wrote["sums"]
    assert sluice("ledger", "restore-budgets", *where).output == "budgets have all that the ledger says\n"
    assert sluice("ledger", "verify", *where).exit_code == 0
    redis_server.command("DEL", *redis_server.command("KEYS", f"{{{name}}}:*"))
    emptied = sluice("ledger", "verify", *where)
    assert emptied.exit_code == 1
    assert "give them back with `sluice ledger restore-budgets --write`" in emptied.output
    redis_server.command("SET", f"{{{name}}}:installation", "another")
    assert "the budgets of another ledger" in sluice("ledger", "verify", *where).output
    refused = sluice("ledger", "restore-budgets", "--write", *where)
    assert "are not of one installation; check both" in str(refused.exception)
    file = sluice("ledger", "restore-budgets", "--ledger", tmp_path / "ledger.sqlite")
    assert file.exit_code == 2
    assert "name a postgresql:// ledger" in file.output


def test_what_was_set_aside_is_shown_and_put_back(redis_url: str, postgres_url: str, request: Any) -> None:
    """Poison shows its ids and its reason, nothing of what a row says, and goes back where it came from."""
    name = f"cli-{id(request)}"
    where = ("--redis", redis_url, "--namespace", name)

    async def poisoned(ledger: SharedLedger) -> None:
        ledger.query("ALTER TABLE ledger_rows ADD CONSTRAINT small CHECK (amount_nusd < 100)")
        await ledger.add(row("a:1", 700))
        await ledger.add_fields([b"k", b"gift"])
        await ledger.drain()

    assert sluice("ledger", "poison", *where).output == "no entry was set aside\n"
    scene(redis_url, postgres_url, name, poisoned)
    shown = sluice("ledger", "poison", *where).output
    assert "a:1:attempt" in shown
    assert "CheckViolation (SQLSTATE 23514)" in shown
    assert "field k is not one of rows, filled" in shown
    assert "acme" not in shown
    found = json.loads(sluice("ledger", "poison", "--json", *where).output)
    assert [each["row_ids"] for each in found] == [[], ["a:1:attempt"]]
    assert sluice("ledger", "backlog", *where).output == "0 entries wait, 0 bytes; 2 were set aside\n"
    assert "put back 1;" in sluice("ledger", "poison", "--put-back", found[0]["id"], *where).output
    assert "put back 1;" in sluice("ledger", "poison", "--put-back", "all", *where).output
    backlog = json.loads(sluice("ledger", "backlog", "--json", *where).output)
    assert (backlog["entries"], backlog["poison"]) == (2, 0)


def test_what_is_missing_is_asked_for() -> None:
    """Without Redis, with a wrong address or a ledger of another kind, the message says what to give."""
    for words, said in (
        (("ledger", "backlog"), "SLUICE_REDIS_URL or --redis"),
        (("ledger", "poison", "--redis", "http://x"), "redis://"),
        (("ledger", "verify", "--ledger", "postgresql://a@127.0.0.1:1/x"), "SLUICE_REDIS_URL or --redis"),
        (("report", "--ledger", "mysql://h/d"), "a ledger is a file or a postgresql:// address"),
    ):
        done = sluice(*words)
        assert done.exit_code == 2
        assert said in " ".join(done.output.replace("│", " ").split()), done.output


def test_a_ledger_in_a_file_needs_nothing_of_postgresql(small: tuple[Path, str]) -> None:
    """Reading and verifying a file loads neither SQLAlchemy nor psycopg."""
    code = (
        "import sys; from pathlib import Path\n"
        "import router.cli.ledger, router.cli.report, router.cli.budget\n"
        "from pricing.ledger.read import recent_rows; from pricing.reports.report import report\n"
        "from pricing.verify.sqlite import verify; from pricing.ledger.upgrade import ensure_current\n"
        f"path = Path({str(small[0])!r}); ensure_current(path); verify(path, 0); report(path, ['tenant'], 0, 9)\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
