"""One table: every error a client can get, with its status, OpenAI type, retry advice and log level.

    SluiceError
    └── ApiError        an answer that is an error; `code` is a key of ERRORS
        └── PassedOn    the engine's own refusal of the request, handed to the client as it is

`x-should-retry` is what the official SDKs obey before anything else: a failed chain has already been paid for, and a
client that repeats it by itself buys it again, so terminal answers say `false`. `docs/errors.md` has an entry per code,
and what those clients make of each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pools.failures.engine_error import parse_error
from pricing.errors import SluiceError

_FIELD: Final = re.compile(r"[a-z][a-z_]{0,40}")
SDK_WAITS_S: Final = 60.0
"""The longest `Retry-After` that every official client waits for: 1.x waits up to 60 s and where it is longer repeats
at once, 3.x waits up to 120 s and where it is longer does not repeat (read in openai-python 1.109 and 3.52)."""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """`should_retry` None leaves it to the client's own rules; True is what holds while a wait is short."""

    status: int
    type: str
    should_retry: bool | None
    log_level: int


_REQUEST: Final = "invalid_request_error"
_SERVER: Final = "server_error"

ERRORS: Final[Mapping[str, ErrorEntry]] = {
    "invalid_json": ErrorEntry(400, _REQUEST, None, logging.INFO),
    "invalid_value": ErrorEntry(400, _REQUEST, None, logging.INFO),
    "context_length_exceeded": ErrorEntry(400, _REQUEST, None, logging.INFO),
    "feature_not_supported": ErrorEntry(400, _REQUEST, None, logging.INFO),
    "invalid_api_key": ErrorEntry(401, _REQUEST, None, logging.WARNING),
    "permission_denied": ErrorEntry(403, "permission_error", None, logging.WARNING),
    "model_not_found": ErrorEntry(404, _REQUEST, None, logging.INFO),
    "decision_not_found": ErrorEntry(404, _REQUEST, None, logging.INFO),
    "video_not_found": ErrorEntry(404, _REQUEST, None, logging.INFO),
    "video_not_ready": ErrorEntry(409, _REQUEST, False, logging.INFO),
    "unknown_url": ErrorEntry(404, _REQUEST, None, logging.INFO),
    "method_not_allowed": ErrorEntry(405, _REQUEST, None, logging.INFO),
    "request_too_large": ErrorEntry(413, _REQUEST, None, logging.INFO),
    "budget_exceeded": ErrorEntry(429, "insufficient_quota", False, logging.WARNING),
    "rate_limit_exceeded": ErrorEntry(429, "requests", True, logging.INFO),
    "client_closed_request": ErrorEntry(499, _REQUEST, False, logging.INFO),
    "internal_error": ErrorEntry(500, _SERVER, False, logging.ERROR),
    "schema_violation": ErrorEntry(502, _SERVER, False, logging.WARNING),
    "stream_broken": ErrorEntry(502, _SERVER, False, logging.WARNING),
    "upstream_refusal": ErrorEntry(400, _REQUEST, False, logging.INFO),
    "chain_failed": ErrorEntry(502, _SERVER, False, logging.WARNING),
    "chain_timeout": ErrorEntry(504, _SERVER, False, logging.WARNING),
    "no_capable_pool": ErrorEntry(503, _SERVER, True, logging.WARNING),
    "model_warming": ErrorEntry(503, _SERVER, True, logging.INFO),
    "store_unavailable": ErrorEntry(503, _SERVER, True, logging.ERROR),
    "shutting_down": ErrorEntry(503, _SERVER, True, logging.INFO),
}


class ApiError(SluiceError):
    """An error answer. `message` says what to do next; `metadata` goes under `error.metadata`.

    `passes` False: this will not pass by itself, so that repeating cannot help, whatever the code's entry says.
    `error_type` replaces that of the code's entry. `exact_wait`: the wait is also told in milliseconds.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        passes: bool = True,
        error_type: str | None = None,
        exact_wait: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.entry = ERRORS[code]
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.passes = passes
        self.error_type = error_type or self.entry.type
        self.exact_wait = exact_wait
        self.metadata = metadata

    @property
    def status(self) -> int:
        return self.entry.status

    def body(self) -> bytes:
        """The OpenAI error object."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.error_type,
            "param": self.param,
            "code": self.code,
        }
        if self.metadata:
            error["metadata"] = self.metadata
        return msgspec.json.encode({"error": error})

    def event(self) -> bytes:
        """The same object as a server-sent event, for streams that have begun. No `[DONE]` follows it."""
        return b"data: " + self.body() + b"\n\n"

    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", b"application/json")]
        if self.entry.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self._may_repeat() else b"false"))
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, -int(-self.retry_after_s // 1))))
            if self.exact_wait:
                headers.append((b"retry-after-ms", b"%d" % max(1, -int(-self.retry_after_s * 1000 // 1))))
        return headers

    def _may_repeat(self) -> bool:
        """A client that cannot wait as long as it takes would repeat at once, or not at all; it is told not to."""
        waits = self.retry_after_s is None or self.retry_after_s <= SDK_WAITS_S
        return bool(self.entry.should_retry) and self.passes and waits


class PassedOn(ApiError):
    """A pool's 4xx answer about the request itself: status and body go to the client unchanged.

    `body` None: it was no error object that clients can read (a proxy's page, say), so we say what happened. Our own
    message, which a video job keeps, names the field at most: the engine's words may repeat the client's.
    """

    def __init__(self, status: int, body: bytes | None) -> None:
        param = _field_named(body or b"")
        why = " without saying why" if param is None else f" for its '{param}'"
        super().__init__("upstream_refusal", f"the pool refused the request itself (HTTP {status}){why}", param=param)
        self._status = status
        self._body = body

    @property
    def status(self) -> int:
        return self._status

    def body(self) -> bytes:
        return super().body() if self._body is None else self._body


def _field_named(body: bytes) -> str | None:
    """The field that an engine's error is about, where it names one."""
    error = parse_error(body)
    return error.param if error is not None and _FIELD.fullmatch(error.param) else None
