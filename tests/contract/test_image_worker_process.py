"""The router before the real image worker in a process of its own; its pipeline is a stand-in that draws nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from pools.modal.container import wait_until_healthy
from support.endpoint import policy, serving

TORCH = """\
bfloat16 = float16 = None
class cuda:
    @staticmethod
    def is_bf16_supported(including_emulation): return False
"""
DIFFUSERS = """\
import os
from types import SimpleNamespace
class Image:
    def save(self, buffer, format): buffer.write(b"no picture, a stand-in")
class AutoPipelineForText2Image:
    @classmethod
    def from_pretrained(cls, repo, **parts): return cls()
    def to(self, device): pass
    def __call__(self, prompt, num_images_per_prompt, **options):
        if prompt == "held":
            with open(os.environ["HELD"]) as held: held.read()
        return SimpleNamespace(images=[Image()] * num_images_per_prompt)
"""
POOL = "worker"


@dataclass(frozen=True)
class Worker:
    """`held` is a pipe: a request for the picture "held" runs until it was opened and closed."""

    process: subprocess.Popen[bytes]
    url: str
    held: Path


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    for name, text in (("torch", TORCH), ("diffusers", DIFFUSERS)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    held = tmp_path / "held"
    os.mkfifo(held)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pools.modal.diffusers_worker", "sdxl-lora", "--repo", "r", "--weights", "r"]
    command += ["--served-model-name", "sdxl", "--quantization", "fp16", "--port", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "HELD": str(held)}
    process = subprocess.Popen(command, env=environ)
    try:
        wait_until_healthy(process, port, 60, look_s=0.05)
        yield Worker(process, f"http://127.0.0.1:{port}", held)
    finally:
        process.kill()
        process.wait()


async def test_what_a_client_does_wrong_is_its_own(tmp_path: Path, worker: Worker) -> None:
    """Edits and bodies that are too long are refused to that client, and the pool goes on serving everybody."""
    classes = {"pictures": {"objective": "listed", "ladder": {"premium": [POOL]}}}
    row = {"extends": "sdxl-lora-fp16-t4", "boot_s": 1}
    files = policy(classes=classes, aliases={}, pools={POOL: row})
    files = {**files, "endpoints": {POOL: {"url": worker.url, "always_on": 1}}}
    async with serving(tmp_path, files) as run:
        form = aiohttp.FormData({"model": "pictures", "prompt": "a hat"})
        form.add_field("image", b"x", filename="a.png", content_type="image/png")
        edit = await run.ask("POST", "/v1/images/edits", data=form)
        asked = {"model": "pictures", "prompt": "a" * 1_100_000}
        long = await run.ask("POST", "/v1/images/generations", json=asked)
        made = await run.ask("POST", "/v1/images/generations", json={**asked, "prompt": "a lake"})
    assert (edit.status, edit.code) == (400, "feature_not_supported")
    assert 400 <= long.status < 500
    assert "more than 1000000 bytes" in long.json["error"]["message"]
    assert made.status == 200


async def test_the_line_is_bounded_and_ends_in_order(worker: Worker) -> None:
    """The ninth request is told 503; after SIGTERM what runs is answered, who waits is told 503, and the end is 0."""
    async with aiohttp.ClientSession(worker.url) as session:

        async def draw(prompt: str) -> int:
            async with session.post("/v1/images/generations", json={"prompt": prompt}) as answer:
                await answer.read()
                return answer.status

        first = asyncio.create_task(draw("held"))
        held = await asyncio.to_thread(worker.held.open, "w")  # opens once the picture is begun
        others = [asyncio.create_task(draw("a lake")) for _ in range(8)]
        done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [503]
        worker.process.send_signal(signal.SIGTERM)
        assert set(await asyncio.gather(*waiting)) == {503}
        assert not first.done()
        held.close()
        assert await first == 200
    assert await asyncio.to_thread(worker.process.wait, 30) == 0
