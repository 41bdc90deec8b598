"""Connections to a PostgreSQL ledger, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import IntLoader

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl

# What the address itself says comes first. A peer that is gone is noticed within seconds, on either side.
_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "sluice",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# SQLSTATE classes of what one row can do wrong: its data, a constraint, a limit of the server.
_OF_ONE_ROW: Final = ("22", "23", "54")


def connect(url: PostgresUrl) -> psycopg.Connection[tuple[Any, ...]]:
    """For reading and upgrading. Sums come as exact integers of any size. Raises StoreUnavailable."""
    with in_our_words(url):
        connection = psycopg.connect(**_parameters(url))
    connection.adapters.register_loader("numeric", IntLoader)
    return connection


async def connect_async(url: PostgresUrl) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """For the drainer. Raises StoreUnavailable."""
    with in_our_words(url):
        # Plans are not kept on the server, so that a pooler in between may hand statements to any connection.
        return await psycopg.AsyncConnection.connect(**_parameters(url), autocommit=True, prepare_threshold=None)


def version_in(connection: psycopg.Connection[tuple[Any, ...]]) -> str | None:
    """The version of a database's tables; None where there are none. Raises psycopg.Error."""
    [found] = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() or [False]
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return str(row[0]) if row else None


@contextmanager
def in_our_words(url: PostgresUrl) -> Iterator[None]:
    """Turns psycopg's errors into StoreUnavailable, with the address and without the data of any row."""
    try:
        yield
    except psycopg.Error as error:
        raise StoreUnavailable(f"ledger {url}: {reason(error)}") from error


def reason(error: psycopg.Error) -> str:
    """What went wrong, in a line that quotes no value of a row."""
    if error.sqlstate is None:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    if error.sqlstate.startswith(_OF_ONE_ROW):
        return f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
    return f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"


def is_of_one_row(error: psycopg.Error) -> bool:
    """Whether what was to be written is at fault: trying again cannot help, leaving out the row can."""
    return (error.sqlstate or "").startswith(_OF_ONE_ROW)


def _parameters(url: PostgresUrl) -> dict[str, Any]:
    try:
        return {**_DEFAULTS, **conninfo_to_dict(url.dsn)}
    except psycopg.ProgrammingError:  # its message would quote the address, and with it the password
        raise StoreUnavailable(
            f"ledger {url}: the address is malformed; write postgresql://user:password@host:port/database, "
            "with special characters percent-encoded"
        ) from None
