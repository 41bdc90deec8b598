"""One suite over both stores of video jobs: what is kept, for how long, in what order, and nothing run twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl
from router.videos.database import PostgresVideos
from router.videos.files import FileVideos
from router.videos.store import Job, JobStatus, VideoStore
from support.values import replace

KEEP_US = 1_000
MOST_BYTES = 100


def job(number: int, **more: object) -> Job:
    plain = Job(f"video_{number}", f"req_{number}", "acme", "k1", None, "f", "clips", "832x480", "5", number)
    return replace(plain, **more)


def ended(number: int) -> Job:
    return job(number, ended_us=number, content_type="video/mp4", pool="l40s", cost_nusd=7)


@pytest.fixture(params=["file", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> VideoStore:
    """One that is open and empty."""
    made: VideoStore
    if request.param == "file":
        made = FileVideos(tmp_path / "videos", MOST_BYTES, KEEP_US)
    else:
        made = database(request.getfixturevalue("postgres_url"), "a")
    made.open(0)
    return made


def database(url: str, replica: str, lease_s: float = 600.0) -> PostgresVideos:
    return PostgresVideos(PostgresUrl(url), replica, MOST_BYTES, KEEP_US, lease_s=lease_s)


def test_a_record_is_read_as_it_was_written(store: VideoStore) -> None:
    """Every field, from the job's begin to its end, with any text in it; a second opening changes nothing."""
    first = job(1, idempotency_key="order-7", status=JobStatus.COMPLETED, ended_us=4, bytes=9, error_message="ü \\ ?%s")
    assert store.create(first) == first == store.find("video_1")
    assert store.create(job(2)).status is JobStatus.QUEUED
    store.begun("video_2")
    store.begun("video_1")
    found = store.find("video_2")
    assert found is not None
    assert (found.status, store.find("video_1")) == (JobStatus.IN_PROGRESS, first)
    store.failed(replace(found, ended_us=5, error_code="chain_failed", error_message="it said \0"))
    store.open(6)
    found = store.find("video_2")
    assert found is not None
    assert (found.status, found.error_code, found.expires_us) == (JobStatus.FAILED, "chain_failed", 5 + KEEP_US)


def test_an_idempotency_key_has_one_job(store: VideoStore) -> None:
    """Of one tenant's key; others, and jobs without one, are their own."""
    first = store.create(job(1, idempotency_key="order-7"))
    assert store.create(job(2, idempotency_key="order-7")) == first
    assert store.create(job(3, idempotency_key="order-7", key_id="k2")).id == "video_3"
    assert [store.create(job(number)).id for number in (4, 5)] == ["video_4", "video_5"]
    assert store.find("video_2") is None


def test_the_oldest_clips_go_where_there_is_no_room(store: VideoStore) -> None:
    """Clips of 60 and 50 bytes do not fit 100: the older one goes with its job; one that is too large stays alone."""
    for number, size in ((1, 60), (2, 50), (3, 500)):
        store.create(job(number))
        store.completed(ended(number), b"x" * size)
        assert store.clip(f"video_{number}") == b"x" * size
    assert [store.find(f"video_{number}") is None for number in (1, 2, 3)] == [True, True, False]
    assert store.clip("video_1") is None


def test_what_has_been_kept_for_long_enough_goes(store: VideoStore) -> None:
    """A job expires that long after its end; one that runs does not."""
    store.create(job(1))
    store.completed(ended(1), b"clip")
    store.create(job(2))
    store.expire(KEEP_US)
    found = store.find("video_1")
    assert found is not None
    assert (found.status, found.bytes, found.pool, found.expires_us) == (JobStatus.COMPLETED, 4, "l40s", KEEP_US + 1)
    store.expire(KEEP_US + 1)
    assert store.find("video_1") is None
    assert store.find("video_2") is not None


def test_a_clip_of_a_deleted_job_is_not_kept(store: VideoStore) -> None:
    """Whoever deletes a job while its clip is written finds neither afterwards."""
    store.create(job(1))
    assert store.renew("video_1") is JobStatus.QUEUED
    store.delete("video_1")
    store.completed(ended(1), b"clip")
    assert store.clip("video_1") is None
    assert store.renew("video_1") is None


