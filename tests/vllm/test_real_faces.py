"""InstantID's way through diffusers' released pipelines, on a CPU with tiny random weights in its authors' layout.

What is proved is that the parts fit: names and shapes of tensors, which part sees the face, that the worker answers the
official client. What pictures look like is not: nothing here was trained. The face finder is a stand-in that takes a
photo's colour for a face.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pools.simulator.media import png
from pools.wire.images import size_of
from support.endpoint import policy, serving
from support.repository import ROOT
from support.worker import Worker, row, worker_of

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
POOL = "faces"
FINDER = """\
class FaceAnalysis:
    "A stand-in for InsightFace: a photo's colour is its face, and a black one has none."
    def __init__(self, name, allowed_modules, providers): pass
    def prepare(self, ctx_id, det_size): pass
    def get(self, photo):
        colour = photo.mean(axis=(0, 1)) / 255
        points = [(20, 20), (44, 20), (32, 32), (24, 44), (40, 44)]
        face = {"bbox": (0, 0, 64, 64), "kps": points, "embedding": [colour[i % 3] - 0.5 for i in range(512)]}
        return [face] if colour.any() else []
"""
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by the Python that has torch."""
    folder = tmp_path_factory.mktemp("faces")
    run("tiny_instantid.py", folder)
    finder = folder / "stand-ins" / "insightface"
    finder.mkdir(parents=True)
    (finder / "__init__.py").touch()
    (finder / "app.py").write_text(FINDER, encoding="utf-8")
    (finder / "utils.py").write_text("def ensure_available(kind, name, root): return root\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def worker(weights: Path) -> Iterator[Worker]:
    arguments = {"repo": weights / "instantid", "base": weights / "sdxl", "faces": weights, "device": "cpu"}
    env = {**ENVIRONMENT, "PYTHONPATH": str(weights / "stand-ins")}
    named = {name: str(value) for name, value in arguments.items()}
    with worker_of(row("instantid-fp16-a10"), env, PYTHON, **named) as process:
        yield process


def run(script: str, folder: Path) -> str:
    command = [str(PYTHON), str(ROOT / "tests" / "support" / script), str(folder)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **ENVIRONMENT}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def before(worker: Worker, folder: Path) -> Any:
    rows = {POOL: {"extends": "instantid-fp16-a10", "boot_s": 1}}
    patience = {"first_token_timeout_s": 120, "first_byte_deadline_s": 240}  # on a CPU that others use too
    files = policy(classes={"portraits": {**patience, "ladder": {"premium": [POOL]}}}, aliases={}, pools=rows)
    return serving(folder, {**files, "endpoints": {POOL: {"url": worker.url, "always_on": 1}}})


def photo(*colour: int) -> tuple[str, io.BytesIO, str]:
    """In one colour, in the simplest format there is."""
    head = b"P6 64 64 255\n"
    return ("me.ppm", io.BytesIO(head + bytes(colour) * 64 * 64), "image/x-portable-pixmap")


async def test_the_official_client_gets_a_picture_of_a_face(tmp_path: Path, worker: Worker) -> None:
    """`images.edit` with a photo: as many PNG files of the asked size as were asked for, paid by its tenant."""
    async with before(worker, tmp_path) as run:
        asked = {"model": "portraits", "prompt": "at the sea", "size": "64x96", "n": 2}
        more = {"num_inference_steps": 2, "seed": 7}
        made = await run.client().images.edit(image=photo(200, 90, 40), extra_body=more, **asked)
        await run.settled()
        [paid] = run.rows("acme")
    sizes = [size_of(base64.b64decode(one.b64_json or "")) for one in made.data]
    assert sizes == [(64, 96), (64, 96)]
    assert paid.pool == POOL


async def test_the_same_face_and_seed_are_the_same_picture(tmp_path: Path, worker: Worker) -> None:
    """Another face, another prompt or another seed is another picture."""
    ways = [(200, "sea", 1), (200, "sea", 1), (90, "sea", 1), (200, "hill", 1), (200, "sea", 2)]
    made = []
    async with before(worker, tmp_path) as run:
        for red, prompt, seed in ways:
            more = {"num_inference_steps": 2, "seed": seed}
            asked: dict[str, Any] = {"model": "portraits", "prompt": prompt, "size": "64x64", "extra_body": more}
            answer = await run.client().images.edit(image=photo(red, 90, 40), **asked)
            made.append(answer.data[0].b64_json)
    assert made[0] == made[1]
    assert len(set(made)) == 4


async def test_a_photo_without_a_face_is_the_clients_mistake(tmp_path: Path, worker: Worker) -> None:
    """400, as for a file that is no photo and for a request without one; the pool goes on serving."""
    async with before(worker, tmp_path) as run:
        images = run.client().images
        bad = [b"no picture", png(8, 8)[:40], png(8, 640), b"GIF89a\x08\x00\x08\x00\x00\x00\x00;"]
        for given in (photo(0, 0, 0), *(("a.png", each, "image/png") for each in bad)):
            with pytest.raises(openai.BadRequestError):
                await images.edit(model="portraits", prompt="at the sea", image=given)
        with pytest.raises(openai.BadRequestError, match="starts from a picture"):
            await images.generate(model="portraits", prompt="at the sea")
        made = await images.edit(
            model="portraits",
            prompt="a",
            image=[photo(9, 9, 9)],
            extra_body={"num_inference_steps": 1, "size": "64x64"},
        )
        assert len(made.data) == 1


@pytest.fixture(scope="module")
def parts(weights: Path) -> dict[str, Any]:
    """What each part saw of a face."""
    found: dict[str, Any] = json.loads(run("instantid_parts.py", weights).splitlines()[-1])
    return found


def test_the_parts_fit_as_their_authors_put_them_together(parts: dict[str, Any]) -> None:
    """The adapter's tokens are those of its authors' resampler, written anew; the IdentityNet attends to them, in the
    order of guidance; and both the adapter and the IdentityNet alone change a picture with the face.
    """
    assert parts["furthest_token"] < 1e-4
    assert parts["net_sees_the_tokens"]
    assert parts["adapter_alone_sees_the_face"]
    assert parts["net_alone_sees_the_face"]


def test_the_decoder_gets_one_picture_at_a_time_and_in_float16_a_tile(parts: dict[str, Any]) -> None:
    """What a T4 has the memory for: diffusers turns the decoder to 32 bits there, which takes 5 GiB for all of 1024."""
    assert parts["decoded"] == 2 * [[1, 4, 128, 128]]
    assert len(parts["decoded_in_float16"]) == 9
    assert all(max(shape[2:]) <= 64 for shape in parts["decoded_in_float16"])
