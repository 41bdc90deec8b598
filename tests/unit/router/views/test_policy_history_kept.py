"""What a router took into force reaches the ledger without its requests waiting, and never with a secret."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.compile.reload import Edition, Reloader
from pricing.clock import ManualClock
from pricing.ledger.place import PostgresUrl
from pricing.ledger.policy_history import PolicyFile, PremiumPool, find_versions, policy_versions
from pricing.ledger.upgrade import ensure_current
from router.views import policy_history
from router.views.policy_history import WAITING_AT_MOST, PolicyHistory, as_version
from support.endpoint import policy

PREMIUM = (PremiumPool("big", "L40S", 1, 2_400_000_000, ("chat",)),)
NOBODY = PostgresUrl("postgresql://sluice@127.0.0.1:1/ledger")


def edition(version: str, at_us: int) -> Edition:
    return Edition(version, "modal-2026-10", at_us, (PolicyFile("p.yaml", f"{version}\n", version),), PREMIUM)


async def written(history: PolicyHistory, place: Path, count: int) -> None:
    """Let it keep on until so many versions are there."""
    keeping = asyncio.create_task(history.keep())
    async with asyncio.timeout(30):
        while len(await asyncio.to_thread(policy_versions, place, 100)) < count:
            pass
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_what_is_noted_is_written(tmp_path: Path) -> None:
    """Each version once, in their order, and the next one too."""
    place = tmp_path / "ledger.sqlite"
    ensure_current(place)
    history = PolicyHistory(place, "r1", ManualClock())
    history.note(edition("aa", 1))
    history.note(edition("bb", 2))
    await written(history, place, 2)
    history.note(edition("cc", 3))
    await written(history, place, 3)
    assert [each.version for each in policy_versions(place, 9)] == ["cc", "bb", "aa"]
    assert {(each.first_replica, each.premium) for each in policy_versions(place, 9)} == {("r1", PREMIUM)}


async def test_a_ledger_that_is_away_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost of the last versions, nothing is raised, and the log says it once."""
    place, clock = tmp_path / "ledger.sqlite", ManualClock()
    monkeypatch.setattr(policy_history.LOGGER, "propagate", True)
    history = PolicyHistory(place, "r1", clock)
    for number in range(WAITING_AT_MOST + 3):
        history.note(edition(f"v{number:02}", number))
    keeping = asyncio.create_task(history.keep())
    async with asyncio.timeout(30):
        while not caplog.records:
            await asyncio.to_thread(clock.wall_us)
        await asyncio.to_thread(ensure_current, place)
        while len(await asyncio.to_thread(policy_versions, place, 100)) < WAITING_AT_MOST:
            clock.advance(10)
    keeping.cancel()
    assert [each.version for each in policy_versions(place, 100)][-1] == "v03"
    assert [record.getMessage() for record in caplog.records] == ["policy not written to the ledger"]


def test_the_later_of_what_is_known_was_before(tmp_path: Path) -> None:
    """What the ledger has, unless this process has had another since; without a ledger, what it has had itself."""
    place = tmp_path / "ledger.sqlite"
    ensure_current(place)
    policy_history.remember(place, as_version(edition("aa", 10), "r2"))
    history, alone = PolicyHistory(place, "r1", ManualClock()), PolicyHistory(NOBODY, "r1", ManualClock())
    now = edition("cc", 30)

    def before(of: PolicyHistory, last: Edition | None) -> tuple[str, str] | None:
        found = of.before(now, last)
        return None if found is None else (found.version, found.latest_replica)

    assert before(history, None) == ("aa", "r2")
    assert before(history, edition("bb", 20)) == ("bb", "r1")
    assert before(history, edition("old", 5)) == ("aa", "r2")
    assert (before(alone, None), before(alone, edition("bb", 20))) == (None, ("bb", "r1"))


SECRETS = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=16, max_size=40)
PLACES = st.sampled_from(
    [
        "# {}",
        "# the key was sk-{} once",
        "# token: {}",
        "# see https://me:{}@host.example/path",
        "# see https://host.example/path?token={}",
        "# Authorization: Bearer {}",
        "# 'quoted {} in a sentence'",
    ]
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(PLACES, st.integers(0, 3)), max_size=6), st.lists(SECRETS, min_size=4, max_size=4, unique=True)
)
def test_no_secret_is_written(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[str, int]], secrets: list[str]
) -> None:
    """Keys of pools, header values, secrets and addresses of webhooks, hashes of keys: wherever somebody noted them."""
    folder = tmp_path_factory.mktemp("policy")
    environ = dict(zip(("POOL_KEY", "POOL_HEADER", "HOOK", "HOOK_PATH"), secrets, strict=True))
    files = policy(
        webhooks=[{"url": "https://hooks.example/${HOOK_PATH}/" + secrets[3], "secret": "${HOOK}"}],
        endpoints={
            "mid": {"url": "http://127.0.0.1:9", "api_key": "${POOL_KEY}", "headers": {"x-of": "Bearer ${POOL_HEADER}"}}
        },
    )
    text = "\n".join([*(form.format(secrets[at]) for form, at in notes), json.dumps(files, indent=1)])
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    reloader = Reloader([folder], ManualClock(), environ=environ)
    place = folder / "ledger.sqlite"
    ensure_current(place)
    policy_history.remember(place, as_version(reloader.editions()[0], "r1"))
    [found] = find_versions(place, reloader.policy.version)
    assert len((found.files or ())[0].text.splitlines()) == len(text.splitlines())  # type: ignore[union-attr]
    hashes = [key["sha256"] for tenant in files["tenants"].values() for key in tenant["keys"]]
    with sqlite3.connect(place) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = place.read_bytes().decode("latin-1")
    assert [each for each in (*secrets, *hashes) if each in stored] == []
