"""The one place that turns what went wrong at a pool into a failure class.

Three doors: `from_response` for an answer that is not 2xx, `from_error_frame` for an error object inside a 200 (a
stream's frame or a whole body), `from_exception` for a driver's error. The first two read one table, `RULES`, from top
to bottom; the first row that holds decides. A row says `recorded` where a live vLLM 0.28.0 or 0.32.0 was seen to do it
(`tests/data/vllm_responses`), `from source` where only its code or a platform's documentation says so: vLLM's, or where
it is named llama.cpp's server (`tools/server`, 2024 to 2026), which was not run here.

What reaches `AttemptFailed.detail` is written here: an engine's own message may repeat the prompt.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from pools.failures.classes import AttemptFailed, FailureClass
from pools.failures.engine_error import EngineError, parse_error
from pools.spec import Feature

# Finish reasons of answers that are none, although status 200 and `[DONE]` stand around them. `abort`: a server that
# was told to stop (recorded: 0.32.0); `error`: a fault in one request, as a KV cache that did not load (from source).
GIVEN_UP: Final = frozenset({"abort", "error"})

# A driver may raise any of these; nothing else of it is caught, so that a bug of ours stays a bug.
DRIVER_ERRORS: Final = (aiohttp.ClientError, OSError)

RETRY_AFTER_MOST_S: Final = 3600.0  # a longer pause is an operator's matter, not a header's


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an answer that failed. `status` is the error object's own code where it came inside a 200."""

    status: int
    error: EngineError
    believed_asleep: bool
    in_words: bool = True  # the body is an error object of some shape, and not a page or nothing

    @property
    def text(self) -> str:
        return self.error.message

    @property
    def by_engine(self) -> bool:
        return self.error.by_engine


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: what operators read, when it holds, and what it means."""

    says: str
    holds: Callable[[Evidence], bool]
    failure: FailureClass
    feature: Feature | None = None
    engine_died: bool = False


# Matched from the message's beginning: what follows may repeat the client's own text.
_CONTEXT: Final = re.compile(
    r"This model's maximum context length is \d+"  # every version; recorded: 0.28.0, 0.32.0
    r"|max_tokens=\d+ cannot be greater than max_model_len"  # recorded: 0.28.0, 0.32.0
    r"|You passed \d+ input tokens and requested \d+ output tokens"  # from source: between 0.15 and 0.26
    r"|'max_tokens' or 'max_completion_tokens' is too large"  # from source: 0.9, 0.10
    r"|The (?:encoder|decoder) prompt \(length \d+\) is longer than the maximum model length"  # from source: V1 engine
    r"|[Tt]he request exceeds the available context size"  # from source: llama.cpp of 2025
    r"|request \(\d+ tokens\) exceeds the available context size"  # from source: llama.cpp since then
)
_CONTEXT_TYPE: Final = "exceed_context_size_error"  # from source: llama.cpp, beside `n_prompt_tokens` and `n_ctx`
_CONTEXT_PARAMS: Final = frozenset({"input_tokens", "input_text"})  # `max_tokens` alone may also mean a value below 1
_OUT_OF_MEMORY: Final = re.compile(
    r"(?:CUDA|HIP) out of memory"  # from source: torch, in a step or in the sampler's warm-up
    r"|OutOfMemoryError"  # from source: torch.OutOfMemoryError, torch.cuda.OutOfMemoryError
    r"|No available memory for the cache blocks"  # from source: weights fill the budget
    r"|CUBLAS_STATUS_ALLOC_FAILED"  # from source: cuBLAS found no workspace
    r"|DefaultCPUAllocator: can't allocate memory"  # from source: torch on CPU
    r"|Context size has been exceeded"  # from source: llama.cpp, when what runs together has filled its one cache
)
_ENGINE_DEAD: Final = re.compile(
    r"EngineCore encountered an issue"  # recorded: engine or worker killed
    r"|EngineDeadError|AsyncEngineDeadError|Background loop has errored"  # from source: up to 0.10, V0 engine
)
_NO_TOOL_PARSER: Final = re.compile(
    r'"auto" tool choice requires --enable-auto-tool-choice'  # recorded
    r'|tool_choice="required" requires --tool-call-parser'  # recorded
)
# From source: llama.cpp, which says both with 500 or 400, by release. Matched whole: no word of the client's is in it.
_NO_JINJA: Final = re.compile(r"tools param requires --jinja flag\Z")
_NO_PROJECTOR: Final = re.compile(r"image input is not supported(?: - hint: .*)?\Z")
_NOT_MULTIMODAL: Final = re.compile(
    r"\S+ is not a multimodal model\Z"  # recorded
    r"|At most 0 image\(s\) may be provided"  # from source: --limit-mm-per-prompt
)
_VALIDATION_TYPE: Final = "Bad Request"  # with a space: the request did not parse, the message repeats parts of it


def _in_5xx(pattern: re.Pattern[str]) -> Callable[[Evidence], bool]:
    """Anywhere in the message, but of a server's error only: a 4xx repeats what the client wrote."""
    return lambda seen: seen.status >= 500 and pattern.search(seen.text) is not None


