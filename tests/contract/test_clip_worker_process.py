"""The router and the official client before the real worker that restores clips. The program that it runs is a
stand-in, which says so in what it writes; OpenCV, by which clips are looked at, is another.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pools.modal.worker.restore import AUTOENCODER, WEIGHTS
from support.endpoint import Endpoint, policy, serving
from support.worker import Worker, row, worker_of

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

# A clip for it is an MP4's first bytes, the number of its frames, and what the stand-in is to do.
OPENCV = """\
CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_COUNT = 3, 4, 7
class VideoCapture:
    def __init__(self, path):
        with open(path, "rb") as clip: self.frames = clip.read().split(b"|")[1]
    def get(self, what): return float(self.frames) if what == CAP_PROP_FRAME_COUNT else 240.0
    def release(self): pass
"""
PROGRAM = """\
import os, sys, time
given, options = sys.argv[1], dict(zip(sys.argv[2:], sys.argv[3:]))
with open(given, "rb") as clip: does = clip.read().split(b"|")[2].decode()
print("a stand-in for the program that restores clips")
if does == "out of memory": sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB")
if does == "long":
    with open(os.environ["BEGUN"], "w") as begun: begun.write(f"{os.getpid()} {os.path.dirname(given)}")
    time.sleep(600)
with open(options["--output"], "w") as made: made.write("a stand-in's clip " + " ".join(sys.argv[2:]))
"""
POOL = "seedvr2"


@dataclass(frozen=True)
class Workshop:
    worker: Worker
    begun: Path
    """A pipe: the stand-in writes its process and its folder into it when a clip takes long."""


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in (WEIGHTS["fp8"], AUTOENCODER):
        (weights / name).touch()
    (tmp_path / "cv2.py").write_text(OPENCV, encoding="utf-8")
    program = tmp_path / "inference_cli.py"
    program.write_text(PROGRAM, encoding="utf-8")
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    env = {"PYTHONPATH": str(tmp_path), "BEGUN": str(begun), "TMPDIR": str(tmp_path)}
    pool = row("seedvr2-3b-fp8-a10")
    with worker_of(pool, env, program=str(program), program_weights=str(weights)) as worker:
        yield Workshop(worker, begun)


def before(workshop: Workshop, folder: Path) -> Any:
    clips = {"first_byte_deadline_s": 300, "max_total_s": 600, "ladder": {"premium": [POOL]}}
    rows = {POOL: {"extends": "seedvr2-3b-fp8-a10", "boot_s": 1}}
    files = policy(classes={"restore": clips}, aliases={}, pools=rows)
    return serving(folder, {**files, "endpoints": {POOL: {"url": workshop.worker.url, "always_on": 1}}})


def clip(frames: int, does: str = "") -> tuple[str, bytes, str]:
    return ("old.mp4", b"\x00\x00\x00\x18ftypmp42|%d|%b" % (frames, does.encode()), "video/mp4")


async def ended(run: Endpoint, given: tuple[str, bytes, str], **asked: Any) -> Any:
    client = run.client()
    job = await client.videos.create(model="restore", prompt="sharper", input_reference=given, **asked)
    async with asyncio.timeout(30):
        while True:
            found = await client.videos.retrieve(job.id)
            if found.status in ("completed", "failed"):
                return found


async def test_the_official_client_has_a_clip_restored(tmp_path: Path, workshop: Workshop) -> None:
    """Its file reaches the program, with size, frames and seed; what that makes comes back, and nothing stays."""
    async with before(workshop, tmp_path) as run:
        done = await ended(run, clip(30), size="1280x720", extra_body={"num_frames": 30, "seed": 7})
        made = await (await run.client().videos.download_content(done.id)).aread()
        [paid] = run.rows("acme")
    words = made.decode().split()
    assert (done.status, words[:3]) == ("completed", ["a", "stand-in's", "clip"])
    options = dict(itertools.pairwise(words))
    asked = ("--resolution", "--max_resolution", "--load_cap", "--batch_size", "--seed", "--color_correction")
    assert [options[name] for name in asked] == ["720", "1280", "30", "33", "7", "hsv"]
    assert paid.pool == POOL
    assert left_over(tmp_path) == []


async def test_a_longer_clip_than_was_asked_for_is_refused(tmp_path: Path, workshop: Workshop) -> None:
    """Its time and price were expected of fewer frames; the job says which field is wrong, the worker by how much."""
    async with before(workshop, tmp_path) as run, aiohttp.ClientSession(workshop.worker.url) as direct:
        done = await ended(run, clip(200), seconds="2")
        form = aiohttp.FormData({"seconds": "2"})
        form.add_field("input_reference", clip(200)[1], filename="old.mp4", content_type="video/mp4")
        async with direct.post("/v1/videos/sync", data=form) as answer:
            says = (await answer.json())["error"]["message"]
    assert done.status == "failed"
    assert done.error.message == "the pool refused the request itself (HTTP 400) for its 'num_frames'"
    assert says == "the clip has 200 frames, and 48 were asked for; say num_frames=200"


async def test_running_out_of_memory_is_known_by_the_programs_own_words(tmp_path: Path, workshop: Workshop) -> None:
    """The attempt is out of memory and not a server that broke."""
    async with before(workshop, tmp_path) as run:
        done = await ended(run, clip(10, "out of memory"), size="640x480")
        past = (await run.ask("GET", f"/v1/decisions/{(await run.request()).request_id}")).json
    assert (done.status, [attempt["outcome"] for attempt in past["attempts"]]) == ("failed", ["out_of_memory"])
    assert left_over(tmp_path) == []


async def test_a_deleted_job_ends_the_program(tmp_path: Path, workshop: Workshop) -> None:
    """Its process is killed, its folder removed, and the next clip has its turn."""
    async with before(workshop, tmp_path) as run:
        client = run.client()
        job = await client.videos.create(model="restore", prompt="sharper", input_reference=clip(10, "long"))
        process, folder = (await asyncio.to_thread(workshop.begun.read_text)).split()
        assert there(folder, process) == [True, True]
        await client.videos.delete(job.id)
        assert (await ended(run, clip(10))).status == "completed"
    assert there(folder, process) == [False, False]


def there(folder: str, process: str) -> list[bool]:
    return [Path(folder).exists(), Path(f"/proc/{process}").exists()]


def left_over(folder: Path) -> list[Path]:
    """Of clips that were worked on."""
    return list(folder.glob("sluice-clip-*"))
