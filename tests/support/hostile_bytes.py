"""What an upstream may send instead of an answer, as hypothesis strategies: bytes, cut anywhere, ended anyhow."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hypothesis import strategies as st

from support.scripted_server import DONE, ENGINE_DIED, ROLE, frame, text_frame


class End(StrEnum):
    """What the upstream does once it has sent its bytes."""

    CLOSE = "close"
    RESET = "reset"
    HALF_CLOSE = "half-close"  # ends its side, and reads on
    HANG = "hang"
    KEEP = "keep"  # waits for the next request, as servers do
    NEVER = "never"  # repeats its last piece until the other side leaves


@dataclass(frozen=True, slots=True)
class Play:
    """`pieces` are sent one by one, each in a write of its own."""

    pieces: tuple[bytes, ...]
    end: End


FINISH: Final = text_frame("", "stop")
DEEP: Final = b"[" * 1_200 + b"]" * 1_200  # deeper than decoders go
Odd = tuple[Any, ...]
ODD_NUMBERS: Final[Odd] = (0, -5, 10**9, 2**31, 2**63, 10**30, 1.5, "7", None, True, [], {})
ODD_VALUES: Final[Odd] = (None, "", "x", 0, -1, 1.5, True, [], {}, [[]], [None], {"index": -1}, "\ud800", "\x00")


def _usage_frames() -> st.SearchStrategy[bytes]:
    numbers = st.sampled_from(ODD_NUMBERS)
    usage = st.fixed_dictionaries({"prompt_tokens": numbers, "completion_tokens": numbers})
    return st.builds(lambda value, choices: frame(choices=choices, usage=value), usage, st.sampled_from(([], [{}])))


def _odd_json() -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the fields of answers, and other things in them."""
    odd = st.sampled_from(ODD_VALUES)
    delta = st.dictionaries(st.sampled_from(("role", "content", "tool_calls", "reasoning", "refusal")), odd)
    names = ("index", "delta", "message", "finish_reason", "text", "token_ids", "logprobs")
    choice = st.dictionaries(st.sampled_from(names), odd | delta | st.just("stop"))
    fields = {"choices": odd | st.lists(choice, max_size=3), "error": odd | st.just({"message": "x", "code": 400})}
    more = {"usage": odd, "object": odd | st.just("error"), "id": odd, "model": odd, "prompt_token_ids": odd}
    return st.fixed_dictionaries({}, optional={**fields, **more})


FRAMES: Final[st.SearchStrategy[bytes]] = st.one_of(
    st.sampled_from(
        (
            ROLE,
            text_frame("he"),
            text_frame("llo"),
            text_frame("ß\U0001f600 \u2028"),
            FINISH,
            text_frame("x", "length", index=1),
            DONE,
            ENGINE_DIED,
            b": keep-alive\n\n",
            b"\r\n",
            b"\n",
            b"event: x\nid: 1\nretry: 5\n\n",
            ROLE.replace(b"\n", b"\r\n"),
            text_frame("he").replace(b"\n", b"\r\n"),
            text_frame("he").replace(b'": ', b'":\ndata: '),
            b"data: [DONE]",
            b"data:\n\n",
            b"data: null\n\n",
            b"data: \xff\xfe\n\n",
            text_frame("he").replace(b"he", b"h\xff"),
            b"data: " + DEEP + b"\n\n",
            b'data: {"choices":' + DEEP + b"}\n\n",
            b"data: <html>\n\n",
        )
    ),
    _usage_frames(),
    _odd_json().map(lambda fields: b"data: " + json.dumps(fields).encode() + b"\n\n"),
    st.binary(max_size=30),
    st.integers(1, 70_000).map(lambda size: text_frame("y" * size)),
)
STREAMS: Final = st.lists(FRAMES, max_size=7).map(b"".join)

