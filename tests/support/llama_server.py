"""A fake of llama.cpp's server over real HTTP: its pages and its refusals, as its source has them (`tools/server`).

It is a fake: it has no model. A prompt is as long as its words, an answer as many words as `max_tokens` or five.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class LlamaServer:
    """`n_ctx` tokens a slot; `foreign` requests of others that it says it runs; with `gate`, answers wait for it."""

    n_ctx: int = 4096
    loading: bool = False
    with_metrics: bool = True
    foreign: int = 0
    running: int = 0
    gate: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    host: str = "127.0.0.1"
    port: int = 0
    url: str = ""

    async def health(self, _: web.Request) -> web.Response:
        return (
            web.json_response({"status": "ok"})
            if not self.loading
            else _error(503, "unavailable_error", "Loading model")
        )

    async def metrics(self, _: web.Request) -> web.Response:
        self.asked.append("/metrics")
        if not self.with_metrics:
            text = "This server does not support metrics endpoint. Start it with `--metrics`"
            return _error(501, "not_supported_error", text)
        values = {"requests_processing": self.running + self.foreign, "requests_deferred": 0, "n_decode_total": 17}
        lines = [f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} {value}" for name, value in values.items()]
        return web.Response(text="\n".join([*lines, ""]))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self.loading:
            return _error(503, "unavailable_error", "Loading model")
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        if prompt > self.n_ctx:
            text = (
                f"request ({prompt} tokens) exceeds the available context size ({self.n_ctx} tokens), try increasing it"
            )
            return _error(400, "exceed_context_size_error", text, n_prompt_tokens=prompt, n_ctx=self.n_ctx)
        self.running += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            return await self._answer(request, body, prompt)
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], prompt: int) -> web.StreamResponse:
        words = body.get("max_tokens", 5)
        usage = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
        common = {"id": "chatcmpl-x", "model": body["model"], "created": 1}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "word " * words}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response({**answer, "timings": {"predicted_n": words}})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        deltas = [({"role": "assistant", "content": None}, None), *[({"content": "word "}, None)] * words, ({}, "stop")]
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas
        ]
        chunks.append({"choices": [], "usage": usage})
        for chunk in chunks:
            sent = {**common, "object": "chat.completion.chunk", **chunk}
            await response.write(b"data: " + json.dumps(sent).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def _error(status: int, kind: str, message: str, **more: int) -> web.Response:
    error = {"code": status, "message": message, "type": kind, **more}
    return web.json_response({"error": error}, status=status)


@contextlib.asynccontextmanager
async def llama_server(**settings: Any) -> AsyncIterator[LlamaServer]:
    """A running fake, on a free port of loopback unless one is given."""
    fake = LlamaServer(**settings)
    app = web.Application()
    app.router.add_get("/health", fake.health)
    app.router.add_get("/metrics", fake.metrics)
    app.router.add_post("/v1/chat/completions", fake.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, fake.host, fake.port).start()
    fake.port = runner.addresses[0][1]
    fake.url = f"http://{fake.host}:{fake.port}"
    try:
        yield fake
    finally:
        if fake.gate is not None:
            fake.gate.set()
        await runner.cleanup()
