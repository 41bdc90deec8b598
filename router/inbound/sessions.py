"""Conversations: which pool answered the last turn of each, so that the next one may find its cache there.

A client names its session with `x-sluice-session-id` or `x-session-id`. Without one, `user` of the body stands in: it
names a person rather than a conversation, so conversations of one user are told apart by how they begin.

Neither a name nor any text is kept: a session's key is a hash of tenant and name, so that one tenant's session is
never another's, and the same key goes upstream as `Modal-Session-ID`, by which the platform picks the container. That
a turn goes on where the last one ended is known from a hash of the prompt so far.

Kept in memory, the least recently used first out; nothing is lost with it but some seconds of prefill.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from policies.choose.facts import CachedPrefix
from router.inbound.request import Parsed

SESSIONS_AT_MOST: Final = 100_000  # about 30 MB
SESSION_HEADER: Final = "Modal-Session-ID"
_ASKED_BY: Final = (b"x-sluice-session-id", b"x-session-id")
_OPENING_BYTES: Final = 256  # of a plain prompt: what tells a user's conversations apart
_ABSENT: Final = msgspec.Raw(b"")
_WHITE_SPACE: Final = b" \t\n\r"


class Turn(msgspec.Struct, frozen=True):
    """One request as a turn of its session. `length` and `digest` are those of its prompt's bytes."""

    key: str
    length: int
    digest: bytes
    cached: CachedPrefix | None


class _LastTurn(msgspec.Struct, frozen=True, gc=False):
    length: int
    digest: bytes
    pool: str
    tokens: int
    used_us: int


class _Body(msgspec.Struct):
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT


class _Message(msgspec.Struct):
    role: str = ""


_BODY: Final = msgspec.json.Decoder(_Body)
_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE: Final = msgspec.json.Decoder(_Message)


def session_asked(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The session that a request's headers name; our own header before the common one."""
    found = {name: value for name, value in headers if name in _ASKED_BY and value}
    value = next((found[name] for name in _ASKED_BY if name in found), None)
    return None if value is None else value.decode("latin-1")


class Sessions:
    """The last turns of one process's sessions."""

    def __init__(self, most: int = SESSIONS_AT_MOST) -> None:
        self._most = most
        self._last: dict[str, _LastTurn] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._last)

    def turn(self, tenant: str, asked: str | None, parsed: Parsed) -> Turn | None:
        """This request as a turn of its session; None where it names none, sends several prompts at once, or
        asks for no text.
        """
        if (asked is None and parsed.user is None) or parsed.prompts > 1 or parsed.media is not None:
            return None
        body = _BODY.decode(parsed.body)
        prompt = _open_ended(body)
        tools = bytes(body.tools)
        key = _key(tenant, "header", asked) if asked else _key(tenant, "user", parsed.user or "", _opening(body))
        last = self._last.get(key)
        cached = None
        if last is not None and last.length <= len(prompt) and _digest(tools, prompt, last.length) == last.digest:
            cached = CachedPrefix(last.pool, last.tokens, last.used_us)
        return Turn(key, len(prompt), _digest(tools, prompt, len(prompt)), cached)

    def answered(self, turn: Turn, pool: str, prompt_tokens: int, now_us: int) -> None:
        """The turn was answered: the pool now has its prompt in its cache."""
        self._last.pop(turn.key, None)
        self._last[turn.key] = _LastTurn(turn.length, turn.digest, pool, prompt_tokens, now_us)
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]


def _key(*parts: str | bytes) -> str:
    """A hash that names a session; each part goes in with its length, so that no two lists of parts are alike."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "replace")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def _digest(tools: bytes, prompt: bytes, length: int) -> bytes:
    """Of the first bytes of a prompt. Tools stand before the messages: with other tools, nothing of it is cached."""
    digest = blake2b(tools, digest_size=16)
    digest.update(memoryview(prompt)[:length])
    return digest.digest()


def _open_ended(body: _Body) -> bytes:
    """Messages or prompt as bytes, without the bracket or quote at their end: a later turn goes on there."""
    raw = bytes(body.messages) or bytes(body.prompt)
    return raw.rstrip(_WHITE_SPACE)[:-1].rstrip(_WHITE_SPACE)


def _opening(body: _Body) -> bytes:
    """What stays the same from turn to turn: everything up to the user's first message."""
    raw = bytes(body.messages)
    if not raw:
        return bytes(body.prompt)[:_OPENING_BYTES]
    messages = _MESSAGES.decode(raw)
    first = next((place for place, one in enumerate(messages) if _MESSAGE.decode(one).role == "user"), 0)
    return b",".join(bytes(one) for one in messages[: first + 1])
