"""Video jobs: made once, kept for their tenant, billed like everything else, and honest about how they ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pricing.money import cost_nusd
from router.videos.files import FileVideos
from router.videos.store import JobStatus
from support.endpoint import Endpoint, Policy, Reply, before_simulated, policy
from support.values import replace

# The official client warns that OpenAI's own video models end; its shapes are what other servers speak.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

VIDEOS = "/v1/videos"
SPEEDUP = 600.0  # a clip of the shipped Wan takes four minutes
SYSTEMS = {
    "wan2.1": ["wan2.1-1.3b-bf16-l40s", "wan2.1-1.3b-bf16-a100-40"],
    "seedvr2": ["seedvr2-3b-fp8-a10", "seedvr2-3b-fp16-l40s"],
}
CLIP = ("old.mp4", b"\x00\x00\x00\x18ftypmp42", "video/mp4")  # what SeedVR2 starts from
WAN = [f"quick-{name}" for name in SYSTEMS["wan2.1"]]


def strategy(system: str = "wan2.1", **sections: Any) -> Policy:
    """The document's hybrid strategy for one system, with quick boots."""
    pools = {f"quick-{name}": {"extends": name, "boot_s": 1, "scaledown_window_s": 3600} for name in SYSTEMS[system]}
    clips = {"first_byte_deadline_s": 2400, "max_total_s": 3600, "objective": "listed"}
    classes = {
        "clips": {**clips, "ladder": {"premium": list(pools)}},
        "pictures": {"ladder": {"premium": ["flux-schnell-fp8-a10"]}},
    }
    return policy(**{"classes": classes, "aliases": {"sora-2": "clips"}, "pools": pools, **sections})


def running(folder: Path, system: str = "wan2.1", awake: int = 2, **more: Any) -> Any:
    first = tuple(f"quick-{name}" for name in SYSTEMS[system][:awake])
    settings = {"speedup": SPEEDUP, "awake": first, "media": True, **more}
    sections = settings.pop("sections", {})
    return before_simulated(folder, strategy(system, **sections), **settings)


async def create(run: Endpoint, key: str = "acme", headers: dict[str, str] | None = None, **body: Any) -> Reply:
    return await run.ask("POST", VIDEOS, key, json={"model": "clips", "prompt": "waves", **body}, headers=headers or {})


async def restore(run: Endpoint, **fields: str) -> Reply:
    form = aiohttp.FormData({"model": "clips", "prompt": "sharper", "size": "640x480", "seconds": "1", **fields})
    form.add_field("input_reference", CLIP[1], filename=CLIP[0], content_type=CLIP[2])
    return await run.ask("POST", VIDEOS, data=form)


