"""A request body as the simulated engine reads it: checked in vLLM's order, refused in vLLM's words.

Beyond what vLLM takes, one field is understood: `sim_output_tokens` (an unknown field to vLLM, which it ignores) says
how many tokens the answer would have, so that recorded output lengths can be replayed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pools.simulator import errors
from pools.simulator.errors import EngineError
from pools.simulator.prompt import chat_prompt, completion_prompts
from pools.simulator.structured import Body, ToolCall, structured_text, tool_choice
from pools.simulator.text import Output, generate, prompt_state, spell, tokens_said
from pools.spec import PoolSpec

MAX_LOGPROBS = 20
COMPLETION_DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One valid request. `outputs` holds what each choice will say; `logprobs` how many alternatives, None for none."""

    chat: bool
    prompts: tuple[tuple[int, ...], ...]
    outputs: tuple[Output, ...]  # `n` for each prompt
    n: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    logprobs: int | None
    tool: ToolCall | None
    max_tokens: int  # the bound in force, after clamping

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt) for prompt in self.prompts)

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        return self.prompts[choice // self.n]


def read_body(content_type: str, raw: bytes) -> Body:
    """Decode a JSON object. Raises EngineError as vLLM does."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise errors.wrong_content_type()
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        raise errors.broken_json(error) from None
    except UnicodeDecodeError:
        raise errors.wrong_content_type() from None
    if not isinstance(body, dict):
        raise errors.invalid({"type": "model_attributes_type", "loc": "body", "msg": "Input should be a valid object"})
    return body


def parse_chat(spec: PoolSpec, body: Body) -> EngineRequest:
    """A request for `/v1/chat/completions`. Raises EngineError."""
    if "messages" not in body:
        raise errors.missing("messages", len(body))
    messages = body["messages"]
    if not isinstance(messages, list):
        raise errors.wrong_type("messages", "list_type", "list", messages)
    _check_common(spec, body)
    if not messages:
        raise EngineError(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
    tool = tool_choice(spec, body, messages)
    goes_on = body.get("continue_final_message") is True and body.get("add_generation_prompt") is False
    prompt = _truncated(spec, body, chat_prompt(spec, messages, goes_on=goes_on))
    asked = _whole(body, "max_completion_tokens") or _whole(body, "max_tokens")
    limit = _output_limit(spec, len(prompt), asked, exact=False)
    wants = body.get("logprobs") is True
    return _request(spec, body, True, (prompt,), limit, tool, (_whole(body, "top_logprobs") or 0) if wants else None)


def parse_completion(spec: PoolSpec, body: Body) -> EngineRequest:
    """A request for `/v1/completions`; the prompt may be text, token ids, or a list of either. Raises EngineError."""
    if "prompt" not in body:
        raise errors.missing("prompt", len(body))
    _check_common(spec, body)
    given, exact = completion_prompts(body["prompt"])
    prompts = tuple(_truncated(spec, body, prompt) for prompt in given)
    asked = _whole(body, "max_tokens") or COMPLETION_DEFAULT_TOKENS
    limit = min(_output_limit(spec, len(prompt), asked, exact=exact) for prompt in prompts)
    return _request(spec, body, False, prompts, limit, None, _whole(body, "logprobs"))


def _check_common(spec: PoolSpec, body: Body) -> None:
    model = body.get("model")
    if model is not None and model != spec.served_model_name:
        raise errors.unknown_model(str(model), spec.served_model_name)
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < 0:
        raise errors.bad_value(
            f"temperature must be non-negative, got {float(temperature)}.", "temperature", float(temperature)
        )
    n = _whole(body, "n")
    if n is not None and n < 1:
        raise EngineError(400, f"n must be at least 1, got {n}.")
    for key in ("max_tokens", "max_completion_tokens"):
        asked = _whole(body, key)
        if asked is not None and asked < 1:
            raise errors.bad_value(f"max_tokens must be at least 1, got {asked}.", "max_tokens", asked)
        if asked is not None and asked > spec.max_model_len:
            raise errors.output_too_long(spec.max_model_len, asked)
    wanted = max(_whole(body, "top_logprobs") or 0, _whole(body, "logprobs") or 0)
    if wanted > MAX_LOGPROBS:
        message = f"Requested sample logprobs of {wanted}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise errors.bad_value(message, "logprobs", wanted)


def _whole(body: Body, key: str) -> int | None:
    value = body.get(key)
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, int):
        raise errors.wrong_type(key, "int_type", "integer", value)
    return value


def _truncated(spec: PoolSpec, body: Body, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """`truncate_prompt_tokens` keeps the prompt's end; -1 leaves room for one token of output."""
    keep = _whole(body, "truncate_prompt_tokens")
    if keep is None or keep == 0:
        return prompt
    return prompt[-(spec.max_model_len - 1 if keep < 0 else keep) :]


def _output_limit(spec: PoolSpec, prompt_tokens: int, asked: int | None, *, exact: bool) -> int:
    """Output tokens that fit: 0.32 cuts silently what prompt + max_tokens exceeds."""
    room = spec.max_model_len - prompt_tokens
    if room < 0:
        raise errors.prompt_too_long(spec.max_model_len, prompt_tokens, exact=exact)
    if room == 0:
        raise errors.no_room_for_output(spec.max_model_len)
    return room if asked is None else min(room, asked)


def _request(
    spec: PoolSpec,
    body: Body,
    chat: bool,
    prompts: tuple[tuple[int, ...], ...],
    limit: int,
    tool: ToolCall | None,
    logprobs: int | None,
) -> EngineRequest:
    n = _whole(body, "n") or 1
    options = body.get("stream_options")
    options = options if isinstance(options, Mapping) else {}
    structured = structured_text(body, tool)
    outputs = tuple(
        spell(structured, limit) if structured is not None else _free_text(spec, body, prompt, limit, choice)
        for prompt in prompts
        for choice in range(n)
    )
    return EngineRequest(
        chat=chat,
        prompts=prompts,
        outputs=outputs,
        n=n,
        stream=body.get("stream") is True,
        include_usage=options.get("include_usage") is True,
        continuous_usage=options.get("include_usage") is True and options.get("continuous_usage_stats") is True,
        return_token_ids=body.get("return_token_ids") is True,
        logprobs=logprobs,
        tool=tool,
        max_tokens=limit,
    )


def _answer_left(body: Body, prompt: tuple[int, ...]) -> int | None:
    """Tokens that are left of an answer of a given length: what the prompt already holds of it counts."""
    length = _whole(body, "sim_output_tokens")
    return None if length is None else length - tokens_said(prompt)


def _free_text(spec: PoolSpec, body: Body, prompt: tuple[int, ...], limit: int, choice: int) -> Output:
    seed = (_whole(body, "seed") or 0) + choice
    exactly = limit if body.get("ignore_eos") is True else _answer_left(body, prompt)
    stop = body.get("stop")
    stops = tuple(text for text in (stop if isinstance(stop, list) else [stop]) if isinstance(text, str) and text)
    state = prompt_state(prompt, spec.model.id, seed)
    least = _whole(body, "min_tokens") or 0
    return generate(
        state,
        limit,
        exactly=None if exactly is None else max(1, exactly),
        stops=stops,
        stops_included=body.get("include_stop_str_in_output") is True,
        min_tokens=least,
    )
