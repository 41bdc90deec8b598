"""Every error renders as an OpenAI error object and tells SDKs the truth about retrying."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ERRORS, ApiError, PassedOn


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_code_renders(code: str) -> None:
    """Status, type and code of the body are the table's; the event is the same object."""
    error = ApiError(code, "what to do", param="p", retry_after_s=1.2, metadata={"k": 1})
    body = json.loads(error.body())["error"]
    assert body == {
        "message": "what to do",
        "type": ERRORS[code].type,
        "param": "p",
        "code": code,
        "metadata": {"k": 1},
    }
    assert error.event() == b"data: " + error.body() + b"\n\n"
    assert dict(error.headers())[b"retry-after"] == b"2"


@pytest.mark.parametrize(
    "code", ["budget_exceeded", "chain_failed", "chain_timeout", "stream_broken", "schema_violation"]
)
def test_what_was_paid_for_is_not_to_be_repeated(code: str) -> None:
    """The official client repeats any 429 or 5xx twice unless it is told not to."""
    assert dict(ApiError(code, "x").headers())[b"x-should-retry"] == b"false"


@pytest.mark.parametrize("code", ["model_warming", "no_capable_pool", "store_unavailable", "shutting_down"])
def test_what_passes_by_itself_may_be_repeated(code: str) -> None:
    """These cost nothing and end soon."""
    assert dict(ApiError(code, "x").headers())[b"x-should-retry"] == b"true"


@given(st.sampled_from(sorted(ERRORS)), st.none() | st.floats(0, 10**6), st.booleans())
def test_no_client_is_asked_for_a_wait_that_it_does_not_keep(code: str, waits_s: float | None, passes: bool) -> None:
    """Releases 1.x repeat at once where `Retry-After` is over 60 s: what may be repeated never asks for more. What will
    not pass by itself is not to be repeated at all.
    """
    headers = dict(ApiError(code, "x", retry_after_s=waits_s, passes=passes).headers())
    if headers.get(b"x-should-retry") == b"true":
        assert passes
        assert int(headers.get(b"retry-after", b"0")) <= 60
    if waits_s is not None:
        assert waits_s <= int(headers[b"retry-after"]) < waits_s + 2


def test_an_engines_refusal_is_passed_on_unchanged() -> None:
    """Status and body are the engine's own."""
    error = PassedOn(422, b'{"error":{"message":"bad"}}')
    assert (error.status, error.body()) == (422, b'{"error":{"message":"bad"}}')


@pytest.mark.parametrize(
    ("param", "says"),
    [(b"num_frames", "for its 'num_frames'"), (b"a secret", "without saying why"), (b"", "without saying why")],
)
def test_what_is_kept_of_an_engines_refusal_is_a_field_at_most(param: bytes, says: str) -> None:
    """A video job keeps our message; the engine's words, which may repeat a prompt, are not in it."""
    error = PassedOn(400, b'{"error":{"message":"bad: a secret","param":"%b"}}' % param)
    assert error.message == f"the pool refused the request itself (HTTP 400) {says}"
