"""`sluice measure` of pools that make pictures and clips, against simulated ones and servers that misbehave."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from pools.catalog.load import load_catalog
from pools.failures.classes import FailureClass
from pools.spec import ModelKind, PoolSpec
from pools.wire.multipart import boundary_of, parts_of
from pricing.money import cost_nusd
from router.measure.claims import calibration, claims
from router.measure.media import asked_of
from router.measure.record import document
from router.measure.result import Measurement
from router.measure.run import Watch
from router.measure.subject import Shape
from router.measure.table import render
from support.measuring import measuring_script, measuring_simulated
from support.scripted_server import Exchange
from support.simulated import RATE_NUSD_PER_H
from support.values import replace

FLUX, WAN = "flux-schnell-fp8-a10", "wan2.1-1.3b-bf16-l40s"
NOTHING: dict[str, Any] = {"size": None, "num_inference_steps": None, "seconds": None}


def pool(name: str, **changes: Any) -> PoolSpec:
    """Of the catalogue, with a quick boot."""
    return replace(load_catalog().pools[name], boot_s=1.0, scaledown_window_s=600.0, **changes)


def shape(spec: PoolSpec, requests: int = 4, concurrency: int = 1, **given: Any) -> Shape:
    asked = asked_of(spec, {**NOTHING, **given})
    assert asked is not None
    return Shape(requests=requests, concurrency=concurrency, media=asked)


async def measured(spec: PoolSpec, load: Shape) -> Measurement:
    async with measuring_simulated(load, spec) as simulation:
        return await simulation.measuring.run(cold=False)


def shown(made: Measurement) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(render(made))
    return out.getvalue()


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_pictures_have_their_time_and_their_price(concurrency: int) -> None:
    """Each is a request; container time at the rate makes the price of one; nothing is said of tokens."""
    spec = pool(FLUX, max_concurrency=4, max_containers=1)
    made = await measured(spec, shape(spec, concurrency=concurrency, size="512x512", num_inference_steps=4))
    written = document(made)
    assert (written["total_requests"], written["successful_requests"]) == (4, 4), made.errors
    assert [written[name] for name in ("total_tokens", "avg_tokens_per_request", "tps")] == [None] * 3
    ours = written["sluice"]
    assert (ours["first_token_ms"], ours["token_ms"], ours["cost"]["usd_per_million_tokens"]) == (None, None, None)
    assert ours["asked"]["media"] | {"kind": "image", "width": 512, "height": 512, "steps": 4} == ours["asked"]["media"]
    assert ours["answers_per_s"] == pytest.approx(4e6 / made.load.wall_us)
    assert made.cost_nusd == cost_nusd(RATE_NUSD_PER_H, made.serving.container_us)
    assert made.request_nusd == pytest.approx((made.cost_nusd or 0) / 4, abs=1)
    assert made.video_s_nusd is None
    text = shown(made)
    assert "first token" not in text
    assert "an hour, 512x512, 4 steps" in text
    assert "a picture" in text
    json.dumps(written)


async def test_a_second_of_video_has_its_price() -> None:
    """A clip's cost by how long it plays."""
    spec = pool(WAN, time_factor=0.05)
    made = await measured(spec, shape(spec, requests=2, seconds=2.0, num_inference_steps=5))
    assert len(made.answers) == 2, made.errors
    asked = made.shape.media
    assert asked is not None
    assert (asked.frames, asked.fps) == (32, 16.0)
    assert made.video_s_nusd == pytest.approx((made.cost_nusd or 0) / 4, abs=1)
    assert "per second of video" in shown(made)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_pool_that_is_slower_than_its_row_is_told_by_how_much(concurrency: int) -> None:
    """A row that claims half the seconds of the simulated pool: the factor found is 2, alone or with others in line."""
    spec = pool(FLUX, max_concurrency=4, max_containers=1)
    made = await measured(spec, shape(spec, requests=6, concurrency=concurrency))
    halves = {gpu: seconds / 2 for gpu, seconds in (spec.model.seconds_per_item or {}).items()}
    believed = replace(spec, model=replace(spec.model, seconds_per_item=halves))
    again = replace(made, subject=replace(made.subject, pool=believed))
    found = calibration(again)
    assert found is not None
    assert found.time_factor == pytest.approx(2.0, rel=0.25)
    whole = next(one for one in claims(again) if one.what == "whole picture, mean")
    assert whole.ratio == pytest.approx(found.time_factor, rel=0.001)
    assert f"seconds_per_item: {found.seconds_per_item:g}" in shown(again)


