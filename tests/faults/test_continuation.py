"""Streams that break after their first byte: what the client gets is what one pool would have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.rows import House
from router.demo.bodies import image_url
from support.broken_streams import ANSWER, HALF, PROMPT_IDS, TEXT, Engine, chunk, frames, usage
from support.endpoint import ASK, COMPLETIONS, Endpoint, Policy, before_scripts, before_simulated, events, policy
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, frame, text_frame

USAGE = {"stream_options": {"include_usage": True}}


def ladder(*pools: str, **defaults: Any) -> Policy:
    """A class over these pools in this order, tried however often they broke; all but `small` have one model."""
    classes = {"chat": {"objective": "listed", "ladder": {"premium": pools}}}
    breaker = {"failures": 1000, "window_s": 30, "half_open_after_s": 15}
    always = {"reload_poll_s": 1, "breaker": breaker, "shape_cooldown_s": 0.001}
    return policy(classes=classes, defaults={**always, **defaults})


SAME: Policy = ladder("mid", "other")


def said(reply_events: list[Any]) -> str:
    """The text that the chunks add up to, of either endpoint."""
    choices = [choice for event in reply_events if isinstance(event, dict) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" if "delta" in choice else choice["text"] for choice in choices)


def finishes(reply_events: list[Any]) -> list[str]:
    choices = [choice for event in reply_events if isinstance(event, dict) for choice in event.get("choices", ())]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


# -- by token ids, against servers that are scripted byte by byte ------------------------------------------------------


@pytest.mark.parametrize("resets", [False, True])
async def test_cut_after_any_frame_the_client_gets_the_same_answer(tmp_path: Path, resets: bool) -> None:
    """Text, one role, one finish, one id, usage of the whole and one `[DONE]`, wherever the first pool broke off."""
    first, second = Engine(resets=resets), Engine()
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        whole = events((await endpoint.chat(stream=True, **USAGE)).body)
        for cut in range(2, len(ANSWER) + 2):
            first.cut = cut
            parts = events((await endpoint.chat(stream=True, **USAGE)).body)
            assert said(parts) == said(whole) == TEXT
            assert finishes(parts) == ["stop"]
            assert sum("role" in choice["delta"] for part in parts[:-1] for choice in part["choices"]) == 1
            assert {(part["id"], part["created"], part["object"]) for part in parts[:-1]} == {
                ("chatcmpl-1", 1795199182, "chat.completion.chunk")
            }
            counted = {**parts[-2]["usage"], "cost": None}
            assert counted == {**usage(len(PROMPT_IDS), len(ANSWER) + 1), "cost": None}
            assert parts.count("[DONE]") == 1
            whole_characters = cut - 1 if cut - 1 != HALF else cut - 2
            assert second.bodies[-1]["prompt"] == PROMPT_IDS + [token for token, _ in ANSWER[:whole_characters]]
            assert not any(word in str(parts) for word in ("token_ids", "prompt_text", "x_sluice", "error"))


@pytest.mark.parametrize("bundle", [2, 3])
async def test_token_ids_never_end_within_a_character(tmp_path: Path, bundle: int) -> None:
    """Behind half a character an engine reads out its whole prompt. Where a frame brings several tokens, the pool that
    goes on is asked what they read; those after the last whole character are generated again, and not counted twice.
    """
    first, second = Engine(bundle=bundle), Engine()
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        for cut in range(2, len(frames(True, PROMPT_IDS, ANSWER, 1000, bundle)) - 2):
            first.cut = cut
            parts = events((await endpoint.chat(stream=True, **USAGE)).body)
            assert (said(parts), finishes(parts), parts[-1]) == (TEXT, ["stop"], "[DONE]")
            assert parts[-2]["usage"]["completion_tokens"] == len(ANSWER) + 1
            assert second.bodies[-1]["prompt"][-1] != ANSWER[HALF - 1][0]


async def test_the_rest_is_asked_for_as_the_client_asked_for_the_whole(tmp_path: Path) -> None:
    """Sampling goes up unchanged, limits less what was generated, and nothing that only a chat knows."""
    first, second = Engine(cut=3), Engine()
    asked: dict[str, Any] = {
        "max_completion_tokens": 6,
        "min_tokens": 5,
        "temperature": 0.5,
        "seed": 7,
        "stop_token_ids": [5],
        "unknown": {"a": 1},
        "chat_template_kwargs": {"enable_thinking": False},
        "tool_choice": "none",
        "user": "u",
    }
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True, **asked)).body)
    [body] = second.bodies
    kept = {name: asked[name] for name in ("temperature", "seed", "stop_token_ids", "unknown", "user")}
    assert body == {
        **kept,
        "prompt": [*PROMPT_IDS, 10, 11],
        "max_tokens": 4,
        "min_tokens": 3,
        "model": "Qwen/Qwen3-VL-8B-Instruct-FP8",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
    }
    assert (said(parts), finishes(parts)) == ('Grüß 🙂 "quoted"\\', ["length"])


async def test_a_stream_may_break_again(tmp_path: Path) -> None:
    """The second pool breaks too, and the first one, asked again, ends what it began."""
    first, second = Engine(cut=3), Engine(cut_rest=2)
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True, **USAGE)).body)
        request = await endpoint.request()
        rows = endpoint.rows()
    assert (said(parts), finishes(parts), parts[-1]) == (TEXT, ["stop"], "[DONE]")
    assert parts[-2]["usage"]["completion_tokens"] == len(ANSWER) + 1
    assert (request.outcome, request.attempts, request.continued, request.continued_by_text) == ("served", 3, 2, 0)
    assert [(row.pool, row.outcome, row.account) for row in rows] == [
        ("mid", "unavailable", House.FAILED),
        ("other", "unavailable", House.FAILED),
        ("mid", "answered", "acme"),
    ]
    assert [(row.prompt_tokens, row.completion_tokens) for row in rows] == [(3, 2), (5, 2), (7, 5)]
    assert (request.prompt_tokens, request.completion_tokens) == (3, len(ANSWER) + 1)


async def test_a_broken_stream_ends_with_its_attempts(tmp_path: Path) -> None:
    """`max_attempts` counts attempts that went on, too: then the stream ends in an error event."""
    first, second = Engine(cut=3), Engine(cut_rest=2)
    files = ladder("mid", "other", max_attempts=2)
    async with before_scripts(tmp_path, {"mid": first, "other": second}, files) as endpoint:
        parts = events((await endpoint.chat(stream=True)).body)
        request = await endpoint.request()
    assert said(parts[:-1]) == "Grüß 🙂"
    assert parts[-1]["error"]["code"] == "stream_broken"
    assert [one["pool"] for one in parts[-1]["error"]["metadata"]["attempts"]] == ["mid", "other"]
    assert (request.outcome, request.continued) == ("broken", 1)


async def test_a_pool_that_cannot_begin_to_go_on_is_passed_over(tmp_path: Path) -> None:
    """The next candidate fails before its first word: the one after it goes on from the same place."""

    async def refuses(exchange: Exchange) -> None:
        await exchange.answer("500 Internal Server Error", b'{"error":{"message":"no","type":"x","code":500}}')

    scripts = {"mid": Engine(cut=3), "other": refuses, "big": (last := Engine())}
    async with before_scripts(tmp_path, scripts, ladder("mid", "other", "big")) as endpoint:
        parts = events((await endpoint.chat(stream=True)).body)
        request = await endpoint.request()
    assert (said(parts), parts[-1]) == (TEXT, "[DONE]")
    assert last.bodies[0]["prompt"] == [*PROMPT_IDS, 10, 11]
    assert (request.attempts, request.continued) == (3, 1)


async def test_an_answer_that_had_all_its_tokens_is_only_ended(tmp_path: Path) -> None:
    """Where the finish comes in a frame of its own and is lost, nothing is left to generate, and nobody is asked."""
    first, second = Engine(cut=4, finishes_apart=True), Engine()
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True, max_tokens=3, **USAGE)).body)
        request = await endpoint.request()
    assert (said(parts), finishes(parts), parts[-1]) == ("Grü", ["length"], "[DONE]")
    assert parts[-2]["usage"]["completion_tokens"] == 3
    assert second.bodies == []
    assert (request.outcome, request.attempts) == ("served", 1)


async def test_a_client_that_asks_for_token_ids_gets_them_from_both_pools(tmp_path: Path) -> None:
    """What it asked for is not taken out, and goes on over the cut; usage in each chunk counts the whole answer."""
    asked = {"return_token_ids": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    async with before_scripts(tmp_path, {"mid": Engine(cut=4), "other": Engine()}, SAME) as endpoint:
        *parts, _ = events((await endpoint.chat(stream=True, **asked)).body)
    choices = [choice for part in parts for choice in part["choices"]]
    assert parts[0]["prompt_token_ids"] == PROMPT_IDS
    assert [one for choice in choices for one in choice.get("token_ids", ())] == [token for token, _ in ANSWER] + [99]
    assert [part["usage"]["completion_tokens"] for part in parts[:-1]] == list(range(len(parts) - 1))


async def test_an_answer_whose_finish_was_seen_is_complete(tmp_path: Path) -> None:
    """The pool breaks between the finish and the usage: nobody is asked to go on."""
    first, second = Engine(cut=len(ANSWER) + 2), Engine()
    async with before_scripts(tmp_path, {"mid": first, "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True)).body)
        assert (await endpoint.request()).continued == 0
    assert (said(parts), parts[-1], second.bodies) == (TEXT, "[DONE]", [])


# -- from the text -----------------------------------------------------------------------------------------------------


async def says_the_rest(exchange: Exchange) -> None:
    """Another model, asked to finish the answer."""
    await exchange.start_stream()
    choice = {"index": 0, "delta": {"content": " rest"}, "finish_reason": "stop"}
    await exchange.chunk(ROLE + chunk(True, [choice], usage=usage(9, 2)) + chunk(True, [], usage=usage(9, 2)) + DONE)
    await exchange.end_stream()


async def test_another_model_goes_on_from_the_text_and_it_is_marked(tmp_path: Path) -> None:
    """The answer so far is the last message, left open; usage chunk and ledger say that it was not exact. The pool that
    broke is asked once more before that, since it could go on exactly.
    """
    files = ladder("mid", "small")
    scripts = {"mid": Engine(cut=6, dies=True), "small": says_the_rest}
    async with before_scripts(tmp_path, scripts, files) as endpoint:
        parts = events((await endpoint.chat(stream=True, max_tokens=20, **USAGE)).body)
        [received] = endpoint.upstream["small"].received
        request = await endpoint.request()
    part = "".join(text for _, text in ANSWER[:5])
    body = json.loads(received.body)
    assert body["messages"] == [*ASK, {"role": "assistant", "content": part}]
    assert (body["add_generation_prompt"], body["continue_final_message"], body["max_tokens"]) == (False, True, 15)
    assert (said(parts), finishes(parts)) == (part + " rest", ["stop"])
    assert sum("role" in choice["delta"] for one in parts[:-1] for choice in one["choices"]) == 1
    assert parts[-2]["x_sluice"] == {"continued": "text"}
    assert parts[-2]["usage"]["prompt_tokens"] == 3
    assert parts[-2]["usage"]["completion_tokens"] == 5 + 2
    assert (request.attempts, request.continued, request.continued_by_text) == (3, 1, 1)


async def test_images_go_on_from_the_text(tmp_path: Path) -> None:
    """Token ids do not hold an image: the pool that goes on is sent it again, with the answer so far."""
    picture = {"type": "image_url", "image_url": {"url": image_url()}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}]
    first = Engine(cut=4)
    async with before_scripts(tmp_path, {"mid": first, "other": says_the_rest}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True, messages=messages, max_tokens=20)).body)
        [received] = endpoint.upstream["other"].received
    assert "return_token_ids" not in first.bodies[0]
    assert json.loads(received.body)["messages"] == [*messages, {"role": "assistant", "content": "Grü"}]
    assert said(parts) == "Grü rest"


# -- what cannot go on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"n": 2},
        {"echo": True},
        {"logprobs": True},
        {"prompt_logprobs": 1},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"]}},
        {"include_reasoning": False},
    ],
)
async def test_more_than_one_plain_text_does_not_go_on(tmp_path: Path, asked: dict[str, Any]) -> None:
    """The stream ends in an error event without `[DONE]`, and no other pool is asked."""
    second = Engine()
    async with before_scripts(tmp_path, {"mid": Engine(cut=3), "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True, **asked)).body)
        assert (await endpoint.request()).outcome == "broken"
    assert parts[-1]["error"]["code"] == "stream_broken"
    assert second.bodies == []


async def test_reasoning_does_not_go_on(tmp_path: Path) -> None:
    """What a reasoning parser took out of the text is in no continuation's prompt."""

    async def thinks(exchange: Exchange) -> None:
        await exchange.start_stream()
        thought = {"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}
        await exchange.chunk(ROLE + frame(choices=[thought]) + text_frame("so") + ENGINE_DIED + DONE)
        await exchange.end_stream()

    second = Engine()
    async with before_scripts(tmp_path, {"mid": thinks, "other": second}, SAME) as endpoint:
        parts = events((await endpoint.chat(stream=True)).body)
    assert parts[-1]["error"]["code"] == "stream_broken"
    assert second.bodies == []


async def test_a_partial_message_of_the_clients_own_goes_on_by_token_ids_only(tmp_path: Path) -> None:
    """Behind it as text, the answer would be a second message: a pool with other tokens is refused, with a reason."""
    files = ladder("mid", "small")
    own = {"messages": [*ASK, {"role": "assistant", "content": "So"}], "continue_final_message": True}
    small = Engine()
    async with before_scripts(tmp_path, {"mid": Engine(cut=3, dies=True), "small": small}, files) as endpoint:
        parts = events((await endpoint.chat(stream=True, add_generation_prompt=False, **own)).body)
        request = await endpoint.request()
        past = (await endpoint.ask("GET", f"/v1/decisions/{request.request_id}")).json
    assert small.bodies == []
    assert "tokenizer" in {one["reason"] for decision in past["decisions"] for one in decision["rejected"]}
    assert parts[-1]["error"]["code"] == "stream_broken"


# -- against simulated pools -------------------------------------------------------------------------------------------


async def break_first(endpoint: Endpoint, after: int) -> None:
    assert await endpoint.control("DELETE", "/pools/mid/fail") == {}
    await endpoint.fail("mid", "crash_mid_stream", after_tokens=after)


@pytest.mark.parametrize("included", [False, True])
async def test_cut_points_and_stop_strings(tmp_path: Path, included: bool) -> None:
    """Wherever the pool breaks and whatever string ends the answer, across the cut too, it reads as if it had not."""
    # No faster: what an engine may take to read ids is short in scaled time, and a slow machine's in real time.
    async with before_simulated(tmp_path, SAME, speedup=8, awake=("mid", "other")) as endpoint:
        plain = said(events((await endpoint.chat(stream=True, max_tokens=24)).body))
        stops = [plain[30:34], plain[41:60], "never said"]
        for stop in ([stops[0]], [stops[1]], [stops[2]], stops[1:], None):
            asked = {"max_tokens": 24, "stop": stop, "include_stop_str_in_output": included, **USAGE}
            whole = events((await endpoint.chat(stream=True, **asked)).body)
            for after in range(4, 24, 3):
                await break_first(endpoint, after)
                parts = events((await endpoint.chat(stream=True, **asked)).body)
                assert said(parts) == said(whole), (stop, after)
                assert finishes(parts) == finishes(whole)
                assert parts[-1] == "[DONE]"
                # A chunk that holds the end of a string across the cut may hold tokens behind it: they were generated.
                assert parts[-2]["usage"]["completion_tokens"] >= whole[-2]["usage"]["completion_tokens"]
                assert "x_sluice" not in parts[-2]
        outcomes = [row.outcome for row in endpoint.rows()]
    assert outcomes.count("unavailable") == outcomes.count("answered") - 6 == 5 * 7


async def test_completions_go_on_too(tmp_path: Path) -> None:
    """The older endpoint, with a text or token ids as its prompt, and with the bound that engines give it."""
    async with before_simulated(tmp_path, SAME, awake=("mid", "other")) as endpoint:
        for prompt in ("once upon a time", [5, 6, 7], ["once"]):
            body = {"model": "chat", "prompt": prompt, "stream": True, **USAGE}
            whole = events((await endpoint.ask("POST", COMPLETIONS, json=body)).body)
            await break_first(endpoint, 5)
            parts = events((await endpoint.ask("POST", COMPLETIONS, json=body)).body)
            assert said(parts) == said(whole)
            assert finishes(parts) == ["length"]
            assert parts[-2]["usage"]["completion_tokens"] == 16
            assert {part["object"] for part in parts[:-1]} == {"text_completion"}


async def test_a_stream_that_stalls_goes_on_however_long_its_first_byte_was_allowed(tmp_path: Path) -> None:
    """After the first byte only the stall timer and `max_total_s` count, not the deadline for the first byte."""
    files = ladder("mid", "other", stall_timeout_s=5, first_byte_deadline_s=4)
    async with before_simulated(tmp_path, files, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "stall", after_tokens=6)
        parts = events((await endpoint.chat(stream=True, max_tokens=20)).body)
        first, second = endpoint.rows()
    assert (finishes(parts), parts[-1]) == (["length"], "[DONE]")
    assert (first.outcome, second.outcome) == ("timeout", "answered")
    assert first.duration_us > 5_000_000


@pytest.mark.parametrize("payer", ["house", "tenant"])
async def test_the_second_prefill_is_charged_and_counted(tmp_path: Path, payer: str) -> None:
    """The pool that goes on is paid for prompt and answer so far; who pays for the one that broke says the policy."""
    files = {**SAME, "failed_attempts": {"unavailable": payer}}
    async with before_simulated(tmp_path, files, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "crash_mid_stream", after_tokens=6)
        parts = events((await endpoint.chat(stream=True, max_tokens=20, **USAGE)).body)
        first, second = endpoint.rows()
        charged = endpoint.charged_nusd()
    assert second.prompt_tokens == (first.prompt_tokens or 0) + 6
    assert (first.account, second.account) == (House.FAILED if payer == "house" else "acme", "acme")
    assert parts[-2]["usage"]["cost"] == pytest.approx(charged / 1e9)
    assert charged == second.amount_nusd + (0 if payer == "house" else first.amount_nusd)


async def test_metrics_count_streams_that_went_on(tmp_path: Path) -> None:
    """`sluice_streams_continued_total`, by how."""
    async with before_simulated(tmp_path, SAME, awake=("mid", "other")) as endpoint:
        await endpoint.fail("mid", "crash_mid_stream", after_tokens=6)
        await endpoint.chat(stream=True, max_tokens=20)
        text = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
    assert 'sluice_streams_continued_total{how="tokens"} 1.0' in text
