"""`sluice measure` against simulated pools, whose own books say what happened, and against servers that misbehave."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from pools.failures.classes import FailureClass
from pricing.money import cost_nusd
from router.measure.load import Sample
from router.measure.record import document
from router.measure.run import Watch
from router.measure.subject import CannotMeasure, Shape, Stopped
from support.measuring import SMALL, measuring_at, measuring_script, measuring_simulated
from support.scripted_server import DONE, ENGINE_DIED, ROLE, Exchange, frame, text_frame
from support.simulated import RATE_NUSD_PER_H, SPEC
from support.values import replace

USAGE = frame(choices=[], usage={"prompt_tokens": 40, "completion_tokens": 2})


async def test_counts_and_sizes_are_those_that_were_asked_for() -> None:
    """Every request is answered with the tokens asked for, and prompts have the size asked for as the engine counts."""
    async with measuring_simulated() as simulation:
        measured = await simulation.measuring.run(cold=False)
    written = document(measured)
    assert (written["total_requests"], written["successful_requests"]) == (8, 8)
    assert (written["total_tokens"], written["avg_tokens_per_request"]) == (8 * 20, 20)
    assert measured.prompt_tokens_mean == 40
    assert measured.engine_version == SPEC.engine_version
    assert all(sample.counted for sample in measured.answers)


async def test_dollars_lie_between_what_the_simulator_was_busy_and_was_alive_for() -> None:
    """The container time that is priced is no less than the pool's own busy time under the load, no more than alive."""
    before: dict[str, int] = {}

    def phase(name: str) -> None:
        if name == "load":
            before.update(simulation.bill())

    async with measuring_simulated(watch=Watch(phase)) as simulation:
        measured = await simulation.measuring.run(cold=False)
        after = simulation.bill()
    assert measured.serving.by == "platform"
    busy_us, alive_us = (after[name] - before[name] for name in ("busy_us", "alive_us"))
    assert busy_us <= measured.serving.container_us <= alive_us
    assert measured.cost_nusd == cost_nusd(RATE_NUSD_PER_H, measured.serving.container_us)
    assert abs(8 * (measured.request_nusd or 0) - (measured.cost_nusd or 0)) <= 8
    assert abs((measured.thousand_nusd or 0) - 1000 * (measured.request_nusd or 0)) <= 500


async def test_times_add_up_as_a_closed_loop_must() -> None:
    """Tokens a second are tokens over the wall time, and latencies fill it to no more than the concurrency."""
    async with measuring_simulated() as simulation:
        measured = await simulation.measuring.run(cold=False)
    assert measured.tokens_per_s == pytest.approx(160 / (measured.load.wall_us / 1e6))
    assert 0 < measured.in_flight_mean <= 4
    for sample in measured.answers:
        assert sample.first_us is not None
        assert measured.load.began_us <= sample.sent_us <= sample.first_us <= sample.ended_us <= measured.load.ended_us


async def test_a_cold_start_is_the_boot_that_the_platform_saw() -> None:
    """From asleep: the boot is the container's own, to the microsecond, and the first token comes after it."""
    async with measuring_simulated() as simulation:
        measured = await simulation.measuring.run(cold=True)
        assert simulation.measuring.platform is not None
        [container] = (await simulation.measuring.platform.containers())[SPEC.name]
    assert measured.cold is not None
    assert container.ready_us is not None
    assert measured.cold.asleep_by == "platform"
    assert measured.cold.boot_s == pytest.approx((container.ready_us - container.started_us) / 1e6)
    assert measured.cold.boot_s < measured.cold.first_token_s <= measured.cold.answer_s
    assert measured.cold.tries > 1
    assert measured.boot_nusd == cost_nusd(RATE_NUSD_PER_H, round(measured.cold.boot_s * 1e6))


