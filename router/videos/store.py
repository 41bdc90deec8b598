"""Records of jobs for clips, and the clips: in SQL that SQLite and PostgreSQL understand alike.

A record is written before its job runs, so that a job is known whatever happens afterwards; one that its process did
not live to finish is failed, and never run a second time. No prompt is kept. Methods touch disk or database: call them
in a thread. `router.videos.files` keeps jobs for one process, `router.videos.database` for replicas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

import msgspec

from pricing.clock import US_PER_S

COLUMNS_SQL: Final = """
    id TEXT PRIMARY KEY, request_id TEXT NOT NULL, tenant TEXT NOT NULL, key_id TEXT NOT NULL,
    idempotency_key TEXT, fingerprint TEXT NOT NULL, model TEXT NOT NULL, size TEXT NOT NULL, seconds TEXT NOT NULL,
    created_us BIGINT NOT NULL, status TEXT NOT NULL, ended_us BIGINT, expires_us BIGINT, bytes BIGINT NOT NULL,
    content_type TEXT NOT NULL, pool TEXT, cost_nusd BIGINT, error_code TEXT, error_message TEXT,
    UNIQUE (tenant, key_id, idempotency_key)"""
STOPPED: Final = "stopped"
REPEATED_WITHIN_US: Final = 600 * US_PER_S  # SDKs repeat a request within seconds, at most minutes


class JobStatus(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class Job(msgspec.Struct, frozen=True):
    """One job. Instants are microseconds since the epoch; `bytes` is the size of its clip, 0 while there is none."""

    id: str
    request_id: str
    tenant: str
    key_id: str
    idempotency_key: str | None
    fingerprint: str
    model: str
    size: str
    seconds: str
    created_us: int
    status: JobStatus = JobStatus.QUEUED
    ended_us: int | None = None
    expires_us: int | None = None
    bytes: int = 0
    content_type: str = ""
    pool: str | None = None
    cost_nusd: int | None = None
    error_code: str | None = None
    error_message: str | None = None


_COLUMNS: Final = ",".join(Job.__struct_fields__)
_VALUES: Final = ",".join("?" * len(Job.__struct_fields__))
UNFINISHED: Final = f"status IN ('{JobStatus.QUEUED}', '{JobStatus.IN_PROGRESS}')"


class Found(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Statements(Protocol):
    """A transaction; parameters are written as `?`."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Found: ...


