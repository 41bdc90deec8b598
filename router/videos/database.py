"""Video jobs of replicas: records and clips in the PostgreSQL that has their ledger, so that each answers for all.

A job is run by the replica that took it and by no other. That one holds a lease on the record and renews it; when the
lease lapses, whoever looks next fails the job. Leases run on the database's clock. A replica that finds its own lease
lapsed (it was frozen, or cut off) ends its attempt, and the record stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from pricing.clock import US_PER_S
from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect, in_our_words
from router.videos.store import (
    COLUMNS_SQL,
    STOPPED,
    UNFINISHED,
    Found,
    Job,
    JobStatus,
    Statements,
    VideoStore,
    completed,
)

LEASE_S: Final = 60.0
RENEWALS: Final = 4  # in the time of one lease
_NOW: Final = "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)"
_MAKING: Final = 0x73_6C_76_69  # of an advisory lock: IF NOT EXISTS alone fails where two replicas start at once
_LOST_SAYS: Final = (
    "' has not been heard of for its lease while it ran this job; it is not run again by itself. Send it once more'"
)


class _Connection(Protocol):
    def execute(self, query: bytes, params: Sequence[Any], /) -> Found: ...


class _Transaction:
    """Our statements in the words of psycopg; PostgreSQL's text has no zero bytes."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Found:
        clean = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
        return self._connection.execute(statement.replace("?", "%s").encode(), clean)


class PostgresVideos(VideoStore):
    """Every method raises StoreUnavailable. `replica` is who runs what is created here."""

    table = "video_jobs"

    def __init__(
        self, url: PostgresUrl, replica: str, most_bytes: int, keep_us: int, *, lease_s: float = LEASE_S
    ) -> None:
        super().__init__(most_bytes, keep_us)
        self.renew_every_s = lease_s / RENEWALS
        self._url = url
        self._replica = replica
        self._lease_us = round(lease_s * US_PER_S)

    def open(self, now_us: int) -> None:
        """Make the tables."""
        with self._connected() as db:
            db.execute(f"SELECT pg_advisory_xact_lock({_MAKING})")
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} ({COLUMNS_SQL},"
                " replica TEXT NOT NULL DEFAULT '', lease_us BIGINT NOT NULL DEFAULT 0)"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS video_clips (id TEXT PRIMARY KEY"
                f" REFERENCES {self.table} ON DELETE CASCADE, clip BYTEA NOT NULL)"
            )

    def insert(self, db: Statements, job: Job) -> Job:
        known = super().insert(db, job)
        db.execute(f"UPDATE {self.table} SET replica = ? WHERE id = ?", [self._replica, job.id])
        self._lease(db, job.id)
        return known

    def renew(self, job_id: str) -> JobStatus | None:
        with self.transaction() as db:
            self._lease(db, job_id)
            row = db.execute(f"SELECT status FROM {self.table} WHERE id = ?", [job_id]).fetchone()
        return None if row is None else JobStatus(row[0])

    def completed(self, job: Job, clip: bytes) -> None:
        with self.transaction() as db:
            if not self.end(db, completed(job, clip)):
                return
            db.execute("INSERT INTO video_clips (id, clip) VALUES (?, ?)", [job.id, clip])
        self.make_room()

    def clip(self, job_id: str) -> bytes | None:
        with self.transaction() as db:
            row = db.execute("SELECT clip FROM video_clips WHERE id = ?", [job_id]).fetchone()
        return None if row is None else bytes(row[0])

    def delete(self, job_id: str) -> None:
        with self.transaction() as db:
            db.execute(f"DELETE FROM {self.table} WHERE id = ?", [job_id])

    @contextmanager
    def transaction(self) -> Iterator[Statements]:
        """Begins by failing the jobs whose leases have lapsed: whatever is read in it is true."""
        with self._connected() as db:
            db.execute(
                f"UPDATE {self.table} SET status = ?, ended_us = {_NOW}, expires_us = {_NOW} + ?, error_code = ?,"
                f" error_message = 'replica ' || replica || {_LOST_SAYS} WHERE {UNFINISHED} AND lease_us < {_NOW}",
                [JobStatus.FAILED.value, self.keep_us, STOPPED],
            )
            yield db

    @contextmanager
    def _connected(self) -> Iterator[Statements]:
        with in_our_words(self._url), connect(self._url) as connection:
            yield _Transaction(connection)

    def _lease(self, db: Statements, job_id: str) -> None:
        statement = f"UPDATE {self.table} SET lease_us = {_NOW} + ? WHERE id = ? AND {UNFINISHED}"
        db.execute(statement, [self._lease_us, job_id])
