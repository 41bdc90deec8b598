"""What the next pool is asked for, so that it goes on where a stream broke. Pure.

Two ways. By token ids, to `/v1/completions`, where both pools' models share a tokenizer: the engine sees exactly what
it would have seen, so greedy decoding gives the same text as the unbroken stream. Penalties that count the answer's own
tokens, and the random numbers of a seed, begin anew. By text, anywhere else: a partial assistant message that the
model is to finish. That is not exact, since the text may be other tokens to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from policies.requirements import TAKES_TOKEN_IDS, Continues, Requirements
from pools.spec import PoolSpec
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed
from router.output.transcript import Transcript

COMPLETION_DEFAULT_TOKENS: Final = 16  # what engines give a completion without `max_tokens`; a chat gets all there is
SOME_ROOM: Final = 64  # tokens that a pool must have left for an answer that nobody bounded
STREAM_OPTIONS: Final = msgspec.Raw(b'{"include_usage":true,"continuous_usage_stats":true}')

# Fields of a chat that `/v1/completions` does not know, or that would apply to the prompt a second time.
_CHAT_ONLY: Final = (
    "messages",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "documents",
    "media_io_kwargs",
    "mm_processor_kwargs",
    "return_prompt_text",
    "reasoning_effort",
    "include_reasoning",
    "response_format",
    "logprobs",
    "top_logprobs",
    "truncate_prompt_tokens",
)
# Fields that make an answer more than plain text behind its prompt, or tie it to how it began.
_TYING: Final = (
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "echo",
    "suffix",
    "use_beam_search",
    "prompt_embeds",
    "functions",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "kv_transfer_params",
)
_OFF: Final = frozenset({b"null", b"false", b"[]", b'""'})
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class How(StrEnum):
    """The way in which a stream went on."""

    TOKENS = "tokens"
    TEXT = "text"


class _Limits(msgspec.Struct):
    stop: str | list[str] | None = None
    min_tokens: int | None = None
    include_stop_str_in_output: bool | None = None


class _Message(msgspec.Struct):
    role: str = ""


_LIMITS: Final = msgspec.json.Decoder(_Limits)
_MESSAGES: Final = msgspec.json.Decoder(list[_Message])


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's request, read once more for what matters where its stream broke.

    `bound` is how many tokens the whole answer may have, None for as many as fit.
    """

    parsed: Parsed
    fields: dict[str, msgspec.Raw]
    bound: int | None
    min_tokens: int
    stops: tuple[str, ...]
    stops_included: bool

    @property
    def chat(self) -> bool:
        return self.parsed.path == CHAT_PATH


