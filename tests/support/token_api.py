"""A fake of an OpenAI-compatible API that bills by the token, over real HTTP: it knows one model, counts words as
tokens and keeps its own bill. It is no model of any provider; what it refuses is what such APIs refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "mini"
STREAM_OPTIONS = {"include_usage"}  # an API refuses fields that it does not know


@dataclass
class TokenApi:
    """`answers` tokens long. `cached` tokens of each prompt count as found in its cache; `breaks_after` tokens a stream
    is cut; `refusals` are answered first, one a request; `usage_last`: usage comes with the finish, in one chunk.
    """

    answers: int = 20
    cached: int = 0
    breaks_after: int | None = None
    says_usage: bool = True
    usage_last: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    held_after: int | None = None  # tokens after which a stream waits for the gate
    refusals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    billed: list[tuple[int, int, int]] = field(default_factory=list)  # prompt, answer, cached

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self.refusals:
            status, error = self.refusals.pop(0)
            return web.json_response({"error": error}, status=status)
        if body["model"] != MODEL:
            return web.json_response({"error": {"message": "no such model", "type": "x", "code": None}}, status=404)
        if set(body.get("stream_options", {})) - STREAM_OPTIONS:
            error = {"message": "Unknown parameter: 'stream_options'.", "type": "invalid_request_error", "code": None}
            return web.json_response({"error": error}, status=400)
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        if body.get("stream"):
            return await self._stream(request, prompt)
        self.billed.append((prompt, self.answers, self.cached))
        choice = {"index": 0, "message": {"role": "assistant", "content": self._text()}, "finish_reason": "stop"}
        answer: dict[str, Any] = {"id": "a", "object": "chat.completion", "model": MODEL, "choices": [choice]}
        return web.json_response({**answer, **self._usage(prompt, self.answers)})

    def _text(self) -> str:
        return "word " * self.answers

    def _usage(self, prompt: int, answer: int) -> dict[str, Any]:
        if not self.says_usage:
            return {}
        details = {"prompt_tokens_details": {"cached_tokens": self.cached}}
        counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return {"usage": {**counts, **details}}

    async def _stream(self, request: web.Request, prompt: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
            chunk = {"id": "a", "object": "chat.completion.chunk", "model": MODEL, "usage": None, **more}
            chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        await send({"role": "assistant", "content": ""})
        for written in range(self.answers):
            if written == self.breaks_after:
                self.billed.append((prompt, written, self.cached))
                assert request.transport is not None
                request.transport.abort()
                return response
            if written == self.held_after:
                await self.gate.wait()
            await send({"content": "word "})
        self.billed.append((prompt, self.answers, self.cached))
        usage = self._usage(prompt, self.answers)
        await send({}, "stop", **(usage if self.usage_last else {}))
        if usage and not self.usage_last:
            last = {"id": "a", "object": "chat.completion.chunk", "model": MODEL, "choices": [], **usage}
            await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@contextlib.asynccontextmanager
async def token_api(**settings: Any) -> AsyncIterator[TokenApi]:
    """A running fake on a free port of loopback."""
    api = TokenApi(**settings)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", api.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.gate.set()
        await runner.cleanup()
