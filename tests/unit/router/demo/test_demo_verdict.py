"""What a client makes of the bytes that it received."""

from __future__ import annotations

import json

import pytest

from router.demo.verdict import Judged, Verdict, judge_stream, judge_whole

ERROR = {"error": {"message": "no", "type": "insufficient_quota", "param": None, "code": "budget_exceeded"}}
DONE = b"data: [DONE]\n\n"


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(text: str | None = None, finish: str | None = None, index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]})


def answer(finish: str | None) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": finish}]}).encode()


@pytest.mark.parametrize(
    ("status", "raw", "expected"),
    [
        (200, answer("stop"), Judged(Verdict.SERVED)),
        (200, answer(None), Judged(Verdict.BROKEN, "no finish reason")),
        (429, json.dumps(ERROR).encode(), Judged(Verdict.REFUSED, "budget_exceeded")),
    ],
)
def test_a_whole_body_is_an_answer_or_an_error(status: int, raw: bytes, expected: Judged) -> None:
    """Served needs a finish reason; an OpenAI error object is a refusal, named by its code."""
    assert judge_whole(status, raw) == expected


@pytest.mark.parametrize(
    ("status", "raw"),
    [(502, b"<html>bad gateway</html>"), (200, b""), (200, b'{"choices": []}'), (500, b'{"error": "text"}')],
)
def test_a_body_that_says_nothing_is_lost(status: int, raw: bytes) -> None:
    """No client could act on it, whatever the status."""
    assert judge_whole(status, raw).verdict is Verdict.LOST


USAGE = event({"choices": [], "usage": {"prompt_tokens": 3}})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (chunk("a") + chunk(None, "stop") + USAGE + DONE, Judged(Verdict.SERVED)),
        (b": keep-alive\n\n" + chunk("a", "length") + DONE, Judged(Verdict.SERVED)),
        (chunk("a").replace(b"\n", b"\r\n") + chunk(None, "stop") + DONE, Judged(Verdict.SERVED)),
        (chunk("a") + event(ERROR), Judged(Verdict.BROKEN, "budget_exceeded")),
        (chunk("a") + event(ERROR) + DONE, Judged(Verdict.BROKEN, "budget_exceeded")),
        (chunk("a") + DONE, Judged(Verdict.BROKEN, "[DONE] without a finish reason")),
        (DONE, Judged(Verdict.BROKEN, "[DONE] without a finish reason")),
        (chunk("a") + chunk(None, "stop"), Judged(Verdict.BROKEN, "ended without [DONE]")),
        (chunk("a") + b'data: {"choi', Judged(Verdict.BROKEN, "an event that is not JSON")),
        (b"", Judged(Verdict.LOST, "a stream that says nothing")),
        (b"<html>", Judged(Verdict.LOST, "a stream that says nothing")),
        (b"data: <html>\n\n", Judged(Verdict.LOST, "an event that is not JSON")),
    ],
)
def test_a_stream_is_served_only_with_a_finish_reason_and_done_and_without_an_error(
    raw: bytes, expected: Judged
) -> None:
    """Status 200 and [DONE] prove nothing on their own."""
    assert judge_stream(raw) == expected


def test_every_choice_of_a_stream_has_to_finish() -> None:
    """With two choices, one finish reason is not enough."""
    both = chunk("a", index=0) + chunk("b", index=1) + chunk(None, "stop", index=0)
    assert judge_stream(both + DONE).verdict is Verdict.BROKEN
    assert judge_stream(both + chunk(None, "stop", index=1) + DONE).verdict is Verdict.SERVED
