"""The classifier's tables: texts of other versions, echoes of the client's words, Retry-After, drivers' errors."""

from __future__ import annotations

import json
import ssl
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.failures.classes import AttemptFailed, FailureClass
from pools.failures.classify import DRIVER_ERRORS, from_error_frame, from_exception, from_response, retry_after_s
from pools.wire.backend import UpstreamRequest
from pools.wire.http import HttpBackend
from pricing.clock import ScaledClock

ALL_CONTEXT_TEXTS = [
    # 0.2 to 0.8
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, "
    "1000 in the completion). Please reduce the length of the messages or completion.",
    # 0.9, 0.10
    "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length is 8192 tokens "
    "and your request has 1000 input tokens (9000 > 8192 - 1000).",
    # the V1 engine, for prompts with images
    "The decoder prompt (length 8825) is longer than the maximum model length of 8192. Make sure that `max_model_len` "
    "is no smaller than the number of text tokens plus multimodal tokens.",
    # between 0.15 and 0.26
    "You passed 31745 input tokens and requested 1024 output tokens. However, the model's context length is only 32768 "
    "tokens, resulting in a maximum input length of 31744 tokens.",
]
OUT_OF_MEMORY_TEXTS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: CUDA out of memory.",
    "torch.cuda.OutOfMemoryError: CUDA out of memory.",
    "CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
    "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
]


def nested(message: str, code: int, **more: str) -> bytes:
    """An error body from 0.10.1 on."""
    return json.dumps({"error": {"message": message, "type": "E", "param": None, "code": code, **more}}).encode()


def flat(message: str, code: int) -> bytes:
    """An error body up to 0.10.0."""
    return json.dumps({"object": "error", "message": message, "type": "E", "param": None, "code": code}).encode()


def judge(status: int, body: bytes = b"", asleep: bool = False, **headers: str) -> AttemptFailed:
    return from_response(status, headers, body, believed_asleep=asleep)


@pytest.mark.parametrize("shape", [nested, flat])
@pytest.mark.parametrize("text", ALL_CONTEXT_TEXTS)
def test_context_errors_of_all_versions_are_known(text: str, shape: Any) -> None:
    """Each version's words, in both shapes, as a status and inside a stream."""
    assert judge(400, shape(text, 400)).failure is FailureClass.CONTEXT_OVERFLOW
    assert from_error_frame(shape(text, 400)).failure is FailureClass.CONTEXT_OVERFLOW


@pytest.mark.parametrize("shape", [nested, flat])
@pytest.mark.parametrize("text", OUT_OF_MEMORY_TEXTS)
def test_out_of_memory_texts_are_known(text: str, shape: Any) -> None:
    """A server's error with one of the known texts is out of memory for certain."""
    for failure in (judge(500, shape(text, 500)), from_error_frame(shape(text, 500))):
        assert (failure.failure, failure.certain) == (FailureClass.OUT_OF_MEMORY, True)


@pytest.mark.parametrize("text", [*OUT_OF_MEMORY_TEXTS, *ALL_CONTEXT_TEXTS, "x is not a multimodal model"])
def test_a_validation_error_that_repeats_the_clients_words_is_the_clients(text: str) -> None:
    """No prompt can make a pool look out of memory, short of context or misconfigured."""
    echo = f"1 validation error:\n  {{'type': 'list_type', 'loc': 'body.messages', 'input': {text!r}}}"
    for body in (nested(echo, 400, type="Bad Request"), nested(text, 400, type="Bad Request")):
        assert judge(400, body).failure is FailureClass.CLIENT_ERROR


@pytest.mark.parametrize(
    ("status", "body", "asleep", "expected"),
    [
        (401, b'{"error":"Unauthorized"}', False, FailureClass.MISCONFIGURED),
        (401, b"modal-http: missing credentials for proxy authorization", False, FailureClass.MISCONFIGURED),
        (403, b"", True, FailureClass.MISCONFIGURED),
        (404, b"modal-http: invalid function call", True, FailureClass.MISCONFIGURED),
        (404, flat("The model `x` does not exist.", 404), False, FailureClass.MISCONFIGURED),
        (307, b"", False, FailureClass.MISCONFIGURED),
        (429, b"", False, FailureClass.OVERLOADED),
        (503, flat("busy", 503), False, FailureClass.OVERLOADED),
        (503, nested("busy", 503), True, FailureClass.OVERLOADED),  # an engine that answers is awake
        (503, b"", True, FailureClass.COLD),
        (503, b"<html>", True, FailureClass.COLD),
        (503, b'{"detail":"starting"}', True, FailureClass.COLD),
        (503, b"", False, FailureClass.UNAVAILABLE),
        (500, b"modal-http: internal error: function was terminated by signal", False, FailureClass.UNAVAILABLE),
        (502, b"", True, FailureClass.UNAVAILABLE),
        (503, nested("EngineCore encountered an issue.", 503), False, FailureClass.UNAVAILABLE),
        (500, flat("Background loop has errored already.", 500), False, FailureClass.UNAVAILABLE),
        (400, b"", False, FailureClass.UNAVAILABLE),
        (400, b"<html>Bad Request</html>", False, FailureClass.UNAVAILABLE),
        (400, b'{"error":"context canceled"}', False, FailureClass.CLIENT_ERROR),
        (408, b"<html>", False, FailureClass.UNAVAILABLE),
        (409, b"<html>", False, FailureClass.UNAVAILABLE),
        (425, b'{"detail":"Too Early"}', False, FailureClass.UNAVAILABLE),
        (431, b"", False, FailureClass.UNAVAILABLE),
        (499, b'{"error":"client closed request"}', False, FailureClass.UNAVAILABLE),
        (499, nested("cancelled", 499), False, FailureClass.CLIENT_ERROR),
        (429, b"<html>", False, FailureClass.OVERLOADED),
        (413, b"too large", False, FailureClass.CLIENT_ERROR),
        (422, b'{"detail":[{"loc":["body"]}]}', False, FailureClass.CLIENT_ERROR),
        (101, b"", False, FailureClass.UNAVAILABLE),
    ],
)
def test_statuses_and_bodies_of_engines_and_platforms(
    status: int, body: bytes, asleep: bool, expected: FailureClass
) -> None:
    """One row each of what is not recorded."""
    assert judge(status, body, asleep).failure is expected