@dataclass(slots=True)
class Broken:
    """What a request carries over from streams that broke: what it asked for and needed at first, what was said, the
    prompt's tokens as the first pool counted them (None: it did not), and the tokens that all of these streams brought.
    """

    asked: Asked
    transcript: Transcript
    needs: Requirements
    prompt_tokens: int | None
    completion_tokens: int = 0
    again: int = 0  # tokens without a text that are generated again
    times: int = 0  # how often it went on ...
    by_text: int = 0  # ... of which not exactly

    @property
    def left(self) -> int | None:
        """How many tokens the answer may still have; None for as many as fit."""
        return None if self.asked.bound is None else max(0, self.asked.bound - self.completion_tokens)

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that may end the answer where it was cut; none while it has fewer tokens than it must."""
        return () if self.completion_tokens < self.asked.min_tokens else self.asked.stops

    def keep(self, count: int) -> None:
        """Go on behind the first `count` token ids: of those after them nothing was sent."""
        dropped = self.transcript.keep(count)
        self.completion_tokens -= dropped
        self.again += dropped


def asked(parsed: Parsed) -> Asked | None:
    """None where the answer is more than one plain text, or not all of it is shown, or its limits are written as no
    engine reads them.
    """
    fields = _FIELDS.decode(parsed.body)
    tied = any(name in fields and bytes(fields[name]) not in _OFF for name in _TYING)
    hidden = fields.get("include_reasoning") == _FALSE
    if not parsed.one_text or tied or hidden:
        return None
    try:
        limits = _LIMITS.decode(parsed.body)
    except msgspec.DecodeError:
        return None
    bound = parsed.max_tokens
    if bound is None and parsed.path == COMPLETIONS_PATH:
        bound = COMPLETION_DEFAULT_TOKENS
    stops = (limits.stop,) if isinstance(limits.stop, str) else tuple(limits.stop or ())
    return Asked(
        parsed=parsed,
        fields=fields,
        bound=bound,
        min_tokens=limits.min_tokens or 0,
        stops=tuple(stop for stop in stops if stop),
        stops_included=bool(limits.include_stop_str_in_output),
    )


def ways(broken: Broken, completion_tokens: int | None) -> Continues | None:
    """How the answer can go on; None where it cannot. `completion_tokens` are those of the attempt that broke last.

    Images have no token ids: their tokens only mark the places of what the vision tower makes of them.
    """
    transcript, wanted = broken.transcript, broken.asked
    if transcript.otherwise:
        return None
    exact = transcript.has_all_ids(completion_tokens) and not wanted.parsed.prompt.images
    takes_text = transcript.said is not None and _takes_text(wanted)
    if not exact and not takes_text:
        return None
    return Continues(transcript.tokenizer if exact else None, takes_text)


def _takes_text(asked: Asked) -> bool:
    """Whether a partial answer can be put behind the prompt as text."""
    if not asked.chat:
        return _text_prompt(asked.fields["prompt"]) is not None
    fields = asked.fields
    own_prefix = fields.get("continue_final_message") == _TRUE or fields.get("add_generation_prompt") == _FALSE
    return not own_prefix and _MESSAGES.decode(fields["messages"])[-1].role != "assistant"


def _text_prompt(prompt: msgspec.Raw) -> bytes | None:
    """The one prompt as JSON between its quotes; None for token ids."""
    raw = bytes(prompt)
    if raw.startswith(b"["):
        raw = bytes(_LIST.decode(raw)[0])
    return raw[1:-1] if raw.startswith(b'"') else None


def needs_after(broken: Broken, continues: Continues) -> Requirements:
    """What is left to do. The tokens that are there are part of the prompt now."""
    needs, there = broken.needs, broken.completion_tokens
    left = max(SOME_ROOM, needs.output_bound - there) if broken.left is None else broken.left
    return msgspec.structs.replace(
        needs,
        prompt_tokens=(broken.prompt_tokens or needs.prompt_tokens) + there,
        output_bound=left,
        expected_output_tokens=max(1, min(left, needs.expected_output_tokens - there)),
        continues=continues,
    )


def by_tokens(broken: Broken, pool: PoolSpec) -> bytes:
    """The body for `/v1/completions`: prompt and answer so far as token ids."""
    transcript = broken.transcript
    fields: dict[str, Any] = {name: raw for name, raw in broken.asked.fields.items() if name not in _CHAT_ONLY}
    ids = msgspec.json.encode(transcript.ids.tolist())[1:-1]
    room = pool.max_model_len - transcript.prompt_tokens - len(transcript.ids)
    fields["prompt"] = msgspec.Raw(b"[%b]" % b",".join(filter(None, (transcript.prompt_ids, ids))))
    fields["max_tokens"] = room if broken.left is None else min(room, broken.left)
    return _encoded(fields, broken, pool)


def by_text(broken: Broken, pool: PoolSpec) -> bytes:
    """The body for the client's own endpoint: the answer so far behind the prompt, for the model to finish."""
    said = bytes(broken.transcript.text)
    fields: dict[str, Any] = dict(broken.asked.fields)
    if broken.asked.chat:
        part = b'{"role":"assistant","content":"%b"}' % said
        fields["messages"] = msgspec.Raw(b"[%b]" % b",".join([*map(bytes, _LIST.decode(fields["messages"])), part]))
        fields["add_generation_prompt"], fields["continue_final_message"] = False, True
    else:
        fields["prompt"] = msgspec.Raw(b'"%b%b"' % (_text_prompt(fields["prompt"]) or b"", said))
    if broken.left is not None:
        fields["max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"] = broken.left
    return _encoded(fields, broken, pool)


def _encoded(fields: dict[str, Any], broken: Broken, pool: PoolSpec) -> bytes:
    if broken.asked.min_tokens:
        fields["min_tokens"] = max(0, broken.asked.min_tokens - broken.completion_tokens)
    fields |= {"model": pool.served_model_name, "stream": True, "stream_options": STREAM_OPTIONS}
    if pool.engine == TAKES_TOKEN_IDS:
        fields["return_token_ids"] = True
    return msgspec.json.encode(fields)


def unsent_of(whole: str, said: str) -> str | None:
    """What was generated and has not been sent. None where the texts do not fit.

    `whole` is the text of all token ids, `said` what was sent of it. Decoders of some tokenizers drop a blank at the
    beginning.
    """
    for text in (whole, f" {whole}"):
        if text.startswith(said):
            return text[len(said) :]
    return None
