"""Which policies were in force, for whoever finds a version in a row of money, compares it with a baseline or asks what
changed.

Every router writes the version that it takes into force, with what its files said; a version that comes back, at a
restart or at another replica, is the same row, put in force once more. Texts come without secrets: whoever writes has
hidden them. A version is kept as long as the ledger, since rows of money are; of the newest, also the files of as many
as fit into KEPT_BYTES.

Nothing here is on the way of a request, and nothing of it is money: a ledger without it is whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace, PostgresUrl, connect_existing
from pricing.ledger.policy_pools import ADD, NotedPool, as_kept
from pricing.ledger.read import reading
from pricing.ledger.reader import Found, Reader, Values, check_version
from pricing.ledger.upgrade import version_of

KEPT_BYTES: Final = 32 * 2**20
_AT_ONCE: Final = 500  # versions that one statement looks up; databases bound how many parameters one may have
_COLUMNS: Final = "version, price_book, first_us, first_replica, latest_us, latest_replica, premium"


class PolicyFile(msgspec.Struct, frozen=True):
    """A file as it may be shown. `text` None: it is none, or too long to be shown; `sha256` is of the file as it is."""

    name: str
    text: str | None
    sha256: str


class PremiumPool(msgspec.Struct, frozen=True):
    """What requests of `classes` are compared with: a pool, and what one container of it cost an hour.

    0 where the pool is not billed by the hour, but by the token.
    """

    pool: str
    gpu: str
    gpu_count: int
    nusd_per_h: int
    classes: tuple[str, ...]


class PolicyVersion(msgspec.Struct, frozen=True):
    """A version with who put it in force first, and last: replicas by name, microseconds since the epoch.

    `files` None: they were not asked for, or are not kept any more. `premium` None: nobody noted the premium pools, as
    before ledgers of version 0011. `pools` are written and not read back: `pricing.ledger.policy_pools.pools_of` finds
    them; None: leave what is there.
    """

    version: str
    price_book: str
    first_us: int
    first_replica: str
    latest_us: int
    latest_replica: str
    files: tuple[PolicyFile, ...] | None = None
    premium: tuple[PremiumPool, ...] | None = None
    pools: tuple[NotedPool, ...] | None = None


class _Writer(Protocol):
    def execute(self, statement: str, values: Values = ()) -> Found: ...


_files_json: Final = msgspec.json.Decoder(tuple[PolicyFile, ...])
_premium_json: Final = msgspec.json.Decoder(tuple[PremiumPool, ...])


def remember(place: LedgerPlace, found: PolicyVersion) -> None:
    """Write a version that was put in force, and forget files that are too old. Raises StoreUnavailable.

    Called again with the same, nothing changes.
    """
    said = msgspec.json.encode([_plain(file) for file in found.files or ()])
    files, size = (said.decode(), len(said)) if len(said) <= KEPT_BYTES else (None, 0)
    premium = None if found.premium is None else msgspec.json.encode(found.premium).decode()
    values = [found.version, found.price_book, found.first_us, found.first_replica, found.latest_us]
    kept = None if found.pools is None else as_kept(found.pools)
    with _writing(place) as ledger:
        if kept is not None:
            ledger.execute(ADD, kept)
        ledger.execute(_UPSERT, [*values, found.latest_replica, premium, files, size, kept and kept[0]])
        ledger.execute(_FORGET_FILES, [KEPT_BYTES])


def policy_versions(place: LedgerPlace, limit: int) -> list[PolicyVersion]:
    """Those that were put in force last, newest first, without their files. Raises StoreUnavailable."""
    query = f"SELECT {_COLUMNS}, NULL FROM policy_versions ORDER BY latest_us DESC, version LIMIT ?"
    with reading(place) as ledger:
        return [_version(found) for found in ledger.execute(query, [limit])]


def find_versions(place: LedgerPlace, begins: str, limit: int = 10) -> list[PolicyVersion]:
    """Versions by the first characters of their names; one that is named in full is found alone.

    Raises StoreUnavailable.
    """
    query = (
        f"SELECT {_COLUMNS}, files FROM policy_versions WHERE substr(version, 1, ?) = ? "
        "ORDER BY CASE WHEN version = ? THEN 0 ELSE 1 END, latest_us DESC, version LIMIT ?"
    )
    with reading(place) as ledger:
        found = [_version(each) for each in ledger.execute(query, [len(begins), begins, begins, limit])]
    return found[:1] if found and found[0].version == begins else found


def version_before(place: LedgerPlace, version: str, at_us: int) -> PolicyVersion | None:
    """What was in force before a version that was put in force at `at_us`: of the others that were there by then, the
    one that was put in force last. Raises StoreUnavailable.
    """
    query = (
        f"SELECT {_COLUMNS}, files FROM policy_versions WHERE version <> ? AND first_us < ? "
        "ORDER BY latest_us DESC, version LIMIT 1"
    )
    with reading(place) as ledger:
        found = ledger.execute(query, [version, at_us]).fetchone()
    return None if found is None else _version(found)


def premium_pools(ledger: Reader, versions: Collection[str]) -> dict[str, tuple[PremiumPool, ...]]:
    """The premium pools of those of these versions that have noted theirs."""
    asked, found = list(versions), {}
    for first in range(0, len(asked), _AT_ONCE):
        some = asked[first : first + _AT_ONCE]
        query = (
            "SELECT version, premium FROM policy_versions "
            f"WHERE premium IS NOT NULL AND version IN ({','.join('?' * len(some))})"
        )
        found.update({version: _premium_json.decode(premium) for version, premium in ledger.execute(query, some)})
    return found


def _version(values: Sequence[Any]) -> PolicyVersion:
    version, price_book, first_us, first_replica, latest_us, latest_replica, premium, files = values
    kept = None if files is None else _files_json.decode(files)
    noted = None if premium is None else _premium_json.decode(premium)
    return PolicyVersion(version, price_book, first_us, first_replica, latest_us, latest_replica, kept, noted)


def _plain(file: PolicyFile) -> PolicyFile:
    """A name that is no UTF-8 is written with question marks."""
    return msgspec.structs.replace(file, name=file.name.encode("utf-8", "replace").decode())


@contextmanager
def _writing(place: LedgerPlace) -> Iterator[_Writer]:
    """One transaction beside those that write rows. Raises StoreUnavailable, also for tables of another version."""
    if isinstance(place, PostgresUrl):
        from pricing.ledger.read_database import writing_database

        with writing_database(place) as database:
            yield database
    else:
        with _writing_file(place) as connection:
            yield connection


@contextmanager
def _writing_file(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = connect_existing(path, "rw")
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            check_version(path, version_of(connection))
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"ledger {path} cannot be written: {error}") from error


_LATER: Final = "CASE WHEN excluded.latest_us >= known.latest_us THEN excluded.{0} ELSE known.{0} END"
_UPSERT: Final = f"""
    INSERT INTO policy_versions AS known ({_COLUMNS}, files, bytes, pools) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (version) DO UPDATE SET premium = coalesce(known.premium, excluded.premium),
    pools = coalesce(known.pools, excluded.pools),
    {", ".join(f"{name} = {_LATER.format(name)}" for name in ("latest_us", "latest_replica", "files", "bytes"))}"""
_FORGET_FILES: Final = """
    UPDATE policy_versions SET files = NULL, bytes = 0 WHERE files IS NOT NULL AND version IN (
        SELECT version FROM (
            SELECT version, sum(bytes) OVER (ORDER BY latest_us DESC, version) AS so_far FROM policy_versions
            WHERE files IS NOT NULL
        ) AS newest WHERE so_far > ?)"""