def _in_400(pattern: re.Pattern[str]) -> Callable[[Evidence], bool]:
    """At the beginning of a 400's message, unless the request did not even parse."""
    return lambda seen: (
        seen.status == 400 and seen.error.type != _VALIDATION_TYPE and pattern.match(seen.text) is not None
    )


def _in_words(pattern: re.Pattern[str]) -> Callable[[Evidence], bool]:
    """The whole message, of whichever error status."""
    return lambda seen: seen.status >= 400 and pattern.match(seen.text) is not None


def _status(*codes: int) -> Callable[[Evidence], bool]:
    return lambda seen: seen.status in codes


RULES: Final[tuple[Rule, ...]] = (
    Rule("out of GPU memory", _in_5xx(_OUT_OF_MEMORY), FailureClass.OUT_OF_MEMORY),
    Rule("the engine died", _in_5xx(_ENGINE_DEAD), FailureClass.UNAVAILABLE, engine_died=True),
    Rule("no tool parser", _in_400(_NO_TOOL_PARSER), FailureClass.MISCONFIGURED, feature=Feature.TOOLS),
    Rule("no tool parser", _in_words(_NO_JINJA), FailureClass.MISCONFIGURED, feature=Feature.TOOLS),
    Rule("takes no images", _in_400(_NOT_MULTIMODAL), FailureClass.MISCONFIGURED, feature=Feature.VISION),
    Rule("takes no images", _in_words(_NO_PROJECTOR), FailureClass.MISCONFIGURED, feature=Feature.VISION),
    Rule("longer than the pool's context", _in_400(_CONTEXT), FailureClass.CONTEXT_OVERFLOW),
    Rule(
        "longer than the pool's context",
        lambda seen: seen.status == 400 and seen.error.param in _CONTEXT_PARAMS,  # recorded
        FailureClass.CONTEXT_OVERFLOW,
    ),
    Rule(
        "longer than the pool's context",
        lambda seen: seen.status == 400 and seen.error.type == _CONTEXT_TYPE,  # from source: llama.cpp
        FailureClass.CONTEXT_OVERFLOW,
    ),
    # 401, 403: vLLM's key check (from source) and Modal's proxy tokens (its documentation). 402: a provider wants
    # money from us, never from the client (from source: hosted OpenAI-compatible APIs).
    Rule("refuses our credentials", _status(401, 402, 403), FailureClass.MISCONFIGURED),
    Rule("does not have the model", lambda seen: seen.status == 404 and seen.by_engine, FailureClass.MISCONFIGURED),
    # Path and method are ours, so FastAPI's 404 and 405 (recorded) and Modal's `invalid function call` or `workspace
    # is disabled` (its documentation) mean a wrong URL or a stopped deployment. Waiting would not help.
    Rule("nothing serves this URL", _status(404, 405), FailureClass.MISCONFIGURED),
    Rule("redirects elsewhere", lambda seen: 300 <= seen.status < 400, FailureClass.MISCONFIGURED),
    Rule(
        "its provider wants money from us",  # from source: OpenAI's error codes; waiting would not help
        lambda seen: seen.status == 429 and seen.error.type == "insufficient_quota",
        FailureClass.MISCONFIGURED,
    ),
    Rule("too many requests", _status(429), FailureClass.OVERLOADED),
    Rule(
        "still loads its model",  # from source: llama.cpp's port is open before it can serve
        lambda seen: seen.status == 503 and seen.error.type == "unavailable_error" and seen.believed_asleep,
        FailureClass.COLD,
    ),
    # From 0.29 with --max-num-queued-reqs or -tokens; a streamed request gets it inside a 200 (both recorded).
    Rule("the engine's queue is full", lambda seen: seen.status == 503 and seen.by_engine, FailureClass.OVERLOADED),
    Rule(
        "no container yet",  # a Modal Server without a ready container (its documentation); the request starts a boot
        lambda seen: seen.status == 503 and seen.believed_asleep,
        FailureClass.COLD,
    ),
    Rule("server error", lambda seen: seen.status >= 500, FailureClass.UNAVAILABLE),
    # What stands between us and the engine speaks for itself: it waited too long for us or for the engine (408, 425,
    # 499), or refuses with a page. That is this pool's path, and another pool's may be well. A 413 is left to the
    # client, who alone can make the request smaller: to send it to every pool would cost as much again each time. A 431
    # is not, since no header of the client's goes up.
    Rule(
        "a proxy gave up", lambda seen: seen.status in (408, 425, 499) and not seen.by_engine, FailureClass.UNAVAILABLE
    ),
    Rule(
        "a proxy refused, and not the engine",
        lambda seen: seen.status >= 400 and seen.status != 413 and not seen.in_words,
        FailureClass.UNAVAILABLE,
    ),
    Rule("the request was refused", lambda seen: seen.status >= 400, FailureClass.CLIENT_ERROR),
    Rule("not an HTTP answer", lambda seen: True, FailureClass.UNAVAILABLE),
)


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, believed_asleep: bool) -> AttemptFailed:
    """Classify an answer that is not 2xx. `headers` is case-insensitive; `body` may be cut."""
    error = parse_error(body)
    seen = Evidence(status, error or EngineError(""), believed_asleep, in_words=error is not None)
    return _judged(seen, body, retry_after_s(headers))


