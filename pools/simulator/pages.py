"""The pages of a vLLM server that run no model: models, tokens, version, health, load and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from pools.simulator import errors
from pools.simulator.pool import Container, SimulatedPool
from pools.simulator.prompt import chat_prompt, completion_prompts
from pools.simulator.text import is_word, text_of, tokenize
from pricing.clock import US_PER_S

VERSION: Final = "0.32.0"
HEADERS: Final = {"server": "uvicorn", "vary": "Origin"}
JSON_HEADERS: Final = {**HEADERS, "content-type": "application/json"}
METRICS_HEADERS: Final = {**HEADERS, "content-type": "text/plain; version=1.0.0; charset=utf-8"}
FINISH_REASONS: Final = ("stop", "length", "abort", "error", "repetition")


def answer(data: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), status=status, headers=JSON_HEADERS)


def not_found() -> web.Response:
    return answer({"detail": "Not Found"}, 404)


def wrong_method(allowed: str) -> web.Response:
    response = answer({"detail": "Method Not Allowed"}, 405)
    response.headers["allow"] = allowed
    return response


def health(pool: SimulatedPool, container: Container) -> web.Response:
    return web.Response(headers=HEADERS)


def version(pool: SimulatedPool, container: Container) -> web.Response:
    return answer({"version": VERSION})


def load(pool: SimulatedPool, container: Container) -> web.Response:
    """Always 0: vLLM counts only under `--enable-server-load-tracking`."""
    return answer({"server_load": 0})


def models(pool: SimulatedPool, container: Container) -> web.Response:
    created = container.ready_us // US_PER_S
    permission = {
        "id": f"modelperm-{container.id[3:]}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    model = {
        "id": pool.spec.served_model_name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": pool.spec.model.repo,
        "parent": None,
        "max_model_len": pool.spec.max_model_len,
        "permission": [permission],
    }
    return answer({"object": "list", "data": [model]})


def metrics(pool: SimulatedPool, container: Container) -> web.Response:
    """The series that a router reads. A request that hangs counts as running, and its counters stand still."""
    engine = container.engine
    series = [
        ("vllm:num_requests_running", "gauge", {}, container.in_flight - engine.waiting),
        ("vllm:num_requests_waiting", "gauge", {}, engine.waiting),
        ("vllm:num_requests_waiting_by_reason", "gauge", {"reason": "capacity"}, engine.waiting),
        ("vllm:num_requests_waiting_by_reason", "gauge", {"reason": "deferred"}, 0),
        ("vllm:kv_cache_usage_perc", "gauge", {}, engine.kv_used / engine.kv_tokens),
        ("vllm:num_preemptions_total", "counter", {}, engine.preemptions),
        ("vllm:prompt_tokens_total", "counter", {}, engine.prompt_tokens_total),
        ("vllm:generation_tokens_total", "counter", {}, engine.generation_tokens_total),
    ]
    series += [
        ("vllm:request_success_total", "counter", {"finished_reason": reason}, engine.finished[reason])
        for reason in FINISH_REASONS
    ]
    lines: list[str] = []
    for name, kind, labels, value in series:
        type_line = f"# TYPE {name} {kind}"
        if type_line not in lines:
            lines.append(type_line)
        shown = {"engine": "0", **labels, "model_name": pool.spec.served_model_name}
        inner = ",".join(f'{key}="{text}"' for key, text in sorted(shown.items()))
        lines.append(f"{name}{{{inner}}} {float(value)}")
    return web.Response(body="\n".join([*lines, ""]).encode(), headers=METRICS_HEADERS)


def tokenize_page(pool: SimulatedPool, body: Mapping[str, Any]) -> web.Response:
    """Exact prompt tokens of a text or of a conversation under the template. Raises EngineError."""
    model = body.get("model")
    if model is not None and model != pool.spec.served_model_name:
        raise errors.unknown_model(str(model), pool.spec.served_model_name)
    if "messages" in body:
        if not isinstance(body["messages"], list):
            raise errors.wrong_type("messages", "list_type", "list", body["messages"])
        ids = list(chat_prompt(pool.spec, body["messages"]))
    elif isinstance(body.get("prompt"), str) and not body["prompt"]:
        ids = tokenize("")
    else:
        if "prompt" not in body:
            raise errors.missing("prompt", len(body))
        ids = list(completion_prompts(body["prompt"])[0][0])
    return answer({"count": len(ids), "max_model_len": pool.spec.max_model_len, "tokens": ids, "token_strs": None})


def detokenize_page(body: Mapping[str, Any]) -> web.Response:
    """The text of generated token ids. Raises EngineError."""
    ids = body.get("tokens")
    if not isinstance(ids, list) or not all(isinstance(one, int) and is_word(one) for one in ids):
        raise errors.wrong_type("tokens", "list_type", "list", "<not token ids>")
    return answer({"prompt": text_of(ids)})


PAGES: Final[Mapping[str, Callable[[SimulatedPool, Container], web.Response]]] = {
    "/health": health,
    "/ping": health,
    "/version": version,
    "/load": load,
    "/v1/models": models,
    "/metrics": metrics,
}
