"""The error bodies of vLLM 0.32.0, worded as recorded."""

from __future__ import annotations

import json
from typing import Any

from pricing.errors import SluiceError


class EngineError(SluiceError):
    """The engine refuses a request: an HTTP status and vLLM's error object."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        self.status = status
        self.error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": status}
        super().__init__(message)

    def body(self) -> bytes:
        """The body of an answer that is not streamed."""
        return json.dumps({"error": self.error}, separators=(",", ":"), ensure_ascii=False).encode()

    def frame(self) -> bytes:
        """The same error inside a stream; vLLM encodes it with blanks there."""
        return b"data: " + json.dumps({"error": self.error}, ensure_ascii=False).encode() + b"\n\n"


def engine_died() -> EngineError:
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return EngineError(500, message, "InternalServerError")


def cuda_out_of_memory() -> EngineError:
    message = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.06 GiB of which"
        " 1.12 GiB is free."
    )
    return EngineError(500, message, "InternalServerError")


def queue_full() -> EngineError:
    message = (
        "The engine is currently busy and cannot accept new requests."
        " Please try again later or on a different instance."
    )
    return EngineError(503, message, "Service Unavailable")


def invalid(detail: dict[str, Any]) -> EngineError:
    """A body that does not validate; `detail` is pydantic's, or FastAPI's for broken JSON."""
    return EngineError(400, f"1 validation error:\n  {detail}", "Bad Request", detail["loc"])


def missing(field: str, fields: int) -> EngineError:
    detail = {"type": "missing", "loc": f"body.{field}", "msg": "Field required", "input": f"<dict of {fields} items>"}
    return invalid(detail)


def wrong_type(field: str, kind: str, wanted: str, value: object) -> EngineError:
    loc = f"body.{field}"
    return invalid({"type": kind, "loc": loc, "msg": f"Input should be a valid {wanted}", "input": value})


def broken_json(error: json.JSONDecodeError) -> EngineError:
    detail = {
        "type": "json_invalid",
        "loc": f"body.{error.pos}",
        "msg": "JSON decode error",
        "input": "<dict of 0 items>",
        "ctx": {"error": error.msg},
    }
    return invalid(detail)


def wrong_content_type() -> EngineError:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return EngineError(400, message, "Bad Request")


def bad_value(message: str, param: str, value: object) -> EngineError:
    return EngineError(400, f"{message} (parameter={param}, value={value})", param=param)


def unknown_model(asked: str, served: str) -> EngineError:
    message = f"The model `{asked}` does not exist. Valid aliases: {served}."
    return EngineError(404, message, "NotFoundError", "model")


def prompt_too_long(limit: int, tokens: int, *, exact: bool) -> EngineError:
    """Text is tokenized only up to the limit + 1, so its count is a lower bound; token ids are counted."""
    shown = tokens if exact else limit + 1
    message = (
        f"This model's maximum context length is {limit} tokens. However, your prompt contains"
        f" {'' if exact else 'at least '}{shown} input tokens, which exceeds this limit even without any output tokens."
        f" Please reduce the length of the input prompt."
    )
    return bad_value(message, "input_tokens", shown)


def no_room_for_output(limit: int) -> EngineError:
    message = (
        f"The decoder prompt (length {limit}) plus the number of requested output tokens (at least 1) is longer than"
        f" the maximum model length of {limit}. Make sure that `max_model_len` is no smaller than the number of text"
        f" tokens (prompt + requested output tokens)."
    )
    return EngineError(400, message)


def output_too_long(limit: int, asked: int) -> EngineError:
    message = f"max_tokens={asked} cannot be greater than max_model_len={limit}. Please request fewer output tokens."
    return bad_value(message, "max_tokens", asked)
