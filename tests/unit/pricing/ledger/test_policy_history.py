"""Which policies were in force, in a file and in PostgreSQL: what is kept, for how long, and what came before what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from pricing.errors import StoreUnavailable
from pricing.ledger import policy_history
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.policy_history import (
    PolicyFile,
    PolicyVersion,
    PremiumPool,
    find_versions,
    policy_versions,
    premium_pools,
    remember,
    version_before,
)
from pricing.ledger.policy_pools import NotedPool, pools_of
from pricing.ledger.read import reading
from pricing.ledger.upgrade import ensure_current
from pricing.prices.token_price import TokenPrice
from support.ledgers import take_back
from support.values import replace

POOLS = (
    NotedPool("l4", "modal-2026-10", "modal", "serverless", "L4", 2, 0.125, 0.0, "us", 3, 2, 1),
    NotedPool("ü ' ?", "b", "p", "q", "api", 0, 0.0, 0.0, tokens=TokenPrice("big", 5, 15, 1)),
)
PREMIUM = (PremiumPool("big", "L40S", 2, 2_400_000_000, ("chat", "ü ' ?")), PremiumPool("api", "api", 1, 0, ("code",)))


@pytest.fixture(params=["file", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """An empty ledger of either kind."""
    made = (
        tmp_path / "ledger.sqlite" if request.param == "file" else PostgresUrl(request.getfixturevalue("postgres_url"))
    )
    ensure_current(made)
    return made


def version(name: str, at_us: int, replica: str = "r1", text: str | None = "a: 1\n") -> PolicyVersion:
    files = (PolicyFile("/etc/sluice/policy.yaml", text, f"sha of {text}"),)
    return PolicyVersion(name, "modal-2026-10", at_us, replica, at_us, replica, files)


def address(place: LedgerPlace) -> URL:
    if isinstance(place, PostgresUrl):
        return make_url(place.dsn).set(drivername="postgresql+psycopg")
    return URL.create("sqlite", database=str(place))


def names(place: LedgerPlace) -> list[str]:
    return [each.version for each in policy_versions(place, 10_000)]


def before(place: LedgerPlace, name: str, at_us: int) -> str | None:
    found = version_before(place, name, at_us)
    return None if found is None else found.version


def test_a_version_is_read_as_it_was_written(place: LedgerPlace) -> None:
    """Its files, a text with anything in it and one that is none, and who put it in force."""
    written = PolicyVersion(
        "4f1c", "modal-2026-10", 5, "r1", 5, "r1",
        (PolicyFile("ü\0 %s ?.yaml", "\0 ü ' \" % ? :a\n", "ab"), PolicyFile("model.bin", None, "cd")), PREMIUM,
    )  # fmt: skip
    remember(place, written)
    remember(place, written)
    assert find_versions(place, "4f1c") == [written]
    assert policy_versions(place, 5)[0].files is None


def test_a_name_that_is_no_utf_8_is_written_all_the_same(place: LedgerPlace) -> None:
    """A folder's odd file must not keep the history away."""
    remember(place, PolicyVersion("4f", "b", 5, "r", 5, "r", (PolicyFile("odd\udcff.yaml", "", "ab"),)))
    assert [file.name for file in find_versions(place, "4f")[0].files or ()] == ["odd?.yaml"]


def test_a_version_that_comes_back_is_one_row(place: LedgerPlace) -> None:
    """Restarts and other replicas move the last time that it was put in force, whatever order they are written in."""
    for each in (version("aa", 10, "r1"), version("aa", 30, "r3", "a: 2\n"), version("aa", 20, "r2")):
        remember(place, each)
    [found] = find_versions(place, "aa")
    assert (found.first_us, found.first_replica, found.latest_us, found.latest_replica) == (10, "r1", 30, "r3")
    assert found.files == version("aa", 30, "r3", "a: 2\n").files  # what hides secrets may have learnt since


def test_what_was_in_force_before(place: LedgerPlace) -> None:
    """Across restarts, replicas and policies that come back: the last other one that was there by then."""
    remember(place, version("aa", 10))
    assert before(place, "aa", 10) is None
    remember(place, version("bb", 20))
    assert (before(place, "bb", 20), before(place, "aa", 10)) == ("aa", None)
    remember(place, version("bb", 25, "r2"))
    assert before(place, "bb", 25) == "aa"
    remember(place, version("aa", 30))  # the edit was taken back
    assert (before(place, "aa", 30), before(place, "bb", 25)) == ("bb", "aa")
    assert before(place, "cc", 40) == "aa"  # is not written yet


def test_versions_are_found_by_how_they_begin(place: LedgerPlace) -> None:
    """Several where it is not clear; one that is named in full alone, though others begin so."""
    for at_us, name in enumerate(["abc", "abcd", "b%", "b_c"]):
        remember(place, version(name, at_us))
    assert [each.version for each in find_versions(place, "ab")] == ["abcd", "abc"]
    assert [each.version for each in find_versions(place, "abc")] == ["abc"]
    assert [each.version for each in find_versions(place, "b%")] == ["b%"]
    assert find_versions(place, "%") == []