_ANSWER: Final = {"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}
WHOLES: Final[st.SearchStrategy[bytes]] = st.one_of(
    st.sampled_from(
        (
            json.dumps(_ANSWER).encode(),
            json.dumps(_ANSWER).encode().replace(b"hello", b"h\xff"),
            json.dumps({**_ANSWER, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode("utf-16"),
            b"<!doctype html><h1>It works!</h1>",
            b"",
            b"null",
            DEEP,
            b'{"choices":' + DEEP + b"}",
            b'{"error": ' + DEEP + b"}",
            b'{"detail": "Not Found"}',
            b'{"error": "Unauthorized"}',
        )
    ),
    st.sampled_from(ODD_NUMBERS).map(
        lambda odd: json.dumps({**_ANSWER, "usage": {"prompt_tokens": odd, "completion_tokens": odd}}).encode()
    ),
    _odd_json().map(lambda fields: json.dumps(fields).encode()),
    st.binary(max_size=50),
)

TYPES: Final = st.sampled_from(
    ("text/event-stream", "text/event-stream; charset=utf-8", "application/json", "text/html", "", ";;", "\xff")
)
STATUSES: Final = st.sampled_from(
    ["200 OK"] * 12
    + [
        "204 No Content",
        "206 X",
        "304 X",
        "400 X",
        "401 X",
        "404 X",
        "413 X",
        "418 X",
        "429 X",
        "500 X",
        "502",
        "503 X",
    ]
    + ["100 Continue", "101 X", "199 X", "999 X", "42 X", "-1 X", "abc X", ""]
)
LOCATIONS: Final = st.sampled_from(
    ("/v1/chat/completions", "", "http://[", "//other.example/", "ftp://x/", "\xff", "?")
)


@st.composite
def _framed(draw: st.DrawFn, body: bytes) -> tuple[list[str], bytes]:
    """Headers that say how long the body is, truly or not, and the body as it then goes out."""
    how = draw(st.sampled_from(("length", "chunked", "until closed", "short", "long", "negative", "both", "bad chunk")))
    if how in ("chunked", "both", "bad chunk"):
        size = b"zz" if how == "bad chunk" else b"%x" % len(body)
        sent = (size + b"\r\n" + body + b"\r\n" if body else b"") + draw(st.sampled_from((b"0\r\n\r\n", b"", b"\r\n")))
        return ["Transfer-Encoding: chunked", *(["Content-Length: 7"] if how == "both" else [])], sent
    if how == "until closed":
        return [], body
    lies = {"length": len(body), "short": max(0, len(body) - 9), "long": len(body) + 9, "negative": -1}
    return [f"Content-Length: {lies[how]}"], body


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """An answer of HTTP, or nearly."""
    headers, body = draw(st.one_of(STREAMS, STREAMS, WHOLES).flatmap(_framed))
    kind = draw(TYPES)
    extra = draw(
        st.sampled_from(
            ((), (), (), ("Content-Encoding: gzip",), ("Connection: close",), ("Retry-After: -1",), ("no colon",))
        )
    )
    lines = [f"HTTP/1.1 {draw(STATUSES)}", *([f"Content-Type: {kind}"] if kind else []), *headers, *extra, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


REDIRECTS: Final = st.builds(redirect, st.sampled_from((301, 302, 303, 303, 303, 307, 308)), LOCATIONS)
NO_HTTP: Final = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1", b"HTTP/9.9 200 OK\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\r\n\r\n")
    ),
)
LONG_HEAD: Final = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\n\r\n"  # more than a header may have
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@st.composite
def _cut(draw: st.DrawFn, sent: bytes) -> Play:
    """The bytes cut at any places, and an end."""
    places = sorted(draw(st.sets(st.integers(0, len(sent)), max_size=4)))
    edges = [0, *places, len(sent)]
    pieces = tuple(sent[start:end] for start, end in itertools.pairwise(edges) if end > start)
    ends = [End.CLOSE] * 4 + [End.RESET, End.HALF_CLOSE, End.KEEP, End.HANG]
    return Play(pieces, draw(st.sampled_from(ends)))


ENDLESS: Final = st.sampled_from(
    (
        Play((b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n" * 100), End.NEVER),
        Play((HEAD, b": still here\n\n" * 100), End.NEVER),
        Play((HEAD, ROLE * 100), End.NEVER),
        Play((HEAD, ROLE + text_frame("he"), b"x" * 4_000), End.NEVER),
        Play((HEAD, ROLE + text_frame("he") + FINISH, b"\n" * 1_000), End.NEVER),
        Play((HEAD, ROLE + text_frame("he"), text_frame("x") * 20), End.NEVER),
        Play((HEAD.replace(b"text/event-stream", b"application/json"), b" " * 4_000), End.NEVER),
        Play((b"HTTP/1.1 100 Continue\r\n\r\n",), End.NEVER),
    )
)
PLAYS: Final[st.SearchStrategy[Play]] = st.one_of(
    *[_answers().flatmap(_cut)] * 6,
    REDIRECTS.flatmap(_cut),
    NO_HTTP.flatmap(_cut),
    st.just(LONG_HEAD).flatmap(_cut),
    ENDLESS,
)
