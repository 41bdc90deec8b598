"""What the router asks of a pool: one request up, one answer or a stream of frames down.

A backend raises only `AttemptFailed`; drivers' exceptions never leave it. Cancelling the task that awaits it closes
the upstream connection at once, which is how an engine learns that nobody waits any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Protocol

import msgspec


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One attempt's request. Times are seconds of the router's clock from the moment of dispatch.

    `path` is the engine's, `/v1/chat/completions` say; `body` is complete with `model` already replaced.
    `choices` is how many answers it asks for, `n` for each prompt; 0 where it asks for pictures or a clip, which come
    without choices.
    """

    path: str
    body: bytes
    request_id: str
    stream: bool
    connect_timeout_s: float
    first_token_timeout_s: float  # stream: until the first frame with content; else: until the whole answer
    stall_timeout_s: float  # between frames that bring the answer further
    total_timeout_s: float
    first_token_by_client: bool = False  # this limit is the client's own deadline, shorter than the policy's
    total_by_client: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    choices: int = 1


class FrameKind(Enum):
    DATA = "data"
    DONE = "done"
    COMMENT = "comment"


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event. `raw` is its exact bytes with the blank line; `data` the payload after `data: `."""

    kind: FrameKind
    raw: bytes
    data: bytes


class Answer(msgspec.Struct, frozen=True):
    """A complete, not streamed answer with status 2xx and no error in it."""

    status: int
    content_type: str
    body: bytes


class FrameStream(Protocol):
    """Frames of one streamed answer. The first data frame was seen and held no error before it is handed out.

    Iterating raises `AttemptFailed` on an error frame, a stall, a reset or an end without a finish reason.
    `[DONE]` is a frame; comments are skipped.
    """

    def __aiter__(self) -> AsyncIterator[Frame]: ...

    async def aclose(self) -> None:
        """Close the upstream connection now."""
        ...


class Backend(Protocol):
    """One pool's data plane."""

    async def complete(self, request: UpstreamRequest) -> Answer:
        """Send a request that is not streamed. Raises AttemptFailed."""
        ...

    async def stream(self, request: UpstreamRequest) -> FrameStream:
        """Send a streamed request and return once the first good data frame is there. Raises AttemptFailed."""
        ...

    async def count_tokens(self, body: bytes, timeout_s: float) -> int | None:
        """Exact prompt tokens by the engine's `/tokenize`; None where it cannot tell. Only for pools awake."""
        ...

    async def text_of(self, model: str, token_ids: Sequence[int], timeout_s: float) -> str | None:
        """What token ids read, by the engine's `/detokenize`; None where it cannot tell. Only for pools awake."""
        ...
