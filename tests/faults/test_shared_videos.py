"""Video jobs of several replicas: any answers for all, each runs its own, and one that dies loses them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import recent_rows
from router.inbound.callers import identify
from router.inbound.media import VIDEOS_PATH, parse_video
from router.videos.database import PostgresVideos
from router.videos.jobs import VideoJobs
from router.videos.store import JobStatus
from support.endpoint import KEYS, Endpoint, before_simulated
from support.endpoint import policy as endpoint_policy
from support.replicas import Replicas, policy, replicas

WAN = "quick-wan"
POOLS = {WAN: {"extends": "wan2.1-1.3b-bf16-l40s", "boot_s": 1, "scaledown_window_s": 3600}}
CLASSES = {
    "clips": {"first_byte_deadline_s": 2400, "max_total_s": 3600, "objective": "listed", "ladder": {"premium": [WAN]}}
}
LONG = {"model": "clips", "prompt": "waves"}
SMALL = {**LONG, "size": "64x64", "num_frames": 5, "num_inference_steps": 1}


async def create(shared: Replicas, replica: str, body: dict[str, Any]) -> str:
    job_id: str = (await shared.ask(replica, VIDEOS_PATH, "acme", "POST", json=body)).json["id"]
    return job_id


async def until_ended(shared: Replicas, replica: str, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update((await shared.ask(replica, f"{VIDEOS_PATH}/{job_id}", "acme")).json)
        return found["status"] in ("completed", "failed")

    await shared.until(ended)
    return found


async def test_any_replica_answers_for_any_job(tmp_path: Path, redis_url: str, postgres_url: str) -> None:
    """One takes it; the other is polled, lists, sends the clip and deletes it; nobody else's key finds it anywhere."""
    async with replicas(
        tmp_path, redis_url, postgres_url, policy(classes=CLASSES, pools=POOLS), "videos", (WAN,)
    ) as shared:
        await asyncio.gather(shared.start("a"), shared.start("b"))
        job_id = await create(shared, "a", SMALL)
        done = await until_ended(shared, "b", job_id)
        assert (done["status"], done["x_sluice"]["pool"]) == ("completed", WAN), done
        clips = [await shared.ask(name, f"{VIDEOS_PATH}/{job_id}/content", "acme") for name in "ab"]
        assert clips[0].body == clips[1].body
        assert (clips[0].body[4:8], clips[1].headers["content-type"]) == (b"ftyp", "video/mp4")
        assert [job["id"] for job in (await shared.ask("b", VIDEOS_PATH, "acme")).json["data"]] == [job_id]
        assert (await shared.ask("b", VIDEOS_PATH, "globex")).json["data"] == []
        assert (await shared.ask("b", f"{VIDEOS_PATH}/{job_id}", "globex")).status == 404
        assert (await shared.ask("b", f"{VIDEOS_PATH}/{job_id}", "acme", "DELETE")).status == 200
        assert (await shared.ask("a", f"{VIDEOS_PATH}/{job_id}", "acme")).status == 404
        await shared.drained()
        paid = [row for row in recent_rows(PostgresUrl(postgres_url), 100) if row.account == "acme"]
        assert len(paid) == 1


async def test_a_job_of_a_replica_that_was_killed_is_failed_by_the_others(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    """It runs until its lease has lapsed, then it has failed, whoever asks; nothing is made for it a second time."""
    async with replicas(
        tmp_path, redis_url, postgres_url, policy(classes=CLASSES, pools=POOLS), "lost", (WAN,)
    ) as shared:
        await asyncio.gather(shared.start("a"), shared.start("b"))
        job_id = await create(shared, "a", LONG)
        path = f"{VIDEOS_PATH}/{job_id}"

        async def runs() -> bool:
            return bool((await shared.ask("b", path, "acme")).json["status"] == "in_progress")

        await shared.until(runs)
        await shared.running["a"].kill()
        with psycopg.connect(postgres_url) as connection:  # as a minute would
            connection.execute("UPDATE video_jobs SET lease_us = 0")
        found = (await shared.ask("b", path, "acme")).json
        assert (found["status"], found["error"]["code"]) == ("failed", "stopped")
        assert "replica a has not been heard of" in found["error"]["message"]
        assert await create(shared, "b", LONG) != job_id


async def begin(run: Endpoint, store: PostgresVideos) -> tuple[VideoJobs, str]:
    """A job that hangs in its pool, kept in PostgreSQL."""
    await run.fail(WAN, "hang")
    service = run.service
    jobs = VideoJobs(
        store, service.controller, service.ongoing, lambda: service.policy, lambda: service.stopping, service.clock
    )
    headers = [(b"authorization", f"Bearer {KEYS['acme']}".encode())]
    body = b'{"model": "clips", "prompt": "waves", "seconds": "1"}'
    job = await jobs.create(parse_video("application/json", body), identify(service.policy, headers, None), None)
    async with asyncio.timeout(20):
        while not service.live.state(WAN).in_flight:
            await run.ask("GET", "/health/liveness")
    return jobs, job.id


@pytest.mark.parametrize("lapsed", [False, True], ids=["deleted elsewhere", "lapsed"])
async def test_a_replica_ends_a_job_that_is_no_longer_its_own(
    tmp_path: Path, postgres_url: str, *, lapsed: bool
) -> None:
    """With its next renewal: the tenant who deleted it pays for what ran, the house for a replica that was cut off."""
    store = PostgresVideos(PostgresUrl(postgres_url), "a", 10**9, 10**12, lease_s=2.0)
    files = endpoint_policy(classes=CLASSES, pools=POOLS, aliases={})
    async with before_simulated(tmp_path, files, speedup=100.0, awake=(WAN,), media=True) as run:
        jobs, job_id = await begin(run, store)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("UPDATE video_jobs SET lease_us = 0" if lapsed else "DELETE FROM video_jobs")
        await jobs.ended()
        [row] = run.rows()
    found = store.find(job_id)
    if lapsed:
        assert found is not None
        assert (found.status, found.error_code, row.account) == (JobStatus.FAILED, "stopped", "__failed__")
    else:
        assert (found, row.account, row.outcome) == (None, "acme", "client_gone")
