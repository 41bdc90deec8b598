"""Answers and stream frames with the keys of vLLM 0.32.0, in its order, as recorded.

Two voices, chat and completion, that differ in their objects' names and in what a choice looks like; the frames'
envelope and the usage are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pools.simulator.request import EngineRequest
from pools.simulator.text import Output

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
FAKE_LOGPROB = -0.5  # of every token; the simulated model has no distribution
Json = dict[str, Any]


def frame(data: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that the bodies of one answer share. `id` is the bare id, `created` in seconds."""

    request: EngineRequest
    id: str
    created: int
    model: str
    fingerprint: str

    def whole(self) -> bytes:
        """The body of an answer that is not streamed."""
        request = self.request
        choices = [self._whole_choice(index, output) for index, output in enumerate(request.outputs)]
        completion = sum(len(output.ids) for output in request.outputs)
        usage = self._usage(completion) | {"prompt_tokens_details": None, "completion_tokens_details": None}
        body = self._head("chat.completion" if request.chat else "text_completion")
        body |= {"choices": choices, "service_tier": None, "system_fingerprint": self.fingerprint, "usage": usage}
        if request.chat:
            ids = request.prompts[0] if request.return_token_ids else None
            body |= {"prompt_logprobs": None, "prompt_token_ids": ids, "prompt_text": None}
        body |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        return msgspec.json.encode(body)

    def opening(self, index: int) -> bytes:
        """The role chunk, which chat sends with a choice's first token; completions have none."""
        if not self.request.chat:
            return b""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        ids = self.request.prompt_of(index) if self.request.return_token_ids else None
        return self._chunk(choice, 0, {"prompt_token_ids": ids, "prompt_text": None})

    def tool_opening(self, index: int) -> bytes:
        """The chunk that names the function; its arguments follow as text does."""
        tool = self.request.tool
        if tool is None:
            return b""
        call = {"id": self._call_id(index), "type": "function", "index": 0}
        delta = {"tool_calls": [call | {"function": {"name": tool.name, "arguments": ""}}]}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None}
        return self._chunk(choice, 0)

    def tokens(self, index: int, begin: int, end: int, completed: int, last: bool) -> bytes:
        """The chunk with tokens `begin` to `end` of a choice; `completed` counts those of all choices so far."""
        request = self.request
        output = request.outputs[index]
        text = output.text(begin, end)
        choice: Json = {"index": index}
        if not request.chat:
            choice["text"] = text
        elif request.tool is not None:
            choice["delta"] = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        else:
            choice["delta"] = {"content": text}
        choice["logprobs"] = self._logprobs(output, begin, end)
        choice["finish_reason"] = self._finish_reason(output) if last else None
        if last or not request.chat:
            choice["stop_reason"] = output.stop_reason if last else None
        choice["token_ids"] = output.ids[begin:end] if request.return_token_ids else None
        if not request.chat:
            first = begin == 0 and request.return_token_ids
            choice["prompt_token_ids"] = request.prompt_of(index) if first else None
        closes = last and not request.include_usage
        return self._chunk(choice, completed, {"system_fingerprint": self.fingerprint} if closes else {})

    def usage(self) -> bytes:
        """The extra last chunk that `include_usage` asks for."""
        completion = sum(len(output.ids) for output in self.request.outputs)
        tail = {"choices": [], "usage": self._usage(completion), "system_fingerprint": self.fingerprint}
        return frame(self._head(self._chunk_object()) | tail)

    def _chunk(self, choice: Json, completed: int, tail: Json | None = None) -> bytes:
        body = self._head(self._chunk_object())
        body["choices"] = [choice]
        if self.request.continuous_usage:
            body["usage"] = self._usage(completed) | {"completion_tokens_details": None}
        return frame(body | (tail or {}))

    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self.request.chat else "text_completion"

    def _head(self, kind: str) -> Json:
        prefix = "chatcmpl" if self.request.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _usage(self, completion: int) -> Json:
        prompt = self.request.prompt_tokens
        return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}

    def _whole_choice(self, index: int, output: Output) -> Json:
        request = self.request
        choice: Json = {"index": index}
        if request.chat:
            choice["message"] = self._message(index, output)
        else:
            choice["text"] = output.text()
        choice["logprobs"] = self._logprobs(output, 0, len(output.ids))
        choice["finish_reason"] = self._finish_reason(output)
        choice["stop_reason"] = output.stop_reason
        choice["token_ids"] = output.ids if request.return_token_ids else None
        if not request.chat:
            ids = request.prompt_of(index) if request.return_token_ids else None
            choice |= {"prompt_logprobs": None, "prompt_token_ids": ids}
        choice["routed_experts"] = None
        return choice

    def _message(self, index: int, output: Output) -> Json:
        tool = self.request.tool
        message: Json = {"role": "assistant", "content": None if tool else output.text()}
        message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
        if tool is not None:
            function = {"name": tool.name, "arguments": output.text()}
            message["tool_calls"] = [{"id": self._call_id(index), "type": "function", "function": function}]
        message["reasoning"] = None
        return message

    def _call_id(self, index: int) -> str:
        return f"chatcmpl-tool-{self.id}-{index}"

    def _finish_reason(self, output: Output) -> str:
        calls = self.request.tool is not None and output.finish_reason == "stop"
        return "tool_calls" if calls else output.finish_reason

    def _logprobs(self, output: Output, begin: int, end: int) -> Json | None:
        wanted = self.request.logprobs
        if wanted is None:
            return None
        pieces = output.pieces[begin:end]
        if self.request.chat:
            return {"content": [_chat_logprob(piece, wanted) for piece in pieces]}
        offsets = [len(output.text(0, begin + place)) for place in range(len(pieces))]
        return {
            "text_offset": offsets,
            "token_logprobs": [FAKE_LOGPROB] * len(pieces),
            "tokens": pieces,
            "top_logprobs": [{piece: FAKE_LOGPROB} for piece in pieces],
        }


def _chat_logprob(piece: str, alternatives: int) -> Json:
    entry: Json = {"token": piece, "logprob": FAKE_LOGPROB, "bytes": list(piece.encode())}
    rest = math.log1p(-math.exp(FAKE_LOGPROB))
    others = [{"token": f" alt{k}", "logprob": rest - k, "bytes": None} for k in range(1, alternatives)]
    return entry | {"top_logprobs": [dict(entry), *others] if alternatives else []}