def test_only_a_client_error_carries_its_body() -> None:
    """The client gets the engine's words about its own request, and nothing of other failures."""
    body = nested("n must be at least 1, got 0.", 400)
    assert judge(400, body).body == body
    assert judge(500, nested("internal", 500)).body is None


def test_an_error_frame_without_a_code_is_a_server_error() -> None:
    """Gateways that put a word where the code belongs are taken as failed, never as answers."""
    for error in ({"message": "x"}, {"message": "x", "code": "boom"}, "text", {"message": "x", "code": True}):
        assert from_error_frame(json.dumps({"error": error}).encode()).failure is FailureClass.UNAVAILABLE
    assert from_error_frame(nested("x", 0).replace(b"0", b'"429"')).failure is FailureClass.OVERLOADED


@given(st.integers(100, 599), st.binary(max_size=200) | st.text(max_size=100).map(lambda t: nested(t, 400)))
def test_any_answer_has_a_class_and_shows_nothing_of_itself(status: int, body: bytes) -> None:
    """Whatever comes is classified, and the detail is ours: a body, which may repeat a prompt, is not quoted."""
    failure = judge(status, body)
    assert failure.detail.endswith(f"(HTTP {status})")
    assert len(failure.detail) < 60


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "99999999"}, 3600.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 18:26:32 GMT", "Date": "Fri, 20 Nov 2026 18:26:22 GMT"}, 10.0),
        ({"Retry-After": "Fri, 20 Nov 2026 18:26:22 GMT", "Date": "Fri, 20 Nov 2026 18:26:32 GMT"}, 0.0),
        ({"Retry-After": "Fri, 20 Nov 2026 18:26:32 GMT"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 18:26:32 -0000", "Date": "Fri, 20 Nov 2026 18:26:22 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], expected: float | None) -> None:
    """A date counts from the answer's own, so that clocks need not agree; nonsense counts as nothing."""
    assert retry_after_s(headers) == expected
    assert judge(429, b"", **headers).retry_after_s == expected


def drivers_errors() -> list[type[Exception]]:
    """Every error class of aiohttp, and every OSError of Python, asyncio and ssl."""
    waiting: list[type[Exception]] = [aiohttp.ClientError, OSError]
    seen: set[type[Exception]] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.add(kind)
            waiting += kind.__subclasses__()
    return sorted(seen, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def made(kind: type[Exception]) -> Exception:
    """An instance without running its constructor, whose arguments differ from class to class."""
    return cast(Exception, kind.__new__(kind))


@pytest.mark.parametrize("kind", drivers_errors(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def test_no_drivers_error_leaves_the_backend(kind: type[Exception]) -> None:
    """Each error class that aiohttp or the system can raise becomes exactly one failure class."""

    class Raising:
        async def request(self, *args: object, **kwargs: object) -> None:
            raise made(kind)

    pool = HttpBackend("http://pool", cast(aiohttp.ClientSession, Raising()), ScaledClock())
    request = UpstreamRequest("/v1/completions", b"{}", "r", False, 1, 60, 60, 60)
    for send in (pool.complete, pool.stream):
        with pytest.raises(AttemptFailed) as caught:
            await send(request)
        assert caught.value.failure in (FailureClass.UNAVAILABLE, FailureClass.MISCONFIGURED)
        assert kind.__name__ in caught.value.detail


@pytest.mark.parametrize(
    ("error", "died"),
    [
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientPayloadError(), True),
        (ConnectionResetError(), True),
        (made(aiohttp.ClientConnectorError), False),
        (made(aiohttp.ConnectionTimeoutError), False),
        (ssl.SSLError(), False),
    ],
)
def test_only_an_end_under_a_request_is_a_death(error: Exception, died: bool) -> None:
    """A pool that cannot be reached has not died under this request, so its shape gets no strike."""
    assert isinstance(error, DRIVER_ERRORS)
    assert from_exception(error).engine_died is died