async def until_ended(run: Endpoint, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            found: dict[str, Any] = (await run.ask("GET", f"{VIDEOS}/{job_id}")).json
            if found["status"] in ("completed", "failed"):
                return found


@pytest.mark.parametrize("system", SYSTEMS)
async def test_a_clip_of_each_system_is_made_by_the_document_s_gpu_and_billed(tmp_path: Path, system: str) -> None:
    """The official client creates, polls and downloads; the tenant pays the seconds of that GPU at its price."""
    first = f"quick-{SYSTEMS[system][0]}"
    async with running(tmp_path, system, speedup=100.0) as run:
        client = run.client()
        given: dict[str, Any] = {"input_reference": CLIP} if system == "seedvr2" else {}
        job = await client.videos.create(model="sora-2", prompt="waves", size="1280x720", seconds="1", **given)
        assert (job.object, job.size, job.seconds) == ("video", "1280x720", "1")
        done = await until_ended(run, job.id)
        clip = await (await client.videos.download_content(job.id)).aread()
        [row] = run.rows("acme")
        request = await run.request()
        rate = run.service.policy.rates[first].nusd_per_h
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert done["x_sluice"]["pool"] == first == row.pool
    assert clip[4:8] == b"ftyp"
    assert (request.clips, request.video_us, request.endpoint) == (1, 1_000_000, VIDEOS)
    assert row.amount_nusd == pytest.approx(cost_nusd(rate, row.duration_us), rel=0.1)
    assert done["x_sluice"]["cost_usd"] * 1e9 == pytest.approx(row.amount_nusd)


@pytest.mark.parametrize("fault", ["out_of_memory", "overload", "refuse", "engine_death", "garbage"])
@pytest.mark.parametrize("system", SYSTEMS)
async def test_where_the_document_s_gpu_fails_the_next_one_makes_the_clip(
    tmp_path: Path, system: str, fault: str
) -> None:
    """Moving on is part of the job's one run."""
    first, second = (f"quick-{name}" for name in SYSTEMS[system])
    async with running(tmp_path, system, speedup=100.0) as run:  # a slow machine's refusal must not cost a clip
        await run.fail(first, fault)
        asked = await (restore(run) if system == "seedvr2" else create(run, size="640x480", seconds="1"))
        done = await until_ended(run, asked.json["id"])
        pools = [row.pool for row in run.rows()]
    assert done["status"] == "completed", done
    assert (done["x_sluice"]["pool"], pools) == (second, [first, second])


async def test_a_model_that_restores_clips_is_not_woken_without_one(tmp_path: Path) -> None:
    """400 with what to send, before a job exists or anything boots."""
    async with running(tmp_path, "seedvr2", awake=0) as run:
        without = await create(run, seconds="1")
        assert (without.status, without.code) == (400, "feature_not_supported")
        assert without.json["error"]["message"].endswith("a clip: send a form with the file 'input_reference'")
        assert (await run.ask("GET", VIDEOS)).json["data"] == []
        assert run.rows() == []


async def test_the_same_idempotency_key_is_the_same_job(tmp_path: Path) -> None:
    """However often it is sent, one clip is made and paid; with another request it is refused."""
    key = {"Idempotency-Key": "order-7"}
    async with running(tmp_path) as run:
        replies = await asyncio.gather(*(create(run, headers=key, seconds="1") for _ in range(4)))
        [job_id] = {reply.json["id"] for reply in replies}
        await until_ended(run, job_id)
        again = await create(run, headers=key, seconds="1")
        other = await create(run, headers=key, seconds="2")
        elsewhere = await create(run, "globex", headers=key, seconds="1")
        await until_ended_by(run, elsewhere.json["id"], "globex")
        paid = [row.account for row in run.rows()]
    assert (again.json["id"], again.json["status"]) == (job_id, "completed")
    assert (other.status, other.json["error"]["param"]) == (400, "Idempotency-Key")
    assert elsewhere.json["id"] != job_id
    assert paid == ["acme", "globex"]


async def test_an_empty_idempotency_key_is_none(tmp_path: Path) -> None:
    """Two different requests that both send it are two jobs."""
    async with running(tmp_path) as run:
        replies = [await create(run, headers={"Idempotency-Key": ""}, seconds=seconds) for seconds in ("1", "2")]
        for reply in replies:
            await until_ended(run, reply.json["id"])
    assert [reply.status for reply in replies] == [200, 200]


async def test_of_a_clip_there_is_nothing_but_the_clip(tmp_path: Path) -> None:
    """A thumbnail is refused, instead of sending a clip in its name."""
    async with running(tmp_path) as run:
        job = (await create(run, size="640x480", seconds="1")).json["id"]
        await until_ended(run, job)
        clip = await run.ask("GET", f"{VIDEOS}/{job}/content?variant=video")
        thumbnail = await run.ask("GET", f"{VIDEOS}/{job}/content?variant=thumbnail")
    assert (clip.status, clip.headers["Content-Type"]) == (200, "video/mp4")
    assert (thumbnail.status, thumbnail.json["error"]["param"]) == (400, "variant")


async def until_dispatched(run: Endpoint, job_id: str) -> None:
    async with asyncio.timeout(120):
        while not run.service.live.state(WAN[0]).in_flight:
            await run.ask("GET", f"{VIDEOS}/{job_id}")


async def until_ended_by(run: Endpoint, job_id: str, key: str) -> None:
    async with asyncio.timeout(120):
        while (await run.ask("GET", f"{VIDEOS}/{job_id}", key)).json["status"] not in ("completed", "failed"):
            pass


async def test_an_sdk_s_own_repetition_is_the_same_job(tmp_path: Path) -> None:
    """A client that counts its retries and sends no key does not buy a clip twice; one that asks twice buys two."""
    async with running(tmp_path) as run:
        first = await create(run, seconds="1")
        repeated = await create(run, headers={"x-stainless-retry-count": "1"}, seconds="1")
        second = await create(run, seconds="1")
        for reply in (first, second):
            await until_ended(run, reply.json["id"])
        assert len(run.rows()) == 2
    assert repeated.json["id"] == first.json["id"] != second.json["id"]


async def test_a_job_whose_router_died_is_failed_and_not_run_again(tmp_path: Path) -> None:
    """A record that says `in_progress` at a start is of a process that is gone: nothing is sent to a pool for it."""
    async with running(tmp_path) as run:
        done = await until_ended(run, (await create(run, seconds="1")).json["id"])
        folder = run.service.settings.video_folder
        rows = len(run.rows())
    store = FileVideos(folder, 10**9, 10**12)
    made = store.find(done["id"])
    assert made is not None
    store.create(replace(made, id="video_of_the_dead", status=JobStatus.IN_PROGRESS, ended_us=None, bytes=0))
    (folder / "video_of_nobody").write_bytes(b"half a clip")
    async with running(tmp_path) as run:
        found = await until_ended(run, "video_of_the_dead")
        content = await run.ask("GET", f"{VIDEOS}/video_of_the_dead/content")
        assert len(run.rows()) == rows
    assert (found["status"], found["error"]["code"]) == ("failed", "stopped")
    assert (content.status, content.code) == (409, "video_not_ready")
    assert not (folder / "video_of_nobody").exists()


async def test_a_stop_fails_what_runs_and_settles_it(tmp_path: Path) -> None:
    """The clip that was under way is paid as a stop of ours is: by the house; its record says why it ended."""
    async with running(tmp_path, grace_s=0.0) as run:
        await run.fail(WAN[0], "hang")
        job_id = (await create(run, seconds="1")).json["id"]
        await until_dispatched(run, job_id)
        folder = run.service.settings.video_folder
    found = FileVideos(folder, 10**9, 10**12).find(job_id)
    assert found is not None
    assert (found.status, found.error_code) == ("failed", "shutting_down")


async def test_deleting_a_job_that_runs_ends_it(tmp_path: Path) -> None:
    """Its tenant pays for what ran, and neither record nor clip is left."""
    async with running(tmp_path) as run:
        await run.fail(WAN[0], "hang")
        job_id = (await create(run, seconds="1")).json["id"]
        await until_dispatched(run, job_id)
        gone = await run.ask("DELETE", f"{VIDEOS}/{job_id}")
        await run.settled()
        [row] = run.rows("acme")
        after = await run.ask("GET", f"{VIDEOS}/{job_id}")
    assert gone.json == {"id": job_id, "object": "video.deleted", "deleted": True}
    assert row.outcome == "client_gone"
    assert (after.status, after.code) == (404, "video_not_found")


async def test_tenants_see_their_own_jobs_only(tmp_path: Path) -> None:
    """Another tenant's key finds nothing, whatever it does with the id; an admin sees all."""
    async with running(tmp_path) as run:
        job_id = (await create(run, seconds="1")).json["id"]
        await until_ended(run, job_id)
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            reply = await run.ask(method, f"{VIDEOS}/{job_id}{path}", "globex")
            assert (reply.status, reply.code) == (404, "video_not_found")
        assert (await run.ask("GET", f"{VIDEOS}/{job_id}", "ops")).status == 200
        assert (await run.ask("GET", f"{VIDEOS}/{job_id}", None)).status == 401


async def test_the_official_client_lists_a_tenant_s_jobs(tmp_path: Path) -> None:
    """Page by page, the newest first or last, its own alone; an admin's key lists all."""
    async with running(tmp_path) as run:
        mine = [(await create(run, seconds=str(number))).json["id"] for number in (1, 2, 3)]
        theirs = (await create(run, "globex", seconds="1")).json["id"]
        client = run.client()
        newest = [video.id async for video in client.videos.list(limit=2)]
        oldest = [video.id async for video in client.videos.list(limit=1, order="asc")]
        page = await client.videos.list(after=mine[2], limit=1)
        of_all = (await run.ask("GET", VIDEOS, "ops")).json
        empty = (await run.ask("GET", f"{VIDEOS}?after={mine[0]}")).json
        for job_id in mine:
            await until_ended(run, job_id)
        await until_ended_by(run, theirs, "globex")
    assert newest == mine[::-1]
    assert oldest == mine
    assert ([video.id for video in page.data], page.has_more, page.last_id) == ([mine[1]], True, mine[1])
    assert (page.data[0].object, page.data[0].seconds) == ("video", "2")
    assert {video["id"] for video in of_all["data"]} == {*mine, theirs}
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=0", "invalid_value", "limit"),
        ("limit=101", "invalid_value", "limit"),
        ("limit=many", "invalid_value", "limit"),
        ("order=size", "invalid_value", "order"),
        ("after=video_of_nobody", "video_not_found", None),
    ],
)
async def test_a_list_that_cannot_be_is_refused(tmp_path: Path, query: str, code: str, param: str | None) -> None:
    """With the parameter that is wrong; a job of another tenant is none to begin behind."""
    async with running(tmp_path, awake=0) as run:
        reply = await run.ask("GET", f"{VIDEOS}?{query}")
    assert (reply.code, reply.json["error"]["param"]) == (code, param)


