"""The worker over real HTTP, with a pipeline that draws nothing in its place."""

from __future__ import annotations

import base64
import json
import os
import resource
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pools.catalog.worker_args import worker_serves
from pools.failures.classes import FailureClass
from pools.failures.classify import from_response
from pools.modal.worker.__main__ import SERVED
from pools.modal.worker.line import ClientLeft
from pools.modal.worker.pictures import Picture, pictures_service
from pools.modal.worker.server import WorkerServer
from pools.wire.multipart import form_of
from support.repository import ROOT
from support.values import replace
from support.worker import POOLS, isolated

GENERATIONS = "/v1/images/generations"


class Image:
    """What a pipeline returns, as far as the worker asks."""

    def save(self, buffer: Any, format: str) -> None:
        buffer.write(b"\x89PNG" if format == "PNG" else b"?")


class Pipeline:
    """Notes what it is called with; fails when told to."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fails: Exception | None = None

    def __call__(self, **options: Any) -> Any:
        look = options.pop("callback_on_step_end")
        self.calls.append(options)
        if self.fails is not None:
            raise self.fails
        look(self, 0, 999, {})
        return SimpleNamespace(images=[Image()] * options["num_images_per_prompt"])


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture
def url(pipeline: Pipeline) -> Iterator[str]:
    service = pictures_service(pipeline, "sdxl", 30, lambda seed: f"generator of {seed}")
    server = WorkerServer(service, 0, 8)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str, body: bytes | None = None, content_type: str = "application/json") -> tuple[int, Any]:
    asked = urllib.request.Request(url, data=body, headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


ASKED = {"prompt": "a lighthouse", "n": 2, "size": "1024x768", "num_inference_steps": 4, "seed": 7}
FORM_TYPE, FORM = form_of({name: str(value) for name, value in ASKED.items()})


@pytest.mark.parametrize(
    ("content_type", "body"), [("application/json", json.dumps(ASKED).encode()), (FORM_TYPE, FORM)]
)
def test_pictures_come_in_openais_shape(url: str, pipeline: Pipeline, content_type: str, body: bytes) -> None:
    """As many as were asked for, with the request's size, steps and seed, as JSON or as the form of the same fields."""
    status, answer = ask(url + GENERATIONS, body, content_type)
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