async def test_a_pool_that_is_awake_is_left_to_fall_asleep() -> None:
    """A cold start waits for the platform's scale-down without one request to the pool, then sees a boot of its own."""
    spec = replace(SPEC, scaledown_window_s=20.0)
    async with measuring_simulated(spec=spec) as simulation:
        await simulation.measuring.run(cold=False)
        booted_us = simulation.bill()["boot_us"]
        measured = await simulation.measuring.run(cold=True)
        assert simulation.bill()["boot_us"] > booted_us
    assert measured.cold is not None
    assert measured.cold.left_alone_s > 0


async def test_a_pool_that_does_not_fall_asleep_is_not_waited_for_for_ever() -> None:
    """Past the limit the message says that somebody else uses the pool, or that its row has the wrong window."""
    async with measuring_simulated() as simulation:
        await simulation.measuring.run(cold=False)
        with pytest.raises(CannotMeasure, match="somebody else uses it, or its scaledown_window_s is not 60"):
            await simulation.measuring.run(cold=True, wait_s=1.0)


async def test_without_a_platform_the_pool_is_left_alone_for_as_long_as_said() -> None:
    """Then the boot is the first token's time less that of a warm one; without a time to wait it is refused."""
    async with measuring_simulated(platform=False) as simulation:
        with pytest.raises(CannotMeasure, match="say with --wait-s"):
            await simulation.measuring.run(cold=True)
        measured = await simulation.measuring.run(cold=True, wait_s=1.0)
    assert measured.cold is not None
    assert (measured.cold.asleep_by, measured.cold.left_alone_s, measured.cold.boot_by) == (
        "left alone",
        1,
        "first token",
    )
    assert 0 < measured.cold.boot_s < measured.cold.first_token_s
    assert (measured.serving.by, measured.serving.container_us) == ("row", measured.load.wall_us)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("out_of_memory", FailureClass.OUT_OF_MEMORY),
        ("crash_mid_stream", FailureClass.UNAVAILABLE),
        ("overload", FailureClass.OVERLOADED),
        ("refuse", FailureClass.UNAVAILABLE),
        ("garbage", FailureClass.UNAVAILABLE),
        ("empty", FailureClass.BAD_OUTPUT),
        ("hang", FailureClass.TIMEOUT),
        ("stall", FailureClass.TIMEOUT),
    ],
)
async def test_requests_that_fail_are_counted_by_class(kind: str, failure: FailureClass) -> None:
    """Two failures of eight: an error rate of a quarter, under their class, and no time or token of theirs counts."""
    shape = replace_shape(timeout_s=60.0 if failure is FailureClass.TIMEOUT else 600.0)
    async with measuring_simulated(shape, watch=Watch(lambda name: order() if name == "load" else None)) as simulation:

        def order() -> None:
            simulation.fail(kind, count=2, after_tokens=3)

        measured = await simulation.measuring.run(cold=False)
    assert dict(measured.errors) == {failure.value: 2}
    assert measured.error_rate == 0.25
    assert (len(measured.answers), measured.tokens) == (6, 6 * 20)
    assert measured.latency is not None
    assert measured.latency.max_us == max(sample.latency_us for sample in measured.answers)


async def test_an_interrupt_keeps_what_was_measured() -> None:
    """Stopped after three answers: those are reported, what ran is cut off and counted, nothing more is sent."""
    ended: list[Sample] = []

    def on_ended(sample: Sample) -> None:
        ended.append(sample)
        if len(ended) == 3:
            simulation.measuring.stop.set()

    async with measuring_simulated(replace_shape(requests=50), watch=Watch(ended=on_ended)) as simulation:
        measured = await simulation.measuring.run(cold=False)
    assert measured.interrupted
    assert 3 <= len(measured.load.samples) < 50
    assert measured.load.cancelled <= 4
    written = document(measured)
    assert written["sluice"]["interrupted"] is True
    assert written["successful_requests"] == len(measured.answers)


