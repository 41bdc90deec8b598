"""The image and video systems of the GPU requirements document, through the endpoint: routed, moved on, billed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pools.simulator.media import png
from pools.wire.images import size_of
from pricing.money import cost_nusd
from support.endpoint import Endpoint, Policy, Reply, before_simulated, policy

SYSTEMS: dict[str, list[str]] = {
    "flux-schnell": ["flux-schnell-q4-t4", "flux-schnell-fp8-a10", "flux-schnell-bf16-l40s"],
    "flux-dev": ["flux-dev-bf16-l40s", "flux-dev-bf16-a100-40"],
    "instantid": ["instantid-fp16-a10", "instantid-fp16-l40s", "instantid-fp16-t4"],
    "lora": ["sdxl-lora-fp16-t4", "sdxl-lora-fp16-a10", "sdxl-lora-fp16-l40s"],
}
SPEEDUP = 60.0
PHOTO = ("face.png", png(64, 64), "image/png")


def strategy(ladder: list[str]) -> Policy:
    """The document's hybrid strategy for one system, in quick boots, and the document's prices."""
    pools = {f"quick-{name}": {"extends": name, "boot_s": 1, "scaledown_window_s": 600} for name in ladder}
    classes = {"system": {"objective": "listed", "ladder": {"premium": list(pools)}}}
    return policy(classes=classes, aliases={}, pools=pools, price_book="doc-gpu-requirements")


async def picture(run: Endpoint, system: str) -> Reply:
    if system != "instantid":
        return await run.ask("POST", "/v1/images/generations", json={"model": "system", "prompt": "a lake"})
    form = aiohttp.FormData({"model": "system", "prompt": "a lake"})
    form.add_field("image", PHOTO[1], filename=PHOTO[0], content_type=PHOTO[2])
    return await run.ask("POST", "/v1/images/edits", data=form)


@pytest.mark.parametrize("system", SYSTEMS)
async def test_a_picture_of_each_system_is_made_by_the_document_s_gpu_and_billed(tmp_path: Path, system: str) -> None:
    """The official client gets a picture of the asked size; its tenant pays the seconds of that GPU at its price."""
    first = f"quick-{SYSTEMS[system][0]}"
    more: dict[str, Any] = {"speedup": SPEEDUP, "awake": (first,), "media": True}
    async with before_simulated(tmp_path, strategy(SYSTEMS[system]), **more) as run:
        images = run.client().images.with_raw_response
        if system == "instantid":  # which makes pictures of a face
            raw = await images.edit(model="system", image=PHOTO, prompt="a lake", size="1024x768")  # type: ignore[call-overload] # any size
        else:
            raw = await images.generate(model="system", prompt="a lake", size="1024x768")
        [image] = raw.parse().data or ()
        assert size_of(base64.b64decode(image.b64_json or "")) == (1024, 768)
        assert raw.headers["x-sluice-pool"] == first
        await run.settled()
        [row] = run.rows("acme")
        request = await run.request()
        rate = run.service.policy.rates[first].nusd_per_h
    assert (request.images, request.clips, request.media_pixels) == (1, 0, 1024 * 768)
    assert row.amount_nusd == pytest.approx(cost_nusd(rate, row.duration_us), rel=0.1)
    assert float(raw.headers["x-sluice-cost-usd"]) * 1e9 == pytest.approx(row.amount_nusd)


@pytest.mark.parametrize("fault", ["out_of_memory", "overload", "refuse", "engine_death", "empty"])
@pytest.mark.parametrize("system", SYSTEMS)
async def test_where_the_document_s_gpu_fails_the_next_one_serves(tmp_path: Path, system: str, fault: str) -> None:
    """Whatever goes wrong, the second GPU of the ladder makes the picture, and both attempts are in the ledger."""
    first, second = (f"quick-{name}" for name in SYSTEMS[system][:2])
    more: dict[str, Any] = {"speedup": SPEEDUP, "awake": (first, second), "media": True}
    async with before_simulated(tmp_path, strategy(SYSTEMS[system]), **more) as run:
        await run.fail(first, fault)
        reply = await picture(run, system)
        await run.settled()
        pools = [row.pool for row in run.rows()]
        made = (await run.request()).images
    assert reply.status == (502 if fault == "empty" else 200), reply.body
    if fault == "empty":  # pictures that did not come are asked of a higher tier; this ladder has none
        assert reply.code == "chain_failed"
        assert made == 0
    else:
        assert reply.headers["x-sluice-pool"] == second
        assert pools == [first, second]