def test_a_job_ends_once(store: VideoStore) -> None:
    """What comes after its end neither changes the record nor leaves a clip."""
    store.create(job(1))
    store.failed(job(1, ended_us=3, error_code="stopped"))
    failed = store.find("video_1")
    store.begun("video_1")
    store.completed(ended(1), b"clip")
    assert (store.find("video_1"), store.clip("video_1")) == (failed, None)


def test_a_repetition_is_known_for_ten_minutes(store: VideoStore) -> None:
    """Later the same request is a wish for another clip."""
    store.create(job(1))
    late_us = 601 * 1_000_000
    assert store.create(job(2), repeated=True).id == "video_1"
    assert store.create(replace(job(3), created_us=late_us), repeated=True).id == "video_3"


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_have_every_job_once(store: VideoStore, newest_first: bool) -> None:
    """Page by page in the order of creation, jobs of one instant too; of one tenant, or of all."""
    jobs = [job(number, created_us=number // 2) for number in range(7)] + [job(7, tenant="globex")]
    for each in jobs:
        store.create(each)
    order = sorted(jobs, key=lambda each: (each.created_us, each.id), reverse=newest_first)
    for tenant in ("acme", None, "nobody"):
        seen: list[Job] = []
        while page := store.listed(tenant, 3, seen[-1] if seen else None, newest_first=newest_first):
            seen += page
        assert seen == [each for each in order if tenant in (None, each.tenant)]


def test_no_prompt_is_kept(store: VideoStore) -> None:
    """A record has no field that a prompt could be in."""
    assert not {"prompt", "body"} & set(Job.__struct_fields__)


def test_a_folder_is_its_owner_s(tmp_path: Path) -> None:
    """Records and clips of one process can be read by nobody else."""
    store = FileVideos(tmp_path / "videos", MOST_BYTES, KEEP_US)
    store.open(0)
    assert store.path("x").parent.stat().st_mode & 0o077 == 0


def test_a_replica_that_is_gone_loses_its_jobs_with_its_leases(postgres_url: str) -> None:
    """Whoever looks next fails them, in words that name it; those of others, and what had ended, stay."""
    gone, alive = database(postgres_url, "gone", lease_s=-1.0), database(postgres_url, "alive")
    gone.open(0)
    alive.create(job(1))
    alive.create(job(2))
    alive.completed(ended(2), b"clip")
    gone.create(job(3))
    found = {each.id: each for each in alive.listed(None, 10, None, newest_first=False)}
    assert [found[f"video_{number}"].status.value for number in (1, 2, 3)] == ["queued", "completed", "failed"]
    lost = found["video_3"]
    assert (lost.error_code, lost.error_message) == (
        "stopped",
        "replica gone has not been heard of for its lease while it ran this job; it is not run again by itself. "
        "Send it once more",
    )
    assert lost.ended_us is not None
    assert lost.expires_us == lost.ended_us + KEEP_US


def test_a_replica_finds_its_own_lease_lapsed(postgres_url: str) -> None:
    """One that was frozen is told that its job has failed, and cannot complete it afterwards."""
    frozen = database(postgres_url, "frozen", lease_s=-1.0)
    frozen.open(0)
    frozen.create(job(1))
    assert frozen.renew("video_1") is JobStatus.FAILED
    frozen.completed(ended(1), b"clip")
    assert frozen.clip("video_1") is None


def test_renewing_keeps_a_lease(postgres_url: str) -> None:
    """A job whose replica renews it is not failed by others, though the lease it began with has run out."""
    begun, renewed = database(postgres_url, "a", lease_s=600.0), database(postgres_url, "a", lease_s=1200.0)
    begun.open(0)
    begun.create(job(1))
    assert renewed.renew("video_1") is JobStatus.QUEUED
    with psycopg.connect(postgres_url) as connection:  # as ten minutes and one second would
        connection.execute("UPDATE video_jobs SET lease_us = lease_us - 601 * 1000000")
    found = begun.find("video_1")
    assert found is not None
    assert found.status is JobStatus.QUEUED


def test_a_database_that_is_away_is_said() -> None:
    """In our words, with its address and without its password."""
    away = PostgresVideos(PostgresUrl("postgresql://me:secret@127.0.0.1:9/x"), "a", MOST_BYTES, KEEP_US)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9/x") as caught:
        away.open(0)
    assert "secret" not in str(caught.value)
