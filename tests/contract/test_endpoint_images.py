"""Pictures through the endpoint: what is refused and how, forms, and that chat and pictures are told apart."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pools.simulator.media import png
from pools.wire.images import size_of
from support.endpoint import ASK, Endpoint, Policy, before_simulated, policy

IMAGES, EDITS = "/v1/images/generations", "/v1/images/edits"
POOL = "quick-flux"
SPEEDUP = 30.0


def pictures(**sections: Any) -> Policy:
    """A class `pictures` over one FLUX on an A10 that boots in a second, and a class of text that nothing serves."""
    pools = {
        POOL: {"extends": "flux-schnell-fp8-a10", "boot_s": 1, "scaledown_window_s": 600, "features": ["edits"]},
        "small": {"extends": "qwen3-4b-bf16-a10", "boot_s": 1},
    }
    classes = {"pictures": {"ladder": {"premium": [POOL]}}, "chat": {"ladder": {"premium": ["small"]}}}
    return policy(**{"classes": classes, "pools": pools, "aliases": {"gpt-image-1": "pictures"}, **sections})


def running(folder: Path, **sections: Any) -> Any:
    return before_simulated(folder, pictures(**sections), speedup=SPEEDUP, awake=(POOL,), media=True)


async def asked(run: Endpoint, **body: Any) -> Any:
    return await run.ask("POST", IMAGES, json={"model": "pictures", "prompt": "a lake", **body})


async def test_the_official_client_edits_a_picture(tmp_path: Path) -> None:
    """A form with a file goes up with the pool's own name for its model, and the picture comes back."""
    async with running(tmp_path) as run:
        image = ("cat.png", png(512, 512), "image/png")
        done = await run.client().images.edit(model="gpt-image-1", image=image, prompt="a hat", size="512x512")  # type: ignore[call-overload] # any size
        [edited] = done.data
        request = await run.request()
    assert size_of(base64.b64decode(edited.b64_json)) == (512, 512)
    assert (request.endpoint, request.model_asked, request.images) == (EDITS, "gpt-image-1", 1)


async def test_an_edit_passes_pools_that_make_pictures_of_text_alone(tmp_path: Path) -> None:
    """The worker over diffusers is never asked for one: the decision says why, and the next pool makes it."""
    pools = {"plain": {"extends": "flux-schnell-fp8-a10", "boot_s": 1}}
    base = pictures()
    classes = {"pictures": {"objective": "listed", "ladder": {"premium": ["plain", POOL]}}}
    files = {**base, "pools": {**base["pools"], **pools}, "classes": {**base["classes"], **classes}}
    async with before_simulated(tmp_path, files, speedup=SPEEDUP, awake=("plain", POOL), media=True) as run:
        image = ("cat.png", png(64, 64), "image/png")
        await run.client().images.edit(model="pictures", image=image, prompt="a hat")
        edit = await run.request()
        await asked(run)
        [made, _] = await run.requests(2)
        numbers = {"model": "pictures", "features": ["edits"]}
        route = (await run.ask("POST", "/v1/route", json=numbers)).json
        pinned = await run.ask("POST", EDITS, data=edit_form("plain"))
    assert (edit.pool, made.pool) == (POOL, "plain")
    assert route["chosen"]["pool"] == POOL
    rejected = {one["pool"]: one for one in route["rejected"]}["plain"]
    assert (rejected["reason"], rejected["missing"]) == ("feature", "edits")
    assert (pinned.status, pinned.code) == (400, "feature_not_supported")
    assert "pool 'plain' does not support edits" in pinned.json["error"]["message"]


async def test_a_model_of_faces_is_not_woken_without_a_photo(tmp_path: Path) -> None:
    """400 with what to send; nothing boots, and nobody pays. With a photo it is asked for edits."""
    base = pictures()
    pools = {**base["pools"], "faces": {"extends": "instantid-fp16-a10", "boot_s": 1}}
    files = {**base, "pools": pools, "classes": {**base["classes"], "portraits": {"ladder": {"premium": ["faces"]}}}}
    async with before_simulated(tmp_path, files, speedup=SPEEDUP, awake=(), media=True) as run:
        without = await run.ask("POST", IMAGES, json={"model": "portraits", "prompt": "a lake"})
        assert run.rows() == []
        await run.wake("faces")
        made = await run.ask("POST", EDITS, data=edit_form("portraits"))
    assert (without.status, without.code) == (400, "feature_not_supported")
    assert "starts from a picture: send a form with the file 'image'" in without.json["error"]["message"]
    assert made.status == 200


def edit_form(model: str) -> aiohttp.FormData:
    form = aiohttp.FormData({"model": model, "prompt": "a hat"})
    form.add_field("image", png(64, 64), filename="cat.png", content_type="image/png")
    return form


async def test_a_route_knows_sizes(tmp_path: Path) -> None:
    """`/v1/route` takes a body for pictures, or its numbers alone; both say the same, and nothing runs."""
    numbers = {"size": "512x512", "num_inference_steps": 2, "n": 2}
    async with running(tmp_path) as run:
        by_body = await run.ask("POST", "/v1/route", json={"model": "pictures", "prompt": "a lake", **numbers})
        by_numbers = await run.ask("POST", "/v1/route", json={"model": "pictures", **numbers})
        larger = await run.ask("POST", "/v1/route", json={"model": "pictures", **numbers, "size": "1024x1024"})
        of_text = await run.ask("POST", "/v1/route", json={"model": "chat", **numbers})
        assert run.rows() == []
    seconds = [reply.json["chosen"]["expected_seconds"] for reply in (by_body, by_numbers, larger)]
    assert seconds[0] == seconds[1] < seconds[2]
    assert (of_text.status, of_text.json["error"]["param"]) == (400, "n")