def from_error_frame(data: bytes) -> AttemptFailed:
    """Classify an error object that came inside a 200, as a stream's frame or as the whole body.

    Its code stands for the status; one that names none is a server error.
    """
    error = parse_error(data) or EngineError("")
    return _judged(Evidence(error.code or 500, error, believed_asleep=False), data, None)


def _judged(seen: Evidence, body: bytes, pause_s: float | None) -> AttemptFailed:
    rule = next(rule for rule in RULES if rule.holds(seen))
    passed_on = rule.failure is FailureClass.CLIENT_ERROR and seen.by_engine and bool(seen.text)
    return AttemptFailed(
        rule.failure,
        f"{rule.says} (HTTP {seen.status})",
        status=seen.status,
        body=body if passed_on else None,
        retry_after_s=pause_s,
        feature=rule.feature,
        engine_died=rule.engine_died,
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds, 0 to 3600: a number, or a date measured against the answer's own `Date`."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return min(float(value), RETRY_AFTER_MOST_S)
    try:
        until = email.utils.parsedate_to_datetime(value)
        sent = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return min(max(0.0, (until - sent).total_seconds()), RETRY_AFTER_MOST_S)
    except (ValueError, TypeError):  # no date, or one with a zone and one without
        return None


@dataclass(frozen=True, slots=True)
class DriverRule:
    """One row of the table of drivers' errors: the first type that fits decides."""

    type: type[BaseException]
    says: str
    failure: FailureClass = FailureClass.UNAVAILABLE
    engine_died: bool = False


DRIVER_RULES: Final[tuple[DriverRule, ...]] = (
    DriverRule(aiohttp.InvalidURL, "the endpoint's URL is not valid", FailureClass.MISCONFIGURED),
    DriverRule(aiohttp.NonHttpUrlClientError, "the endpoint's URL is not HTTP", FailureClass.MISCONFIGURED),
    DriverRule(aiohttp.ClientConnectorDNSError, "its host name does not resolve"),
    DriverRule(aiohttp.ClientSSLError, "TLS failed"),
    DriverRule(aiohttp.ServerFingerprintMismatch, "TLS failed"),
    DriverRule(aiohttp.ClientConnectorError, "cannot connect"),
    DriverRule(aiohttp.ServerTimeoutError, "cannot connect in time"),
    DriverRule(aiohttp.ServerDisconnectedError, "closed the connection without an answer", engine_died=True),
    DriverRule(aiohttp.ClientPayloadError, "the answer was cut", engine_died=True),
    DriverRule(aiohttp.ClientOSError, "the connection was reset", engine_died=True),
    DriverRule(aiohttp.ClientResponseError, "its answer is not HTTP"),
    DriverRule(ConnectionError, "the connection was reset", engine_died=True),
    DriverRule(aiohttp.ClientError, "the connection failed"),
    DriverRule(OSError, "the connection failed"),
)


def from_exception(error: aiohttp.ClientError | OSError) -> AttemptFailed:
    """Classify a driver's error, one of `DRIVER_ERRORS`. Its own text is left out: it may hold headers."""
    rule = next(rule for rule in DRIVER_RULES if isinstance(error, rule.type))
    return AttemptFailed(rule.failure, f"{rule.says} ({type(error).__name__})", engine_died=rule.engine_died)


def timed_out(what: str, limit_s: float, *, by_client_deadline: bool) -> AttemptFailed:
    """A timer of ours ended the attempt; `what` did not happen within `limit_s`."""
    return AttemptFailed(FailureClass.TIMEOUT, f"no {what} within {limit_s:g} s", by_client_deadline=by_client_deadline)


def unread(limit_s: float) -> AttemptFailed:
    """The time for the answer was over while the pool waited for the client to read, not the client for the pool."""
    return AttemptFailed(FailureClass.CLIENT_GONE, f"the client had not read its answer after {limit_s:g} s")


def unfinished(*, in_order: bool = False) -> AttemptFailed:
    """The answer ended without a finish reason. `[DONE]` proves nothing: engines send it after an error too.

    `in_order`: it came to `[DONE]` without one, which is how a server that was told to stop ends the answers that wait
    (recorded: 0.32.0); one that died does not.
    """
    says = "the answer ended without a finish reason"
    return AttemptFailed(FailureClass.UNAVAILABLE, says, engine_died=not in_order)


def given_up(reason: str) -> AttemptFailed:
    """The engine ended an answer that it had not finished, without a sign that it died."""
    return AttemptFailed(FailureClass.UNAVAILABLE, f"the engine gave the answer up (finish reason {reason})")


def garbled(what: str) -> AttemptFailed:
    """The upstream sent bytes that no engine sends."""
    return AttemptFailed(FailureClass.UNAVAILABLE, what)


def misdirected(status: int) -> AttemptFailed:
    """The endpoint redirects to another host, which must not get our credentials."""
    return AttemptFailed(
        FailureClass.MISCONFIGURED,
        f"redirects to another host (HTTP {status}); put the URL it names into the endpoint",
        status=status,
    )