async def test_an_interrupt_before_the_load_says_that_nothing_was_measured() -> None:
    """While it waits for scale-down or for the first answer."""
    async with measuring_simulated() as simulation:
        simulation.measuring.stop.set()
        with pytest.raises(Stopped, match="before the first answer"):
            await simulation.measuring.run(cold=False)
    async with measuring_simulated(platform=False) as simulation:
        simulation.measuring.stop.set()
        with pytest.raises(Stopped, match="waiting for scale-down"):
            await simulation.measuring.run(cold=True, wait_s=100.0)


@pytest.mark.parametrize(("settings", "says"), [({"min_containers": 1}, "keeps it warm"), ({}, "is always on")])
async def test_what_never_sleeps_has_no_cold_start(settings: dict[str, Any], says: str) -> None:
    """A pool with min_containers, and a plain server, are refused with the option to leave out."""
    async with measuring_simulated(spec=replace(SPEC, **settings)) as simulation:
        measuring = simulation.measuring
        if not settings:
            measuring = replace(measuring, subject=replace(measuring.subject, always_on=1))
        with pytest.raises(CannotMeasure, match=f"{says}.*leave --cold-start out"):
            await measuring.run(cold=True)


# -- servers that answer byte by byte ----------------------------------------------------------------------------------


async def whole(exchange: Exchange, *more: bytes) -> None:
    await exchange.start_stream()
    for piece in (ROLE, text_frame("a"), text_frame("b", "stop"), *more, DONE):
        await exchange.chunk(piece)
    await exchange.end_stream()


async def answer(exchange: Exchange) -> None:
    """A whole answer; no `/version`."""
    if exchange.request.method == "GET":
        await exchange.answer("404 Not Found", b"{}")
    else:
        await whole(exchange)


async def test_a_server_that_sends_no_usage_is_counted_by_frames() -> None:
    """Tokens are then the frames with text, and the document says so; prompts are not corrected."""
    async with measuring_script(answer) as (measuring, _):
        measured = await measuring.run(cold=False)
    assert (measured.tokens, measured.engine_version, measured.cost_nusd) == (16, None, None)
    written = document(measured)["sluice"]
    assert (written["tokens_counted_by"], written["prompt_tokens_mean"], written["claims"]) == ("frames", None, [])


async def test_each_request_has_a_prompt_of_its_own_and_the_same_ones_every_time() -> None:
    """Two runs send the same bodies, no two of one run alike, each streamed and with its usage asked for."""
    bodies = []
    for _ in range(2):
        async with measuring_script(answer) as (measuring, server):
            await measuring.run(cold=False)
            bodies.append(sorted(one.body for one in server.received if one.method == "POST"))
    assert bodies[0] == bodies[1]
    assert len(set(bodies[0])) == 9
    assert all(b'"include_usage":true' in body and b'"ignore_eos":true' in body for body in bodies[0])


async def test_a_stream_that_is_cut_or_reset_is_an_error_of_its_own() -> None:
    """An end without a finish, a reset, an error frame and a bare 500 in the load are failures, the rest answers."""
    count = 0

    async def script(exchange: Exchange) -> None:
        nonlocal count
        if exchange.request.method == "GET":
            await exchange.answer("200 OK", b'{"version": "1.2.3"}')
            return
        count += 1
        if count == 3:
            await exchange.start_stream()
            await exchange.chunk(text_frame("a"))
            await exchange.end_stream()
        elif count == 4:
            await exchange.start_stream()
            await exchange.chunk(text_frame("a"))
            exchange.reset()
        elif count == 5:
            await exchange.start_stream()
            await exchange.chunk(text_frame("a") + ENGINE_DIED + DONE)
            await exchange.end_stream()
        elif count == 6:
            await exchange.answer("500 Internal Server Error", b"oh")
        else:
            await whole(exchange, USAGE)

    async with measuring_script(script) as (measuring, _):
        measured = await measuring.run(cold=False)
    assert dict(measured.errors) == {"unavailable": 4}
    assert (len(measured.answers), measured.tokens, measured.engine_version) == (4, 8, "1.2.3")


