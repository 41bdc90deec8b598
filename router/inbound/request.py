"""One request as it came in: parsed once, checked once, its bytes kept for the way up.

Only the fields that routing needs are read; everything else a client sends goes up byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pools.media import MediaAsked
from pools.spec import Feature
from pools.wire.tokens import Prompt, prompt_of
from router.errors import ApiError

CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_PATH: Final = "/v1/completions"


_ABSENT: Final = msgspec.Raw(b"")
_OFF: Final = frozenset({b"", b"null", b"false"})


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: msgspec.Raw = _ABSENT


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = _ABSENT


class _Common(msgspec.Struct):
    """Fields that both endpoints share."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    user: str | None = None
    response_format: _ResponseFormat | None = None
    return_token_ids: msgspec.Raw = _ABSENT
    return_prompt_text: msgspec.Raw = _ABSENT


class _ChatBody(_Common, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    logprobs: bool | None = None


class _CompletionBody(_Common, kw_only=True):
    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None


_CHAT: Final = msgspec.json.Decoder(_ChatBody)
_COMPLETION: Final = msgspec.json.Decoder(_CompletionBody)


_PLAIN: Final = frozenset({Feature.VISION})


@dataclass(slots=True)
class Parsed:
    """What routing needs of a body. `max_tokens` None: the client gave no bound.

    `prompt` is what an estimate of its tokens counts; `prompt_token_count` is exact where the client sent token ids,
    else None. Of several `prompts` both are the sum, and `longest_share` is the longest one's part of it.
    """

    path: str
    body: bytes
    model: str
    stream: bool
    wants_usage: bool
    wants_continuous_usage: bool
    max_tokens: int | None
    choices: int
    features: frozenset[str]
    json_schema: bytes | None
    prompt: Prompt
    prompts: int
    longest_share: float
    prompt_token_count: int | None
    user: str | None
    wants_token_ids: bool = False  # or the prompt as text, which stands beside its ids
    media: MediaAsked | None = None  # pictures or clips are asked for, not text
    content_type: str = "application/json"
    brings_file: bool = False  # a picture or clip to start from

    @property
    def one_text(self) -> bool:
        """Whether the answer is one plain text: then another pool may go on with it if its stream breaks."""
        return self.choices == 1 and self.prompts == 1 and self.features <= _PLAIN


def parse(path: str, body: bytes) -> Parsed:
    """Read a chat or completion body. Raises ApiError `invalid_json` or `invalid_value`, naming the field."""
    try:
        fields = _CHAT.decode(body) if path == CHAT_PATH else _COMPLETION.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid_value(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}; send one JSON object") from None
    _check(fields)
    options = fields.stream_options
    bound = fields.max_tokens
    if isinstance(fields, _ChatBody) and fields.max_completion_tokens is not None:
        bound = fields.max_completion_tokens
    prompt = _prompt(body)
    prompts = _prompt_sizes(fields)
    return Parsed(
        path=path,
        body=body,
        model=fields.model,
        stream=bool(fields.stream),
        wants_usage=bool(options and options.include_usage),
        wants_continuous_usage=bool(options and options.continuous_usage_stats),
        max_tokens=bound,
        choices=fields.n or 1,
        features=_features(fields, prompt),
        json_schema=_schema(fields.response_format),
        prompt=prompt,
        prompts=len(prompts),
        longest_share=max(prompts) / (sum(prompts) or 1),
        prompt_token_count=sum(prompts) if _has_token_ids(fields) else None,
        user=fields.user,
        wants_token_ids=any(bytes(one) not in _OFF for one in (fields.return_token_ids, fields.return_prompt_text)),
    )


def _invalid_value(error: msgspec.ValidationError) -> ApiError:
    """msgspec writes "Expected `int`, got `str` - at `$.max_tokens`"; the path becomes OpenAI's `param`."""
    text, _, where = str(error).partition(" - at `$")
    param = where.strip("`").lstrip(".") or None
    if param is None and "required field" in text:
        param = text.rpartition("required field ")[2].strip("`")
    place = f"'{param}': " if param and "required field" not in text else ""
    return ApiError("invalid_value", f"{place}{text[:1].lower()}{text[1:]}", param=param)


def _check(fields: _ChatBody | _CompletionBody) -> None:
    if not fields.model:
        raise ApiError("invalid_value", "'model' is empty; name a class, class:tier, pool or alias", param="model")
    if isinstance(fields, _ChatBody) and not fields.messages:
        raise ApiError("invalid_value", "'messages' is empty; send at least one message", param="messages")
    if fields.max_tokens is not None and fields.max_tokens < 1:
        raise ApiError("invalid_value", f"'max_tokens' must be at least 1, not {fields.max_tokens}", param="max_tokens")
    if isinstance(fields, _ChatBody) and fields.max_completion_tokens is not None and fields.max_completion_tokens < 1:
        raise ApiError("invalid_value", "'max_completion_tokens' must be at least 1", param="max_completion_tokens")
    if fields.n is not None and not 1 <= fields.n <= 128:
        raise ApiError("invalid_value", f"'n' must be from 1 to 128, not {fields.n}", param="n")


def _prompt(body: bytes) -> Prompt:
    """What the prompt's tokens are estimated from. Raises ApiError for parts of a message that are none."""
    try:
        return prompt_of(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = "'messages' has content that is neither text nor a list of parts, each an object with its type"
        raise ApiError("invalid_value", text, param="messages") from None


def _features(fields: _ChatBody | _CompletionBody, prompt: Prompt) -> frozenset[str]:
    needed = set()
    if prompt.images:
        needed.add(Feature.VISION)
    if isinstance(fields, _ChatBody) and fields.tools:
        needed.add(Feature.TOOLS)
    if fields.response_format is not None and fields.response_format.type != "text":
        needed.add(Feature.JSON_SCHEMA)
    if fields.logprobs:
        needed.add(Feature.LOGPROBS)
    return frozenset(needed)


def _schema(wanted: _ResponseFormat | None) -> bytes | None:
    """The JSON schema asked for, as bytes; `{}` for `json_object`, which any JSON object satisfies."""
    if wanted is None or wanted.type not in ("json_schema", "json_object"):
        return None
    if not bytes(wanted.json_schema):
        return b'{"type": "object"}'
    try:
        named = msgspec.json.decode(bytes(wanted.json_schema), type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise ApiError(
            "invalid_value", "'response_format.json_schema' must be an object", param="response_format.json_schema"
        ) from None
    return bytes(named["schema"]) if "schema" in named else b'{"type": "object"}'


def _has_token_ids(fields: _ChatBody | _CompletionBody) -> bool:
    if isinstance(fields, _ChatBody) or isinstance(fields.prompt, str):
        return False
    return bool(fields.prompt) and not isinstance(fields.prompt[0], str)


def _prompt_sizes(fields: _ChatBody | _CompletionBody) -> list[int]:
    """How large each prompt is, in characters or token ids; one for chat, for a text, and for one list of ids."""
    if isinstance(fields, _ChatBody) or isinstance(fields.prompt, str) or not fields.prompt:
        return [1]
    if isinstance(fields.prompt[0], int):
        return [len(fields.prompt)]
    return [len(prompt) for prompt in fields.prompt if not isinstance(prompt, int)]