def test_old_files_are_forgotten_and_versions_are_not(place: LedgerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest files are kept that fit; one that is too large is known without its own. Rows of money outlive files,
    so that what they are compared with stays.
    """
    monkeypatch.setattr(policy_history, "KEPT_BYTES", 700)
    for number in range(4):
        remember(place, replace(version(f"v{number}", number, text="x" * 100), premium=PREMIUM))
    assert names(place) == ["v3", "v2", "v1", "v0"]
    assert [find_versions(place, name)[0].files is None for name in names(place)] == [False, False, True, True]
    remember(place, version("huge", 9, text="x" * 600))
    assert [find_versions(place, name)[0].files is None for name in names(place)] == [True, False, False, True, True]
    assert [each.premium for each in policy_versions(place, 9)] == [None, *[PREMIUM] * 4]


def test_premium_pools_are_found_by_version(place: LedgerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are asked for and noted theirs, however many are asked for; what a version said does not change."""
    monkeypatch.setattr(policy_history, "_AT_ONCE", 2)
    for number in range(5):
        remember(place, replace(version(f"v{number}", number), premium=(replace(PREMIUM[0], nusd_per_h=number),)))
    remember(place, version("silent", 9))
    remember(place, replace(version("v1", 20), premium=PREMIUM))
    with reading(place) as ledger:
        found = premium_pools(ledger, {"v0", "v1", "v2", "v3", "silent", "gone"})
        assert premium_pools(ledger, ()) == {}
    assert {name: each[0].nusd_per_h for name, each in found.items()} == {"v0": 0, "v1": 1, "v2": 2, "v3": 3}


def test_a_version_of_before_notes_its_premium_pools_when_it_comes_back(place: LedgerPlace) -> None:
    """An older ledger keeps its history through the upgrade, without what nobody noted; a restart notes it."""
    remember(place, replace(version("aa", 1), premium=PREMIUM))
    take_back(address(place), "0010")
    ensure_current(place)
    assert find_versions(place, "aa") == [version("aa", 1)]
    remember(place, replace(version("aa", 5), premium=PREMIUM))
    assert find_versions(place, "aa")[0].premium == PREMIUM


def noted(place: LedgerPlace, name: str) -> object:
    with reading(place) as ledger:
        return pools_of(ledger, name)


def kept_lists(place: LedgerPlace) -> int:
    with reading(place) as ledger:
        return int(ledger.execute("SELECT count(*) FROM policy_pools").fetchone()[0])


def test_pools_are_kept_once_for_all_versions_that_share_them(place: LedgerPlace) -> None:
    """Most edits change no pool; what a version noted first stays, whatever order its pools come in; one that noted
    none is not taken for one that has none.
    """
    for number in range(3):
        remember(place, replace(version(f"v{number}", number), pools=POOLS[:: 1 if number % 2 else -1]))
    remember(place, version("silent", 9))
    remember(place, replace(version("none", 9), pools=()))
    remember(place, replace(version("v1", 20), pools=POOLS[:1]))
    remember(place, version("v2", 21))
    assert [noted(place, name) for name in ("v0", "v1", "v2")] == [POOLS] * 3
    assert (noted(place, "none"), noted(place, "silent"), noted(place, "gone")) == ((), None, None)
    assert kept_lists(place) == 3


def test_a_version_of_before_notes_its_pools_when_it_comes_back(place: LedgerPlace) -> None:
    """A ledger of 0011 keeps its history through the upgrade; taken back, it is as it was."""
    remember(place, replace(version("aa", 1), premium=PREMIUM, pools=POOLS))
    take_back(address(place), "0011")
    ensure_current(place)
    assert find_versions(place, "aa") == [replace(version("aa", 1), premium=PREMIUM)]
    assert noted(place, "aa") is None
    remember(place, replace(version("aa", 5), pools=POOLS))
    assert noted(place, "aa") == POOLS


def test_replicas_write_at_once(place: LedgerPlace) -> None:
    """Eight that start together on one policy are one row, and none of them fails."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: remember(place, version("aa", number, f"r{number}")), range(8)))
    [found] = policy_versions(place, 10)
    assert (found.latest_us, found.latest_replica) == (7, "r7")


def test_tables_of_another_version_are_left_alone(place: LedgerPlace) -> None:
    """A ledger of before has no history yet: writing and reading it says so, and changes nothing."""
    remember(place, version("aa", 1))
    take_back(address(place), "0008")
    for ask in (lambda: remember(place, version("bb", 2)), lambda: version_before(place, "bb", 3)):
        with pytest.raises(StoreUnavailable, match="tables of version 0008"):
            ask()
    ensure_current(place)
    assert names(place) == []


def test_a_ledger_that_is_away_says_so(tmp_path: Path) -> None:
    """Neither a file or folder that is missing nor a server that nobody answers for raises anything else; an empty file
    in the place of a ledger that was moved away would hide that it is.
    """
    moved = tmp_path / "ledger.sqlite"
    for gone in (moved, tmp_path / "no" / "ledger.sqlite", PostgresUrl("postgresql://sluice@127.0.0.1:1/ledger")):
        with pytest.raises(StoreUnavailable, match="ledger "):
            remember(gone, version("aa", 1))
    assert not moved.exists()