async def test_all_requests_failing_is_a_result_too() -> None:
    """Nothing is divided by nothing: rates and prices are null, not 0."""
    answered = False

    async def script(exchange: Exchange) -> None:
        nonlocal answered
        if exchange.request.method == "GET" or not answered:
            answered = answered or exchange.request.method == "POST"
            await answer(exchange)
        else:
            await exchange.answer("429 Too Many Requests", b"{}")

    async with measuring_script(script, rate_nusd_per_h=RATE_NUSD_PER_H) as (measuring, _):
        written = document(await measuring.run(cold=False))
    assert (written["successful_requests"], written["tps"], written["p99_latency_ms"]) == (0, 0.0, None)
    assert written["sluice"]["error_rate"] == 1.0
    assert written["sluice"]["cost"]["usd"] > 0
    assert written["sluice"]["cost"]["usd_per_request"] is None


@pytest.mark.parametrize(
    ("status", "says"),
    [("401 Unauthorized", "misconfigured: refuses our credentials"), ("404 Not Found", "misconfigured"), ("500 X", "")],
)
async def test_a_first_answer_that_waiting_does_not_mend_ends_it_at_once(status: str, says: str) -> None:
    """Wrong keys, wrong models and broken engines are said after one try, with the class and what to look at."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, b'{"error": {"message": "no", "type": "x", "code": 1}}')

    async with measuring_script(script) as (measuring, server):
        with pytest.raises(CannotMeasure, match=rf"no first answer \(.*{says}.*at the first try\); is the endpoint"):
            await measuring.run(cold=False)
    assert len(server.received) == 1


async def test_a_hang_at_the_first_answer_ends_with_the_patience() -> None:
    """A server that never answers costs one request's patience, and is told so."""

    async def script(exchange: Exchange) -> None:
        await exchange.client_left()

    async with measuring_script(script, replace_shape(timeout_s=0.2)) as (measuring, _):
        with pytest.raises(CannotMeasure, match=r"timeout: no first token within 0\.2 s"):
            await measuring.run(cold=False)


async def test_a_refused_connection_is_not_taken_for_a_boot() -> None:
    """Where nothing listens, the first try says so."""
    async with measuring_at(unused_url(), SMALL) as measuring:
        with pytest.raises(CannotMeasure, match="cannot connect"):
            await measuring.run(cold=False)


def replace_shape(**changes: Any) -> Shape:
    return replace(SMALL, **changes)


def unused_url() -> str:
    """An address of this machine where nothing listens: the port was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.parametrize(("template", "per_word"), [(9, 1), (25, 3), (0, 2), (300, 1)])
async def test_prompts_get_the_size_asked_for_with_any_tokenizer(template: int, per_word: int) -> None:
    """Whatever a word and the chat template come to in tokens, prompts come as near as whole words allow."""
    sizes = []

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer("404 Not Found", b"{}")
            return
        text = json.loads(exchange.request.body)["messages"][0]["content"]
        sizes.append(template + per_word * len(text.split()))
        await whole(exchange, frame(choices=[], usage={"prompt_tokens": sizes[-1], "completion_tokens": 2}))

    async with measuring_script(script, replace_shape(prompt_tokens=120)) as (measuring, _):
        measured = await measuring.run(cold=False)
    expected = max(template + per_word, 120)
    assert measured.prompt_tokens_mean is not None
    assert abs(measured.prompt_tokens_mean - expected) < per_word
    assert len(sizes) <= 8 + 1 + 3


async def test_an_interrupt_while_prompts_are_sized_is_heard_at_once() -> None:
    """A server that falls silent after its first answer does not hold Ctrl-C up for a request's whole patience."""
    answered = False

    async def script(exchange: Exchange) -> None:
        nonlocal answered
        if answered:
            measuring.stop.set()
            await exchange.client_left()
        answered = True
        await whole(exchange, frame(choices=[], usage={"prompt_tokens": 90, "completion_tokens": 2}))

    async with measuring_script(script) as (measuring, _):
        with pytest.raises(Stopped, match="interrupted before the load"):
            await measuring.run(cold=False)
