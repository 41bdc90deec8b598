"""The router before the real image worker in a process of its own; its pipeline is a stand-in that draws nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from support.endpoint import policy, serving
from support.worker import Worker, row, worker_of

TORCH = """\
float32 = None
class Generator:
    def __init__(self, device): pass
    def manual_seed(self, seed): return self
"""
DIFFUSERS = """\
import os
from types import SimpleNamespace
class Image:
    def save(self, buffer, format): buffer.write(b"no picture, a stand-in")
class AutoPipelineForText2Image:
    vae = SimpleNamespace(dtype=None, enable_slicing=lambda: None, enable_tiling=lambda: None)
    @classmethod
    def from_pretrained(cls, repo, **parts): return cls()
    def to(self, device): return self
    def __call__(self, prompt, num_images_per_prompt, callback_on_step_end, **options):
        if prompt == "held":
            with open(os.environ["HELD"]) as held: held.read()
        if prompt == "long":
            open(os.environ["BEGUN"], "w").close()
            while True: callback_on_step_end(self, 0, 0, {})
        return SimpleNamespace(images=[Image()] * num_images_per_prompt)
"""
POOL = "worker"
PLACES = 8


@dataclass(frozen=True)
class Painter:
    """`held` and `begun` are pipes: a picture of "held" is made until the first was opened and closed, one of "long"
    opens the second, and is made until its client leaves.
    """

    worker: Worker
    held: Path
    begun: Path


@pytest.fixture
def painter(tmp_path: Path) -> Iterator[Painter]:
    for name, text in (("torch", TORCH), ("diffusers", DIFFUSERS)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    held, begun = tmp_path / "held", tmp_path / "begun"
    os.mkfifo(held)
    os.mkfifo(begun)
    env = {"PYTHONPATH": str(tmp_path), "HELD": str(held), "BEGUN": str(begun)}
    pool = row("sdxl-lora-fp16-t4", engine_args={"max-num-queued-reqs": PLACES})
    with worker_of(pool, env, device="cpu") as worker:
        yield Painter(worker, held, begun)


async def test_what_a_client_does_wrong_is_its_own(tmp_path: Path, painter: Painter) -> None:
    """Edits and bodies that are too long are refused to that client, and the pool goes on serving everybody."""
    classes = {"pictures": {"objective": "listed", "ladder": {"premium": [POOL]}}}
    rows = {POOL: {"extends": "sdxl-lora-fp16-t4", "boot_s": 1}}
    files = policy(classes=classes, aliases={}, pools=rows)
    files = {**files, "endpoints": {POOL: {"url": painter.worker.url, "always_on": 1}}}
    async with serving(tmp_path, files) as run:
        form = aiohttp.FormData({"model": "pictures", "prompt": "a hat"})
        form.add_field("image", b"x", filename="a.png", content_type="image/png")
        edit = await run.ask("POST", "/v1/images/edits", data=form)
        asked = {"model": "pictures", "prompt": "a" * 1_100_000}
        long = await run.ask("POST", "/v1/images/generations", json=asked)
        made = await run.ask("POST", "/v1/images/generations", json={**asked, "prompt": "a lake"})
        fields = {"model": "pictures", "prompt": "a lake", "n": "2", "size": "512x256", "seed": "7"}
        with aiohttp.MultipartWriter("form-data") as parts:
            for name, value in fields.items():
                parts.append(value).set_content_disposition("form-data", name=name)
        by_form = await run.ask("POST", "/v1/images/generations", data=parts)
    assert (edit.status, edit.code) == (400, "feature_not_supported")
    assert 400 <= long.status < 500
    assert "more than 1000000 bytes" in long.json["error"]["message"]
    assert made.status == 200
    assert (by_form.status, len(by_form.json["data"])) == (200, 2), by_form.body


async def draw(session: aiohttp.ClientSession, prompt: str) -> int:
    async with session.post("/v1/images/generations", json={"prompt": prompt}) as answer:
        await answer.read()
        return answer.status


async def test_the_line_is_bounded_and_ends_in_order(painter: Painter) -> None:
    """Whoever comes when all places are taken is told 503; after SIGTERM what runs is answered, who waits is told 503,
    and the end is 0.
    """
    async with aiohttp.ClientSession(painter.worker.url) as session:
        first = asyncio.create_task(draw(session, "held"))
        held = await asyncio.to_thread(painter.held.open, "w")  # opens once the picture is begun
        others = [asyncio.create_task(draw(session, "a lake")) for _ in range(PLACES)]
        done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [503]
        painter.worker.stop()
        assert set(await asyncio.gather(*waiting)) == {503}
        assert not first.done()
        held.close()
        assert await first == 200
    assert await asyncio.to_thread(painter.worker.process.wait, 30) == 0


async def test_a_client_that_leaves_frees_the_gpu(painter: Painter) -> None:
    """What was made for it ends, and the next picture is begun."""
    async with aiohttp.ClientSession(painter.worker.url) as session:
        leaves = asyncio.create_task(draw(session, "long"))
        (await asyncio.to_thread(painter.begun.open)).close()
        leaves.cancel()
        async with asyncio.timeout(30):
            assert await draw(session, "a lake") == 200