async def test_a_job_that_no_budget_allows_fails_in_the_words_of_the_budget(tmp_path: Path) -> None:
    """It is created, and says why it was not run; nothing was paid."""
    caps = [{"name": "day", "amount_usd": 0.0001, "window": "24h", "scope": "tenant:acme"}]
    async with running(tmp_path, sections={"caps": caps}) as run:
        done = await until_ended(run, (await create(run, seconds="1")).json["id"])
        assert run.rows() == []
    assert (done["status"], done["error"]["code"]) == ("failed", "budget_exceeded")


async def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    """Without a record on disk there is no job: 503, and nobody pays."""
    (tmp_path / "taken").write_text("a file")
    async with running(tmp_path, videos=tmp_path / "taken") as run:
        reply = await create(run, seconds="1")
        assert run.rows() == []
    assert (reply.status, reply.code) == (503, "store_unavailable")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"seconds": "long"}, "invalid_value", "seconds"),
        ({"seconds": "0"}, "invalid_value", "seconds"),
        ({"num_frames": 0}, "invalid_value", "num_frames"),
        ({"fps": 1000}, "invalid_value", "fps"),
        ({"size": "wide"}, "invalid_value", "size"),
        ({"input_reference": {"file_id": "x"}}, "invalid_value", "input_reference"),
        ({"n": 5}, "invalid_value", "n"),
        ({f"x{number}": "1" for number in range(300)}, "invalid_value", None),
        ({"": "x"}, "invalid_value", None),
        ({"prompt": None}, "invalid_value", "prompt"),
        ({"model": "pictures"}, "feature_not_supported", "model"),
        ({"model": "clipz"}, "model_not_found", "model"),
    ],
)
async def test_what_cannot_be_made_is_refused_at_once(
    tmp_path: Path, body: dict[str, Any], code: str, param: str | None
) -> None:
    """No job is made of a request that no pool could ever serve."""
    async with running(tmp_path, awake=0) as run:
        reply = await create(run, **body)
    assert (reply.code, reply.json["error"]["param"]) == (code, param)