@pytest.mark.parametrize("had", [1.0, 3.0])
@pytest.mark.parametrize("size", ["1024x1024", "512x512"])
async def test_the_row_found_claims_what_was_measured(had: float, size: str) -> None:
    """Either key closes the gap: the pool's `time_factor`, or the model's `seconds_per_item` with no factor."""
    spec = pool(FLUX, max_containers=1)
    made = await measured(spec, shape(spec, requests=2, size=size))
    made = replace(made, subject=replace(made.subject, pool=replace(spec, time_factor=had)))
    found = calibration(made)
    assert found is not None
    seconds = {**(spec.model.seconds_per_item or {}), spec.gpu.id: found.seconds_per_item}
    for closed in (
        replace(spec, time_factor=found.time_factor),
        replace(spec, time_factor=1.0, model=replace(spec.model, seconds_per_item=seconds)),
    ):
        again = replace(made, subject=replace(made.subject, pool=closed))
        assert claims(again)[0].ratio == pytest.approx(1.0, abs=0.005)


async def test_a_cold_start_of_a_media_pool_is_its_boot() -> None:
    """A pool that sleeps is woken by the first request, and its boot stands apart."""
    spec = pool(FLUX)
    async with measuring_simulated(shape(spec, requests=1), spec) as simulation:
        made = await simulation.measuring.run(cold=True)
    assert made.cold is not None
    assert (made.cold.asleep_by, made.cold.boot_by) == ("platform", "platform")
    assert made.cold.boot_s <= made.cold.first_token_s == made.cold.answer_s


async def test_failures_of_a_media_pool_are_counted_by_class() -> None:
    """One that runs out of memory is no quick picture; it costs those that came."""
    spec = pool(FLUX)
    ordered: list[str] = []

    def phase(name: str) -> None:
        if name == "load":
            ordered.append(name)
            simulation.fail("out_of_memory", count=1)

    async with measuring_simulated(shape(spec, requests=3), spec, watch=Watch(phase)) as simulation:
        made = await simulation.measuring.run(cold=False)
    assert ordered == ["load"]
    assert (dict(made.errors), len(made.answers)) == ({"out_of_memory": 1}, 2)
    assert made.request_nusd == pytest.approx((made.cost_nusd or 0) / 2, abs=1)


async def test_every_figure_is_sent_and_an_answer_without_a_picture_is_none() -> None:
    """Size, steps and format go up whatever was left out; an empty list of pictures is a bad answer."""
    spec = pool(FLUX)
    bodies: list[dict[str, Any]] = []

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer("404 Not Found", b"{}")
            return
        bodies.append(json.loads(exchange.request.body))
        pictures = [{"b64_json": "AAAA"}] if len(bodies) == 1 else []
        await exchange.answer("200 OK", json.dumps({"data": pictures}).encode())

    async with measuring_script(script, shape(spec, requests=2), pool=spec) as (measuring, _):
        made = await measuring.run(cold=False)
    assert made.errors == {FailureClass.BAD_OUTPUT.value: 2}
    item = spec.model.item
    assert {name: bodies[0][name] for name in ("model", "size", "num_inference_steps", "n", "response_format")} == {
        "model": "m",
        "size": f"{item.width}x{item.height}",
        "num_inference_steps": item.steps,
        "n": 1,
        "response_format": "b64_json",
    }
    assert len({body["prompt"] for body in bodies}) == 3


async def test_a_clip_is_asked_for_as_a_form() -> None:
    """Engines take nothing else at `/v1/videos/sync`; frames and frames a second say how long it is."""
    spec = pool(WAN)
    asked = asked_of(spec, {**NOTHING, "seconds": 1.0})
    assert asked is not None
    assert asked.kind is ModelKind.VIDEO
    seen: list[dict[str, str]] = []

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "GET":
            await exchange.answer("404 Not Found", b"{}")
            return
        parts = parts_of(request.body, boundary_of(request.headers["content-type"]))
        seen.append({part.name: request.body[part.start : part.end].decode() for part in parts})
        await exchange.answer("200 OK", b"a clip", content_type="video/mp4")

    async with measuring_script(script, Shape(requests=1, concurrency=1, media=asked), pool=spec) as (measuring, _):
        made = await measuring.run(cold=False)
    assert len(made.answers) == 1, made.load.samples
    assert (seen[0]["num_frames"], seen[0]["fps"]) == ("16", "16")
