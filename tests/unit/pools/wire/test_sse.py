"""Server-sent events cut into frames, and what a look into a chunk finds."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import Frame, FrameKind
from pools.wire.sse import FramePeek, SseParser, peek


def frames_of(*chunks: bytes) -> list[Frame]:
    """All frames of a stream that came in these pieces, the unfinished one too."""
    parser = SseParser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    rest = parser.finish()
    return [*frames, rest] if rest else frames


def chunk(**fields: object) -> bytes:
    return json.dumps(fields).encode()


line = st.sampled_from(
    [
        b"data: {}",
        b'data: {"a":"\xc3\xbc"}',
        b"data:",
        b"data",
        b"data: [DONE]",
        b": ping",
        b"event: x",
        b"id:1",
        b"",
        b"\r",
    ]
) | st.binary(max_size=8)
stream_bytes = st.lists(st.tuples(line, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b""]))).map(
    lambda pairs: b"".join(text + end for text, end in pairs)
)


@given(stream_bytes, st.data())
def test_any_split_of_a_stream_gives_the_same_frames(stream: bytes, data: st.DataObject) -> None:
    """Frames do not depend on how the bytes were cut on their way, and together they are the stream."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    whole = frames_of(stream)
    assert frames_of(*pieces) == whole
    assert frames_of(*(stream[i : i + 1] for i in range(len(stream)))) == whole
    assert b"".join(frame.raw for frame in whole) == stream


@given(st.lists(st.text().filter(lambda text: "\n" not in text and "\r" not in text and text.strip())))
def test_every_payload_comes_back(payloads: list[str]) -> None:
    """What is written as one data line each is read as it was."""
    stream = b"".join(b"data: " + text.encode() + b"\n\n" for text in payloads)
    assert [frame.data.decode() for frame in frames_of(stream)] == payloads


@pytest.mark.parametrize(
    ("raw", "kind", "data"),
    [
        (b'data: {"a":1}\n\n', FrameKind.DATA, b'{"a":1}'),
        (b'data:{"a":1}\n\n', FrameKind.DATA, b'{"a":1}'),
        (b'data: {"a":1}\r\n\r\n', FrameKind.DATA, b'{"a":1}'),
        (b'data: {"a":1}\r\n\n', FrameKind.DATA, b'{"a":1}'),
        (b'data: {"a":\ndata: 1}\n\n', FrameKind.DATA, b'{"a":\n1}'),
        (b'event: x\nid: 1\ndata: {"a":1}\nretry: 5\n\n', FrameKind.DATA, b'{"a":1}'),
        (b': note\ndata: {"a":1}\n\n', FrameKind.DATA, b'{"a":1}'),
        (b"data: [DONE]\n\n", FrameKind.DONE, b"[DONE]"),
        (b"data:[DONE]\r\n\r\n", FrameKind.DONE, b"[DONE]"),
        (b": keep-alive\n\n", FrameKind.COMMENT, b""),
        (b"event: ping\n\n", FrameKind.COMMENT, b""),
        (b"data: \n\n", FrameKind.COMMENT, b""),
        (b"\n", FrameKind.COMMENT, b""),
        (b"data: half", FrameKind.DATA, b"half"),
    ],
)
def test_one_frame_in_each_notation(raw: bytes, kind: FrameKind, data: bytes) -> None:
    """Both line ends, several data lines, other fields, comments, and a last frame without its blank line."""
    assert frames_of(raw) == [Frame(kind, raw, data)]


def test_a_frame_without_end_is_refused() -> None:
    """A frame that outgrows the bound fails the attempt; frames up to the bound pass, however they arrive."""
    parser = SseParser(max_frame_bytes=100)
    assert len(parser.feed(b"data: " + b"x" * 92 + b"\n\n")) == 1
    for _ in range(100):
        assert parser.feed(b"x") == []
    with pytest.raises(AttemptFailed) as caught:
        parser.feed(b"x")
    assert caught.value.failure is FailureClass.UNAVAILABLE


def test_the_first_chunk_has_a_role_and_no_content() -> None:
    """The role comes with an empty text, which is nothing to show yet."""
    seen = peek(chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))
    assert (seen.has_role, seen.has_content, seen.finished, seen.choices_empty) == (True, False, False, False)


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "a"}},
        {"delta": {"reasoning": "a"}},
        {"delta": {"reasoning_content": "a"}},
        {"delta": {"refusal": "a"}},
        {"delta": {"tool_calls": [{"index": 0}]}},
        {"delta": {"function_call": {"name": "f"}}},
        {"text": "a"},
        {"message": {"content": "a"}},
    ],
)
def test_text_reasoning_and_calls_are_content(choice: dict[str, object]) -> None:
    """Each way in which a chunk says something."""
    seen = peek(chunk(choices=[choice]))
    assert seen.has_content
    assert seen.has_tool_calls == ("call" in json.dumps(choice))


@pytest.mark.parametrize("part", [{}, {"content": None}, {"content": "", "tool_calls": [], "reasoning": None}])
def test_nulls_and_empty_values_are_no_content(part: dict[str, object]) -> None:
    """Engines fill unused fields with null, empty text or an empty list."""
    assert not peek(chunk(choices=[{"delta": part}])).has_content


def test_finish_reasons_are_known_by_choice() -> None:
    """With n = 2, each choice ends on its own."""
    seen = peek(chunk(choices=[{"index": 1, "finish_reason": "stop"}, {"index": 0, "finish_reason": None}]))
    assert (seen.seen, seen.finish_reasons, seen.finished) == ((1, 0), ((1, "stop"),), True)


def test_usage_is_read_beside_choices_and_alone() -> None:
    """Token counts come with every chunk or with a last one that has no choices; null is no usage."""
    usage = {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17, "prompt_tokens_details": None}
    last = peek(chunk(choices=[], usage=usage))
    assert (last.has_usage, last.choices_empty, last.prompt_tokens, last.completion_tokens) == (True, True, 14, 3)
    assert peek(chunk(choices=[], usage=None)) == FramePeek()
    assert not peek(chunk(choices=[{"index": 0}], usage=usage)).choices_empty


@pytest.mark.parametrize(
    ("fields", "message", "code"),
    [
        ({"error": {"message": "m", "type": "t", "code": 503}}, "m", 503),
        ({"object": "error", "message": "m", "code": 400}, "m", 400),
        ({"error": {"object": "error", "message": "m", "code": "500"}}, "m", 500),
        ({"error": "m"}, "m", None),
        ({"error": {}}, "", None),
        ({"error": True}, "", None),
        ({"error": {"message": "m"}, "choices": [{"finish_reason": "stop"}]}, "m", None),
    ],
)
def test_an_error_object_is_seen_in_every_shape(fields: dict[str, object], message: str, code: int | None) -> None:
    """Nested, flat, nested in itself as up to 0.10.0, a bare string; even beside choices."""
    error = peek(chunk(**fields)).error
    assert error is not None
    assert (error.message, error.code) == (message, code)


def test_a_null_error_is_none() -> None:
    """Servers that always write the field write null."""
    assert peek(chunk(error=None, choices=[])).error is None


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"1", b'{"choices":[{"index":"a"}]}', b"\xff", b"[" * 100_000])
def test_what_is_no_chunk_fails_the_attempt(data: bytes) -> None:
    """Garbage is the upstream's failure, with none of it in the message."""
    with pytest.raises(AttemptFailed) as caught:
        peek(data)
    assert caught.value.failure is FailureClass.UNAVAILABLE