class VideoStore(ABC):
    """`most_bytes` bounds the clips of all jobs together, `keep_us` how long a job that ended is kept.

    `renew_every_s` is how often whoever runs a job must say so, None where nobody else could take it for lost.
    """

    table: ClassVar[str]
    renew_every_s: float | None = None

    def __init__(self, most_bytes: int, keep_us: int) -> None:
        self._most_bytes = most_bytes
        self.keep_us = keep_us

    @abstractmethod
    def open(self, now_us: int) -> None:
        """Make what is missing, once before anything else."""

    @abstractmethod
    def completed(self, job: Job, clip: bytes) -> None:
        """Keep a clip; the oldest ones go where there is no room. `job` says when it ended, where and at what cost."""

    @abstractmethod
    def clip(self, job_id: str) -> bytes | None:
        """A clip; None where there is none."""

    @abstractmethod
    def delete(self, job_id: str) -> None:
        """Forget a job and its clip."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Statements]:
        """What is executed in it is written as a whole or not at all."""

    def create(self, job: Job, repeated: bool = False) -> Job:
        """Write a new job; one with the same idempotency key is answered in its stead.

        `repeated`: so is the newest one of this key and request within the last minutes.
        """
        with self.transaction() as db:
            if repeated:
                row = db.execute(
                    f"SELECT {_COLUMNS} FROM {self.table} WHERE tenant = ? AND key_id = ? AND fingerprint = ?"
                    " AND created_us > ? ORDER BY created_us DESC LIMIT 1",
                    [job.tenant, job.key_id, job.fingerprint, job.created_us - REPEATED_WITHIN_US],
                ).fetchone()
                if row is not None:
                    return _job(row)
            return self.insert(db, job)

    def insert(self, db: Statements, job: Job) -> Job:
        """The new job, or the one that has its idempotency key."""
        values = [_plain(getattr(job, name)) for name in Job.__struct_fields__]
        row = db.execute(
            f"INSERT INTO {self.table} ({_COLUMNS}) VALUES ({_VALUES}) ON CONFLICT (tenant, key_id, idempotency_key)"
            f" DO UPDATE SET tenant = excluded.tenant RETURNING {_COLUMNS}",
            values,
        ).fetchone()
        return _job(row)

    def find(self, job_id: str) -> Job | None:
        with self.transaction() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM {self.table} WHERE id = ?", [job_id]).fetchone()
        return None if row is None else _job(row)

    def listed(self, tenant: str | None, limit: int, after: Job | None, *, newest_first: bool) -> list[Job]:
        """Jobs of a tenant (None: of all) in the order of their creation, those behind `after`."""
        conditions: list[str] = ["1 = 1"]
        values: list[str | int] = []
        if tenant is not None:
            conditions.append("tenant = ?")
            values.append(tenant)
        if after is not None:
            conditions.append(f"(created_us, id) {'<' if newest_first else '>'} (?, ?)")
            values += [after.created_us, after.id]
        order = "DESC" if newest_first else "ASC"
        with self.transaction() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM {self.table} WHERE {' AND '.join(conditions)}"
                f" ORDER BY created_us {order}, id {order} LIMIT ?",
                [*values, limit],
            ).fetchall()
        return [_job(row) for row in rows]

    def begun(self, job_id: str) -> None:
        with self.transaction() as db:
            statement = f"UPDATE {self.table} SET status = ? WHERE id = ? AND status = ?"
            db.execute(statement, [JobStatus.IN_PROGRESS.value, job_id, JobStatus.QUEUED.value])

    def renew(self, job_id: str) -> JobStatus | None:
        """Say that this job is still run; what its record says of it, None where it has been deleted."""
        found = self.find(job_id)
        return None if found is None else found.status

    def failed(self, job: Job) -> None:
        """`job` says why, and when it ended."""
        with self.transaction() as db:
            self.end(db, msgspec.structs.replace(job, status=JobStatus.FAILED))

    def end(self, db: Statements, job: Job) -> bool:
        """Write how a job ended; False where it has ended already, or was deleted."""
        changes = ("status", "ended_us", "bytes", "content_type", "pool", "cost_nusd", "error_code", "error_message")
        named = ", ".join(f"{name} = ?" for name in changes)
        values = [_plain(getattr(job, name)) for name in changes]
        expires_us = (job.ended_us or 0) + self.keep_us
        statement = f"UPDATE {self.table} SET {named}, expires_us = ? WHERE id = ? AND {UNFINISHED}"
        return db.execute(statement, [*values, expires_us, job.id]).rowcount > 0

    def expire(self, now_us: int) -> None:
        """Delete what has been kept for long enough."""
        with self.transaction() as db:
            rows = db.execute(f"SELECT id FROM {self.table} WHERE expires_us <= ?", [now_us]).fetchall()
        for (job_id,) in rows:
            self.delete(job_id)

    def make_room(self) -> None:
        """Delete the oldest clips, with their jobs, until the others fit; the newest stays, however large."""
        with self.transaction() as db:
            held = db.execute(f"SELECT id, bytes FROM {self.table} WHERE bytes > 0 ORDER BY ended_us, id").fetchall()
        total = sum(size for _, size in held)
        for job_id, size in held[:-1]:
            if total <= self._most_bytes:
                return
            self.delete(job_id)
            total -= size


def completed(job: Job, clip: bytes) -> Job:
    """The record of a job whose clip is there."""
    return msgspec.structs.replace(job, status=JobStatus.COMPLETED, bytes=len(clip))


def _plain(value: object) -> object:
    return str(value) if isinstance(value, JobStatus) else value


def _job(row: Sequence[Any]) -> Job:
    return msgspec.convert(dict(zip(Job.__struct_fields__, row, strict=True)), Job)
