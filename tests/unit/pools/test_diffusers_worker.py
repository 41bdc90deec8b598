"""The image worker over real HTTP, with a pipeline that draws nothing in its place."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pools.engine_args import WORKER_MODELS
from pools.modal.diffusers_worker import STEPS, serve


class Image:
    """What a pipeline returns, as far as the worker asks."""

    def save(self, buffer: Any, format: str) -> None:
        buffer.write(b"\x89PNG" if format == "PNG" else b"?")


class Pipeline:
    """Notes what it is called with; fails when told to."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fails = ""

    def __call__(self, **options: Any) -> Any:
        self.calls.append(options)
        if self.fails:
            raise RuntimeError(self.fails)
        return SimpleNamespace(images=[Image()] * options["num_images_per_prompt"])


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture
def url(pipeline: Pipeline) -> Iterator[str]:
    server = serve(pipeline, "sdxl", 30, 0, lambda seed: f"generator of {seed}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, data=body, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_pictures_come_in_openais_shape(url: str, pipeline: Pipeline) -> None:
    """As many as were asked for, with the request's size, steps and seed."""
    body = {"prompt": "a lighthouse", "n": 2, "size": "1024x768", "num_inference_steps": 4, "seed": 7}
    status, answer = ask(f"{url}/v1/images/generations", json.dumps(body).encode())
    assert status == 200
    assert [base64.b64decode(one["b64_json"]) for one in answer["data"]] == [b"\x89PNG", b"\x89PNG"]
    assert pipeline.calls == [
        {
            "prompt": "a lighthouse",
            "width": 1024,
            "height": 768,
            "num_inference_steps": 4,
            "num_images_per_prompt": 2,
            "generator": "generator of 7",
        }
    ]


def test_what_a_request_leaves_out_is_the_models_own(url: str, pipeline: Pipeline) -> None:
    """One picture of 1024 by 1024 in the model's steps."""
    assert ask(f"{url}/v1/images/generations", b'{"prompt": "x"}')[0] == 200
    asked = pipeline.calls[0]
    assert (asked["width"], asked["height"], asked["num_inference_steps"]) == (1024, 1024, 30)
    assert "generator" not in asked


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "body"),
        (b"[]", "prompt"),
        (b'{"prompt": ""}', "prompt"),
        (b'{"prompt": "x", "size": "4096x4096"}', "size"),
        (b'{"prompt": "x", "size": "1000x1000"}', "size"),
        (b'{"prompt": "x", "n": 0}', "n"),
        (b'{"prompt": "x", "n": true}', "n"),
        (b'{"prompt": "x", "num_inference_steps": 1000}', "num_inference_steps"),
    ],
)
def test_bad_requests_are_refused_before_the_gpu(url: str, pipeline: Pipeline, body: bytes, param: str) -> None:
    """With the field that is wrong."""
    status, answer = ask(f"{url}/v1/images/generations", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert pipeline.calls == []


def test_running_out_of_memory_is_told_in_torchs_words(url: str, pipeline: Pipeline) -> None:
    """By them the router knows it, and does not send this size here again."""
    pipeline.fails = "CUDA out of memory. Tried to allocate 2.00 GiB"
    status, answer = ask(f"{url}/v1/images/generations", b'{"prompt": "x"}')
    assert status == 500
    assert answer["error"]["message"] == pipeline.fails
    assert ask(f"{url}/health")[0] == 200


def test_edits_and_long_bodies_are_the_clients_own_mistakes(url: str, pipeline: Pipeline) -> None:
    """400 and 413, after the whole body was read, so that nobody takes the server for one that broke."""
    assert ask(f"{url}/v1/images/edits", b"x" * 500_000)[0] == 400
    status, answer = ask(f"{url}/v1/images/generations", b"x" * 5_000_000)
    assert (status, answer["error"]["param"]) == (413, "body")
    assert pipeline.calls == []


def test_it_says_what_it_serves(url: str) -> None:
    """Health, the model's name, and 404 for everything else."""
    assert ask(f"{url}/v1/models")[1]["data"][0]["id"] == "sdxl"
    assert ask(f"{url}/v1/chat/completions", b"{}")[0] == 404
    assert ask(f"{url}/nothing")[0] == 404


def test_the_models_it_serves_are_those_that_rows_may_name() -> None:
    """The command line and the worker agree."""
    assert set(STEPS) == WORKER_MODELS
