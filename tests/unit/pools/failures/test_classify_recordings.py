"""Every recorded answer of a real vLLM, replayed over HTTP: the data plane must judge it as this table does by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from pools.failures.classes import AttemptFailed, FailureClass
from pools.wire.backend import FrameKind, UpstreamRequest
from pools.wire.http import HttpBackend, make_session
from pricing.clock import ScaledClock
from support.scripted_server import Exchange, scripted
from support.values import replace
from support.vllm_recordings import Recording, names, recording

CONTEXT = FailureClass.CONTEXT_OVERFLOW
TIMEOUT = FailureClass.TIMEOUT
OVERLOADED = FailureClass.OVERLOADED
UNAVAILABLE = FailureClass.UNAVAILABLE
MISCONFIGURED = FailureClass.MISCONFIGURED
CLIENT = FailureClass.CLIENT_ERROR
ANSWER = "answer"
NO_ATTEMPT = "no attempt"  # the answer of a route that no attempt uses


@dataclass(frozen=True)
class Verdict:
    """`ending`: how the connection went on after the recorded bytes."""

    outcome: FailureClass | Literal["answer", "no attempt"]
    why: str
    feature: str | None = None
    engine_died: bool = False
    ending: Literal["whole", "cut", "silence"] = "whole"


DIED_IDLE = Verdict(UNAVAILABLE, "the engine died while the request was queued: error frame first", engine_died=True)
DIED_AMID = Verdict(UNAVAILABLE, "the engine died amid the stream: error frame, then [DONE]", engine_died=True)
DIED_500 = Verdict(UNAVAILABLE, "the engine died under a request that is not streamed: 500", engine_died=True)
VALIDATION = Verdict(CLIENT, "the body does not fit the request's schema: no pool would take it")
BAD_VALUE = Verdict(CLIENT, "a parameter out of its range: no pool would take it")
IGNORED_FIELD = Verdict(ANSWER, "a field this version does not know is ignored, and the answer is one")
CONTROL = Verdict(NO_ATTEMPT, "a control route answers 200")

TABLE: dict[str, Verdict] = {
    "v0.28.0/bad_model": Verdict(MISCONFIGURED, "404 for the model: the name we sent is not served there"),
    "v0.28.0/chat": Verdict(ANSWER, "finish reason length"),
    "v0.28.0/chat_stream_usage": Verdict(ANSWER, "a finish reason, then usage with no choices"),
    "v0.28.0/ctx_max_tokens_too_big": Verdict(CONTEXT, "max_tokens alone is above max_model_len; its older wording"),
    "v0.28.0/ctx_prompt_too_long": Verdict(CONTEXT, "prompt and output together are above the context"),
    "v0.28.0/ctx_sum_too_big": Verdict(CONTEXT, "up to 0.31 a sum above the context is refused, not clamped"),
    "v0.28.0/engine_killed_stream": DIED_AMID,
    "v0.28.0/guided_json": IGNORED_FIELD,
    "v0.28.0/malformed_json": VALIDATION,
    "v0.28.0/metrics": CONTROL,
    "v0.28.0/version": CONTROL,
    "v0.32.0/bad_model": Verdict(MISCONFIGURED, "404 for the model; this version also lists the valid names"),
    "v0.32.0/bad_param_maxtok0": Verdict(CLIENT, "param is max_tokens, but for a value below 1, not for the context"),
    "v0.32.0/bad_param_n0": BAD_VALUE,
    "v0.32.0/bad_param_temp": BAD_VALUE,
    "v0.32.0/bad_param_type": VALIDATION,
    "v0.32.0/chat": Verdict(ANSWER, "finish reason length"),
    "v0.32.0/chat_stream": Verdict(ANSWER, "a finish reason, then [DONE]"),
    "v0.32.0/chat_stream_cont_usage": Verdict(ANSWER, "usage in every chunk"),
    "v0.32.0/chat_stream_usage": Verdict(ANSWER, "usage in an extra last chunk"),
    "v0.32.0/completions": Verdict(ANSWER, "a text completion has its finish reason at the same place"),
    "v0.32.0/completions_long": Verdict(CONTEXT, "a prompt of token ids above the context"),
    "v0.32.0/ctx_max_tokens_too_big": Verdict(CONTEXT, "max_tokens alone is above max_model_len"),
    "v0.32.0/ctx_prompt_too_long": Verdict(CONTEXT, "the prompt alone is above the context"),
    "v0.32.0/ctx_prompt_too_long_nomax": Verdict(CONTEXT, "the same without max_tokens"),
    "v0.32.0/ctx_stream_too_long": Verdict(CONTEXT, "a streamed request gets the 400 too, before any event"),
    "v0.32.0/ctx_sum_too_big": Verdict(ANSWER, "0.32 clamps the output silently; the router must have checked"),
    "v0.32.0/ctx_truncate_prompt": Verdict(ANSWER, "the client asked to cut its prompt"),
    "v0.32.0/empty_messages": BAD_VALUE,
    "v0.32.0/guided_choice": IGNORED_FIELD,
    "v0.32.0/guided_json": IGNORED_FIELD,
    "v0.32.0/health": CONTROL,
    "v0.32.0/image_on_text_model": Verdict(MISCONFIGURED, "our catalogue said it sees images", feature="vision"),
    "v0.32.0/json_object": Verdict(ANSWER, "broken JSON in a 200: for the output check, not for the data plane"),
    "v0.32.0/json_schema": Verdict(ANSWER, "white space up to the length stop: for the output check"),
    "v0.32.0/json_schema_bad": BAD_VALUE,
    "v0.32.0/json_schema_missing": BAD_VALUE,
    "v0.32.0/json_schema_truncated": Verdict(ANSWER, "cut by the client's own max_tokens"),
    "v0.32.0/json_schema_valid": Verdict(ANSWER, "finish reason stop"),
    "v0.32.0/kill_api_0": Verdict(UNAVAILABLE, "the server was killed amid the stream", engine_died=True, ending="cut"),
    "v0.32.0/kill_api_2": Verdict(UNAVAILABLE, "killed after its headers", engine_died=True, ending="cut"),
    "v0.32.0/kill_api_3": Verdict(UNAVAILABLE, "killed after its headers", engine_died=True, ending="cut"),
    "v0.32.0/kill_engine_nonstream1": DIED_500,
    "v0.32.0/kill_engine_stream0": DIED_AMID,
    "v0.32.0/kill_engine_stream2": DIED_AMID,
    "v0.32.0/kill_engine_stream3": DIED_AMID,
    "v0.32.0/kill_engine_stream4": DIED_IDLE,
    "v0.32.0/kill_engine_stream5": DIED_IDLE,
    "v0.32.0/kill_worker_nonstream1": DIED_500,
    "v0.32.0/kill_worker_stream0": DIED_AMID,
    "v0.32.0/kill_worker_stream2": DIED_AMID,
    "v0.32.0/kill_worker_stream3": DIED_AMID,
    "v0.32.0/kill_worker_stream4": DIED_IDLE,
    "v0.32.0/kill_worker_stream5": DIED_IDLE,
    "v0.32.0/load": CONTROL,
    "v0.32.0/logprobs_too_many": BAD_VALUE,
    "v0.32.0/malformed_json": VALIDATION,
    "v0.32.0/metrics": CONTROL,
    "v0.32.0/missing_messages": VALIDATION,
    "v0.32.0/models": CONTROL,
    "v0.32.0/no_model": Verdict(ANSWER, "without a model the server takes its own"),
    "v0.32.0/ping": CONTROL,
    "v0.32.0/priority_unsupported": IGNORED_FIELD,
    "v0.32.0/queue_overflow_503_reqs": Verdict(OVERLOADED, "503 with the engine's error body: its queue is full"),
    "v0.32.0/queue_overflow_503_tokens": Verdict(OVERLOADED, "the same for its backlog of prompt tokens"),
    "v0.32.0/queue_overflow_stream_http200": Verdict(OVERLOADED, "the same inside a 200 stream, with [DONE]"),
    "v0.32.0/request_id": Verdict(ANSWER, "our id comes back in the body"),
    "v0.32.0/responses": CONTROL,
    "v0.32.0/sigterm_api_drain_nonstream1": Verdict(ANSWER, "a draining server finishes what it has"),
    "v0.32.0/sigterm_api_drain_stream0": Verdict(ANSWER, "a draining server finishes the stream: a finish reason"),
    "v0.32.0/sigterm_api_nonstream1": Verdict(TIMEOUT, "SIGTERM: the server says nothing more", ending="silence"),
    "v0.32.0/sigterm_api_stream0": Verdict(TIMEOUT, "the stream just stops: a stall", ending="silence"),
    "v0.32.0/sigterm_api_stream2": Verdict(TIMEOUT, "the stream just stops beside another: a stall", ending="silence"),
    "v0.32.0/sigterm_api_stream3": Verdict(TIMEOUT, "the stream just stops beside another: a stall", ending="silence"),
    "v0.32.0/sigterm_api_stream4": Verdict(TIMEOUT, "headers, then silence: no first token", ending="silence"),
    "v0.32.0/sigterm_api_stream5": Verdict(TIMEOUT, "headers, then silence: no first token", ending="silence"),
    "v0.32.0/sigterm_abort_nonstream1": Verdict(UNAVAILABLE, "SIGTERM while others run: a 200 without a word"),
    "v0.32.0/sigterm_abort_stream0": Verdict(UNAVAILABLE, "SIGTERM: finish reason abort, then [DONE]"),
    "v0.32.0/sigterm_abort_stream1": Verdict(UNAVAILABLE, "SIGTERM before its first token: [DONE] after the role"),
    "v0.32.0/sleep_nodev": Verdict(MISCONFIGURED, "FastAPI's 404: the server does not have that route"),
    "v0.32.0/sse_keepalive_queued": Verdict(ANSWER, "comments between the frames are skipped"),
    "v0.32.0/structured_outputs_choice": Verdict(ANSWER, "finish reason stop"),
    "v0.32.0/structured_outputs_json": Verdict(ANSWER, "white space up to the length stop: for the output check"),
    "v0.32.0/structured_outputs_regex_bad": BAD_VALUE,
    "v0.32.0/tokenize": CONTROL,
    "v0.32.0/tokenize_chat": CONTROL,
    "v0.32.0/tools_no_parser": Verdict(MISCONFIGURED, "our catalogue said it takes tools", feature="tools"),
    "v0.32.0/tools_required": Verdict(MISCONFIGURED, "the same for tool_choice required", feature="tools"),
    "v0.32.0/unknown_param": IGNORED_FIELD,
    "v0.32.0/version": CONTROL,
    "v0.32.0/wake_nodev": Verdict(MISCONFIGURED, "FastAPI's 404: the server does not have that route"),
    "v0.32.0/wrong_content_type": Verdict(CLIENT, "we always send JSON, so a 400 about it is passed on as it is"),
    "v0.32.0/wrong_method": Verdict(MISCONFIGURED, "the method is ours: this URL is not an engine's"),
    "v0.32.0/wrong_path": Verdict(MISCONFIGURED, "the path is ours: this URL is not an engine's"),
}

REQUEST = UpstreamRequest(
    path="/v1/chat/completions",
    body=b"{}",
    request_id="r",
    stream=True,
    connect_timeout_s=600,
    first_token_timeout_s=600,
    stall_timeout_s=600,
    total_timeout_s=600,
)


def test_every_recording_has_a_verdict() -> None:
    """No recording lacks an entry in the table, and no entry lacks its recording."""
    assert sorted(TABLE) == names()


async def replay(exchange: Exchange, saved: Recording, ending: str) -> None:
    """Send the recorded answer in uneven pieces, and end as the recorded connection did."""
    length = "Transfer-Encoding: chunked" if saved.streamed else f"Content-Length: {len(saved.body)}"
    if saved.status:
        await exchange.head(f"{saved.status} X", f"Content-Type: {saved.headers.get('content-type', '')}", length)
    for start in range(0, len(saved.body), 97):
        piece = saved.body[start : start + 97]
        await (exchange.chunk(piece) if saved.streamed else exchange.send(piece))
    if ending == "silence":
        await exchange.client_left()
    elif ending == "cut":
        exchange.writer.close()
    elif saved.streamed:
        await exchange.end_stream()


@pytest.mark.parametrize("name", sorted(TABLE))
async def test_a_recording_is_judged_as_by_hand(name: str) -> None:
    """The backend ends each recorded exchange in the answer or the failure class that the table gives it."""
    verdict, saved = TABLE[name], recording(name)
    if verdict.outcome == NO_ATTEMPT:
        assert saved.status == 200
        return
    silent = verdict.ending == "silence"
    request = replace(REQUEST, stream=saved.streamed, stall_timeout_s=20, first_token_timeout_s=20 if silent else 600)
    async with make_session() as session, scripted(lambda each: replay(each, saved, verdict.ending)) as server:
        failure = await outcome(HttpBackend(server.url, session, ScaledClock(400 if silent else 1)), request)
    assert (failure.failure if failure else ANSWER) == verdict.outcome, verdict.why
    assert (failure.feature if failure else None) == verdict.feature
    assert (failure is not None and failure.engine_died) == verdict.engine_died


async def outcome(pool: HttpBackend, request: UpstreamRequest) -> AttemptFailed | None:
    """How an attempt ends; None for an answer, which must not be empty."""
    try:
        if not request.stream:
            assert (await pool.complete(request)).body
            return None
        stream = await pool.stream(request)
        kinds = [frame.kind async for frame in stream]
    except AttemptFailed as failure:
        return failure
    assert kinds[-1] is FrameKind.DONE
    return None