@pytest.mark.parametrize("size", [{}, {"size": "auto"}, {"size": ""}, {"size": None}, {"width": 1024, "height": 1024}])
def test_what_a_request_leaves_out_is_the_models_own(url: str, pipeline: Pipeline, size: dict[str, Any]) -> None:
    """One picture of 1024 by 1024 in the model's steps, however a size is written that the router lets through."""
    assert ask(url + GENERATIONS, json.dumps({"prompt": "x", **size}).encode())[0] == 200
    asked = pipeline.calls[0]
    assert (asked["width"], asked["height"], asked["num_inference_steps"]) == (1024, 1024, 30)
    assert "generator" not in asked


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "body"),
        (b"[" * 100_000, "body"),
        (b"[]", "body"),
        (b"{}", "prompt"),
        (b'{"prompt": ""}', "prompt"),
        (b'{"prompt": "\\ud800"}', "prompt"),
        (b'{"prompt": "x", "size": "4096x4096"}', "size"),
        (b'{"prompt": "x", "size": "1000x1000"}', "size"),
        (b'{"prompt": "x", "size": 1024}', "size"),
        (b'{"prompt": "x", "width": 4096}', "width"),
        (b'{"prompt": "x", "n": 0}', "n"),
        (b'{"prompt": "x", "n": true}', "n"),
        (b'{"prompt": "x", "n": 1.5}', "n"),
        (b'{"prompt": "x", "seed": "many"}', "seed"),
        (b'{"prompt": "x", "num_inference_steps": 1000}', "num_inference_steps"),
    ],
)
def test_bad_requests_are_refused_before_the_gpu(url: str, pipeline: Pipeline, body: bytes, param: str) -> None:
    """With the field that is wrong."""
    status, answer = ask(url + GENERATIONS, body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert pipeline.calls == []


@pytest.mark.parametrize(
    ("content_type", "body"), [("multipart/form-data", FORM), (FORM_TYPE, FORM[:-8]), (FORM_TYPE, b"")]
)
def test_a_broken_form_is_the_clients_mistake(url: str, content_type: str, body: bytes) -> None:
    """Without a boundary, cut off, or empty: 400, and the server goes on."""
    status, answer = ask(url + GENERATIONS, body, content_type)
    assert (status, answer["error"]["param"]) == (400, "body")
    assert ask(f"{url}/health")[0] == 200


@pytest.mark.parametrize(
    "heads",
    [
        [],
        ["Content-Length: 1_0"],
        ["Content-Length: " + "9" * 5000],
        ["Content-Length: 2", "Content-Length: 9"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
    ],
    ids=["none", "no number", "too long a number", "two", "chunks"],
)
def test_where_a_body_ends_is_said_once(url: str, pipeline: Pipeline, heads: list[str]) -> None:
    """Else what follows might be taken for a request: it is refused, and the connection closed."""
    with closing(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)) as connection:
        connection.sendall("\r\n".join([f"POST {GENERATIONS} HTTP/1.1", "Host: x", *heads, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Length" in answer.partition(b"\r\n\r\n")[2]
    assert pipeline.calls == []


def test_half_a_body_is_nothing_to_work_on(url: str, pipeline: Pipeline) -> None:
    """Whose client left before its end, whatever the half says."""
    with closing(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)) as connection:
        connection.sendall(b'POST %b HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"prompt": "x"}' % GENERATIONS.encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b""
    assert pipeline.calls == []


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22 GiB"),
            "CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory: you"),
            "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory",
        ),
        (OutOfMemoryError("a lighthouse"), "OutOfMemoryError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_running_out_of_memory_is_told_in_torchs_words(
    url: str, pipeline: Pipeline, raised: Exception, words: str
) -> None:
    """By them the router knows it, and does not send this size here again."""
    pipeline.fails = raised
    status, answer = ask(url + GENERATIONS, b'{"prompt": "a lighthouse"}')
    assert (status, answer["error"]["message"]) == (500, f"OutOfMemoryError: {words}")
    assert judged(status, answer) is FailureClass.OUT_OF_MEMORY
    assert ask(f"{url}/health")[0] == 200


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, TimeoutError])
def test_a_failure_that_nobody_foresaw_is_answered_and_logged(
    url: str, pipeline: Pipeline, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """500 in OpenAI's shape on a connection that stays open, and a log that says where: neither repeats the prompt,
    not even where a prompt speaks of memory.
    """
    pipeline.fails = kind("the prompt 'a lighthouse, CUDA out of memory' has no token")
    status, answer = ask(url + GENERATIONS, b'{"prompt": "a lighthouse"}')
    error = {"message": f"the model failed ({kind.__name__}); the container's log says where", "param": None}
    assert (status, answer) == (500, {"error": {**error, "type": "InternalServerError", "code": 500}})
    assert judged(status, answer) is FailureClass.UNAVAILABLE
    [record] = caplog.records
    assert "raise self.fails" in record.getMessage()
    assert "lighthouse" not in record.getMessage()
    pipeline.fails = None
    assert ask(url + GENERATIONS, b'{"prompt": "a lighthouse"}')[0] == 200


def judged(status: int, answer: Any) -> FailureClass:
    """As the router does."""
    return from_response(status, {}, json.dumps(answer).encode(), believed_asleep=False).failure


def test_a_client_is_seen_to_stay_whatever_its_descriptors_number(url: str, pipeline: Pipeline) -> None:
    """Also from 1024 up, which `select` cannot ask about: the picture is made."""
    with descriptors_above(1024):
        assert ask(url + GENERATIONS, b'{"prompt": "x"}')[0] == 200
    assert len(pipeline.calls) == 1


@contextmanager
def descriptors_above(number: int) -> Iterator[None]:
    """What is opened inside has a descriptor from `number` up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 64), hard))
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while opened.enter_context(Path(os.devnull).open("rb")).fileno() < number:
            pass
        yield


def test_edits_and_long_bodies_are_the_clients_own_mistakes(url: str, pipeline: Pipeline) -> None:
    """400 and 413, after the whole body was read, so that nobody takes the server for one that broke."""
    assert ask(f"{url}/v1/images/edits", b"x" * 500_000)[0] == 400
    status, answer = ask(url + GENERATIONS, b"x" * 5_000_000)
    assert (status, answer["error"]["param"]) == (413, "body")
    assert pipeline.calls == []


def test_a_picture_whose_client_left_is_not_finished(pipeline: Pipeline) -> None:
    """The pipeline looks after each step."""
    asked = Picture("a lake", 1, 64, 64, 4, None)
    with pytest.raises(ClientLeft):
        pipeline(**asked.options(str, lambda: True))
    assert pipeline(**asked.options(str, lambda: False)).images


def test_it_says_what_it_serves(url: str) -> None:
    """Health, the model's name, and 404 for everything else."""
    assert ask(f"{url}/v1/models")[1]["data"][0]["id"] == "sdxl"
    assert ask(f"{url}/v1/chat/completions", b"{}")[0] == 404
    assert ask(f"{url}/nothing")[0] == 404


def test_the_models_it_serves_are_those_that_rows_may_name() -> None:
    """The command line that a row becomes and the worker agree."""
    named = {pool.model.id for pool in POOLS.values() if worker_serves(pool)}
    named |= {"flux-dev"} if worker_serves(replace(POOLS["flux-dev-bf16-l40s"], engine="diffusers")) else set()
    assert named == set(SERVED)


def test_the_worker_needs_nothing_but_the_standard_library() -> None:
    """A container has what its model needs, and nothing that the router is built from."""
    done = isolated(ROOT, "import pools.modal.worker.__main__, sys; print('msgspec' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
