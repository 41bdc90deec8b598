"""What llama.cpp's server says when it cannot serve, as its source has it (`tools/server`), and what it means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pools.failures.classes import FailureClass
from pools.failures.classify import from_error_frame, from_response
from pools.spec import Feature

CASES: list[tuple[int, dict[str, Any], FailureClass]] = [
    (
        400,
        {
            "code": 400,
            "message": "request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 4476,
            "n_ctx": 4096,
        },
        FailureClass.CONTEXT_OVERFLOW,
    ),
    (
        400,
        {
            "code": 400,
            "message": "the request exceeds the available context size. try increasing the context size or enable "
            "context shift",
            "type": "invalid_request_error",
        },
        FailureClass.CONTEXT_OVERFLOW,
    ),
    (
        500,
        {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"},
        FailureClass.OUT_OF_MEMORY,
    ),
    (503, {"code": 503, "message": "Loading model", "type": "unavailable_error"}, FailureClass.OVERLOADED),
    (401, {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}, FailureClass.MISCONFIGURED),
    (400, {"code": 400, "message": "Expected 'messages' to be an array", "type": "invalid_request_error"},
     FailureClass.CLIENT_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("status", "error", "expected"), CASES)
def test_its_errors_are_classified(status: int, error: dict[str, Any], expected: FailureClass) -> None:
    """As an answer, and inside a stream that had begun."""
    body = json.dumps({"error": error}).encode()
    assert from_response(status, {}, body, believed_asleep=False).failure is expected
    assert from_error_frame(body).failure is expected


def test_a_server_that_loads_its_model_is_cold_where_it_was_believed_asleep() -> None:
    """Its port is open before its weights are read: the boot that was asked for is under way."""
    body = json.dumps({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}).encode()
    assert from_response(503, {}, body, believed_asleep=True).failure is FailureClass.COLD


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    ("message", "feature"),
    [
        ("tools param requires --jinja flag", Feature.TOOLS),
        ("image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
         Feature.VISION),
    ],
)  # fmt: skip
def test_what_it_was_not_started_with_is_ours_to_mend(status: int, message: str, feature: Feature) -> None:
    """Other pools may have the feature; this one keeps serving requests that do not need it."""
    body = json.dumps({"error": {"code": status, "message": message, "type": "server_error"}}).encode()
    failure = from_response(status, {}, body, believed_asleep=False)
    assert (failure.failure, failure.feature) == (FailureClass.MISCONFIGURED, feature)


def test_a_client_that_quotes_its_words_is_still_a_client() -> None:
    """A refusal that repeats the request may contain any of these texts behind its own."""
    text = "Unsupported content part type: tools param requires --jinja flag"
    body = json.dumps({"error": {"code": 400, "message": text, "type": "invalid_request_error"}}).encode()
    assert from_response(400, {}, body, believed_asleep=False).failure is FailureClass.CLIENT_ERROR
