"""Jobs for clips and the clips themselves, in a folder of one process: records in SQLite, bytes in files.

A record is written before its job runs, so that a job is known whatever happens afterwards; one that the process did
not live to finish is failed when the folder is opened again, and never run a second time. No prompt is kept. Methods
touch the disk: call them in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, request_id TEXT NOT NULL, tenant TEXT NOT NULL, key_id TEXT NOT NULL,
    idempotency_key TEXT, fingerprint TEXT NOT NULL, model TEXT NOT NULL, size TEXT NOT NULL, seconds TEXT NOT NULL,
    created_us INTEGER NOT NULL, status TEXT NOT NULL, ended_us INTEGER, expires_us INTEGER, bytes INTEGER NOT NULL,
    content_type TEXT NOT NULL, pool TEXT, cost_nusd INTEGER, error_code TEXT, error_message TEXT,
    UNIQUE (tenant, key_id, idempotency_key)
)"""
STOPPED: Final = "stopped"
REPEATED_WITHIN_US: Final = 600 * 1_000_000  # SDKs repeat a request within seconds, at most minutes
_STOPPED_SAYS: Final = "the endpoint stopped while this job was under way; it is not run again by itself"


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


class VideoStore:
    """`most_bytes` bounds the clips of all jobs together, `keep_us` how long a job that ended is kept."""

    def __init__(self, folder: Path, most_bytes: int, keep_us: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._keep_us = keep_us

    def open(self, now_us: int) -> None:
        """Make the folder, and fail what an earlier process left unfinished."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._writing() as db:
            db.execute(_TABLE)
            db.execute(
                "UPDATE jobs SET status = ?, ended_us = ?, expires_us = ?, error_code = ?, error_message = ?"
                " WHERE status IN (?, ?)",
                [
                    JobStatus.FAILED.value,
                    now_us,
                    now_us + self._keep_us,
                    STOPPED,
                    _STOPPED_SAYS,
                    JobStatus.QUEUED.value,
                    JobStatus.IN_PROGRESS.value,
                ],
            )
        known = {self.clip(job.id) for job in self._all()}
        for path in self._folder.glob("video_*"):
            if path not in known:  # written by a process that ended before its record said so
                path.unlink()

    def create(self, job: Job, repeated: bool = False) -> Job:
        """Write a new job; one with the same idempotency key is answered in its stead.

        So is, where the client says that it repeats itself, one for the same request of the last ten minutes.
        """
        with self._writing() as db:
            if repeated and job.idempotency_key is None:
                row = db.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE tenant = ? AND key_id = ? AND fingerprint = ?"
                    " AND created_us > ? ORDER BY created_us DESC LIMIT 1",
                    [job.tenant, job.key_id, job.fingerprint, job.created_us - REPEATED_WITHIN_US],
                ).fetchone()
                if row is not None:
                    return _job(row)
            values = [_plain(getattr(job, name)) for name in Job.__struct_fields__]
            done = db.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({_VALUES}) ON CONFLICT DO NOTHING", values)
            if done.rowcount:
                return job
            row = db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE tenant = ? AND key_id = ? AND idempotency_key = ?",
                [job.tenant, job.key_id, job.idempotency_key],
            ).fetchone()
        return _job(row)

    def find(self, job_id: str) -> Job | None:
        with closing(self._connect()) as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", [job_id]).fetchone()
        return None if row is None else _job(row)

    def begun(self, job_id: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE jobs SET status = ? WHERE id = ?", [JobStatus.IN_PROGRESS.value, job_id])

    def completed(self, job: Job, clip: bytes) -> None:
        """Keep a clip; the oldest ones go where there is no room. `job` says when it ended, where and at what cost."""
        part = self.clip(job.id).with_suffix(".part")
        part.write_bytes(clip)
        part.replace(self.clip(job.id))
        if self._end(msgspec.structs.replace(job, status=JobStatus.COMPLETED, bytes=len(clip))):
            self._make_room()
        else:  # deleted while it was written
            self.clip(job.id).unlink(missing_ok=True)

    def failed(self, job: Job) -> None:
        """`job` says why, and when it ended."""
        self._end(msgspec.structs.replace(job, status=JobStatus.FAILED))

    def delete(self, job_id: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", [job_id])
        self.clip(job_id).unlink(missing_ok=True)

    def expire(self, now_us: int) -> None:
        """Delete what has been kept for long enough."""
        for job in self._all():
            if job.expires_us is not None and job.expires_us <= now_us:
                self.delete(job.id)

    def clip(self, job_id: str) -> Path:
        """Where a job's clip lies."""
        return self._folder / job_id

    def _end(self, job: Job) -> bool:
        """Write how a job ended; False where it has been deleted."""
        changes = ("status", "ended_us", "bytes", "content_type", "pool", "cost_nusd", "error_code", "error_message")
        named = ", ".join(f"{name} = ?" for name in changes)
        values = [_plain(getattr(job, name)) for name in changes]
        expires_us = (job.ended_us or 0) + self._keep_us
        with self._writing() as db:
            done = db.execute(f"UPDATE jobs SET {named}, expires_us = ? WHERE id = ?", [*values, expires_us, job.id])
            return done.rowcount > 0

    def _make_room(self) -> None:
        held = sorted((job for job in self._all() if job.bytes), key=lambda job: job.ended_us or 0)
        total = sum(job.bytes for job in held)
        for job in held[:-1]:  # the newest stays, be it larger than all the room there is
            if total <= self._most_bytes:
                return
            self.delete(job.id)
            total -= job.bytes

    def _all(self) -> list[Job]:
        with closing(self._connect()) as db:
            return [_job(row) for row in db.execute(f"SELECT {_COLUMNS} FROM jobs")]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._folder / "jobs.sqlite", timeout=10.0)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection, connection:
            yield connection


def _plain(value: object) -> object:
    return str(value) if isinstance(value, JobStatus) else value


def _job(row: tuple[object, ...]) -> Job:
    return msgspec.convert(dict(zip(Job.__struct_fields__, row, strict=True)), Job)
