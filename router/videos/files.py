"""Video jobs of a single process: records in a SQLite file, clips in files beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from router.videos.store import COLUMNS_SQL, STOPPED, UNFINISHED, Job, JobStatus, VideoStore, completed

_STOPPED_SAYS: Final = "the endpoint stopped while this job was under way; it is not run again by itself"


class FileVideos(VideoStore):
    """Everything lies in one folder, readable by its owner."""

    table = "jobs"

    def __init__(self, folder: Path, most_bytes: int, keep_us: int) -> None:
        super().__init__(most_bytes, keep_us)
        self._folder = folder

    def open(self, now_us: int) -> None:
        """Make the folder, and fail what an earlier process left unfinished."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.transaction() as db:
            db.execute(f"CREATE TABLE IF NOT EXISTS {self.table} ({COLUMNS_SQL})")
            db.execute(
                f"UPDATE {self.table} SET status = ?, ended_us = ?, expires_us = ?, error_code = ?, error_message = ?"
                f" WHERE {UNFINISHED}",
                [JobStatus.FAILED.value, now_us, now_us + self.keep_us, STOPPED, _STOPPED_SAYS],
            )
            known = {self.path(job_id) for (job_id,) in db.execute(f"SELECT id FROM {self.table}").fetchall()}
        for path in self._folder.glob("video_*"):
            if path not in known:  # written by a process that ended before its record said so
                path.unlink()

    def completed(self, job: Job, clip: bytes) -> None:
        part = self.path(job.id).with_suffix(".part")
        part.write_bytes(clip)
        part.replace(self.path(job.id))
        with self.transaction() as db:
            kept = self.end(db, completed(job, clip))
        if kept:
            self.make_room()
        else:  # deleted while it was written
            self.path(job.id).unlink(missing_ok=True)

    def clip(self, job_id: str) -> bytes | None:
        try:
            return self.path(job_id).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, job_id: str) -> None:
        with self.transaction() as db:
            db.execute(f"DELETE FROM {self.table} WHERE id = ?", [job_id])
        self.path(job_id).unlink(missing_ok=True)

    def path(self, job_id: str) -> Path:
        """Where a job's clip lies."""
        return self._folder / job_id

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._folder / "jobs.sqlite", timeout=10.0)) as connection, connection:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