async def test_time_and_charge_grow_with_pixels_steps_and_number(tmp_path: Path) -> None:
    """Half as many pixels more, twice the steps and two of them: six times the charge of one."""
    async with running(tmp_path) as run:
        small = await asked(run, size="1024x512", num_inference_steps=4)
        large = await asked(run, size="1536x512", num_inference_steps=8, n=2)
        await run.settled()
        first, second = run.rows("acme")
        newest, _ = await run.requests(2)
    assert (small.status, large.status, len(large.json["data"])) == (200, 200, 2)
    assert second.amount_nusd / first.amount_nusd == pytest.approx(6, rel=0.15)
    assert (newest.images, newest.media_pixels) == (2, 2 * 1536 * 512)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"size": "large"}, "size"),
        ({"size": "1024x99999"}, "size"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"num_inference_steps": "many"}, "num_inference_steps"),
        ({"stream": True}, "stream"),
        ({"stream": 1}, "stream"),
        ({"size": "256x256", "width": 4096}, "width"),
        ({"size": "\uff15\uff11\uff12x512"}, "size"),
        ({"response_format": "url"}, "response_format"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"model": ""}, "model"),
        ({"size": "4096x4096", "n": 10}, "size"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_field(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    """400 `invalid_value` naming the field; nothing runs and nobody pays."""
    async with running(tmp_path) as run:
        reply = await asked(run, **body)
        assert run.rows() == []
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    ("path", "data", "content_type", "code"),
    [
        (IMAGES, b"{", "application/json", "invalid_json"),
        (IMAGES, b"[]", "application/json", "invalid_value"),
        (IMAGES, b"--x--", "multipart/form-data; boundary=x", "invalid_value"),
        (EDITS, b"{}", "application/json", "invalid_value"),
        (EDITS, b"nonsense", "multipart/form-data; boundary=x", "invalid_value"),
        (EDITS, b"--x\r\n\r\n", "multipart/form-data; boundary=x", "invalid_value"),
        (EDITS, b"--x--", "multipart/form-data", "invalid_value"),
    ],
)
async def test_bodies_that_are_none_are_refused(
    tmp_path: Path, path: str, data: bytes, content_type: str, code: str
) -> None:
    """400, whatever the bytes."""
    async with running(tmp_path) as run:
        reply = await run.ask("POST", path, data=data, headers={"Content-Type": content_type})
    assert (reply.status, reply.code) == (400, code)


@pytest.mark.parametrize("image", [None, b""])
async def test_an_edit_without_a_picture_is_refused(tmp_path: Path, image: bytes | None) -> None:
    """None at all, or a file with nothing in it: 400 naming the field, and nobody pays."""
    form = aiohttp.FormData({"model": "pictures", "prompt": "a hat"})
    if image is None:
        form.add_field("note", "no picture", content_type="text/plain")  # which makes it multipart
    else:
        form.add_field("image", image, filename="cat.png")
    async with running(tmp_path) as run:
        reply = await run.ask("POST", EDITS, data=form)
        assert run.rows() == []
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "invalid_value", "image")


async def test_a_long_prompt_of_a_form_is_one(tmp_path: Path) -> None:
    """Longer than what is read of a field here, it goes up whole."""
    form = aiohttp.FormData({"model": "pictures", "prompt": "h" * 100_000, "size": "64x64"})
    form.add_field("image", png(64, 64), filename="cat.png")
    async with running(tmp_path) as run:
        assert (await run.ask("POST", EDITS, data=form)).status == 200


async def test_chat_and_pictures_are_told_apart(tmp_path: Path) -> None:
    """A route that is asked for the other medium says which route makes it."""
    async with running(tmp_path) as run:
        words = await run.ask("POST", "/v1/chat/completions", json={"model": "pictures", "messages": ASK})
        picture = await run.ask("POST", IMAGES, json={"model": "chat", "prompt": "a lake"})
    assert (words.status, words.code) == (picture.status, picture.code) == (400, "feature_not_supported")
    assert "POST /v1/images/generations" in words.json["error"]["message"]
    assert "POST /v1/chat/completions" in picture.json["error"]["message"]


async def test_a_hang_is_given_up_by_the_service_time_model(tmp_path: Path) -> None:
    """Three times the expected 9.5 s, not the policy's deadline of two minutes, ends the wait for a pool that hangs."""
    async with running(tmp_path, defaults={"max_attempts": 1, "first_token_timeout_s": None}) as run:
        await run.fail(POOL, "hang")
        reply = await asked(run)
        [row] = run.rows()
    assert (reply.status, reply.code) == (504, "chain_timeout")
    assert row.duration_us / 1e6 == pytest.approx(28.5, rel=0.1)


async def test_a_budget_counts_pictures(tmp_path: Path) -> None:
    """A picture that a cap has no room for is refused before it is made, and says so in the SDK's words."""
    caps = [{"name": "day", "amount_usd": 0.0001, "window": "24h", "scope": "tenant:acme"}]
    async with running(tmp_path, caps=caps) as run:
        reply = await asked(run)
        assert run.rows() == []
    assert (reply.status, reply.code) == (429, "budget_exceeded")


async def test_a_client_that_leaves_ends_the_work(tmp_path: Path) -> None:
    """The tenant pays the seconds until it left."""
    async with running(tmp_path) as run:
        with pytest.raises(TimeoutError):
            await asked_within(run, 0.1)
        await run.settled()
        [row] = run.rows("acme")
    assert row.outcome == "client_gone"
    assert 0 < row.duration_us < 9_000_000


async def asked_within(run: Endpoint, seconds: float) -> None:
    body = {"model": "pictures", "prompt": "a lake"}
    timeout = aiohttp.ClientTimeout(total=seconds)
    await run.ask("POST", IMAGES, json=body, timeout=timeout)
