"""What is kept of video jobs: within its bytes and its time, and nothing that nobody knows of."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.video_store import Job, JobStatus, VideoStore
from support.values import replace

KEEP_US = 1_000


def job(number: int, **more: object) -> Job:
    plain = Job(f"video_{number}", f"req_{number}", "acme", "k1", None, "f", "clips", "832x480", "5", number)
    return replace(plain, **more)


@pytest.fixture
def store(tmp_path: Path) -> VideoStore:
    made = VideoStore(tmp_path / "videos", most_bytes=100, keep_us=KEEP_US)
    made.open(0)
    return made


def ended(number: int) -> Job:
    return job(number, ended_us=number, content_type="video/mp4", pool="l40s", cost_nusd=7)


def test_the_oldest_clips_go_where_there_is_no_room(store: VideoStore) -> None:
    """Clips of 60 and 50 bytes do not fit 100: the older one goes with its job; one that is too large stays alone."""
    for number, size in ((1, 60), (2, 50), (3, 500)):
        store.create(job(number))
        store.completed(ended(number), b"x" * size)
        assert store.clip(f"video_{number}").stat().st_size == size
    assert [store.find(f"video_{number}") is None for number in (1, 2, 3)] == [True, True, False]
    assert not store.clip("video_1").exists()


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
    store.delete("video_1")
    store.completed(ended(1), b"clip")
    assert not store.clip("video_1").exists()


def test_a_repetition_is_known_for_ten_minutes(store: VideoStore) -> None:
    """Later the same request is a wish for another clip."""
    store.create(job(1))
    late_us = 601 * 1_000_000
    assert store.create(job(2), repeated=True).id == "video_1"
    assert store.create(replace(job(3), created_us=late_us), repeated=True).id == "video_3"


def test_no_prompt_is_kept(store: VideoStore) -> None:
    """A record has no field that a prompt could be in, and the folder is readable by its owner alone."""
    assert not {"prompt", "body"} & set(Job.__struct_fields__)
    assert store.clip("x").parent.stat().st_mode & 0o077 == 0
