"""Real vLLM servers behind what stands between us and them on Modal: each of its refusals, losses and detours becomes
the failure class that it is, and the official client an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from openai import AsyncOpenAI

from policies.compile.load import load_policy
from pools.modal.declare import declare
from pools.modal.deploy import deploy
from pools.modal.settings import ModalSettings
from pricing.clock import ScaledClock
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import RowKind
from support.before_vllm import vllm_policy
from support.endpoint import ASK, Endpoint, Policy, serving
from support.modal_control_plane import FakeModal, control_plane
from support.modal_front import TOKEN, ModalFront, modal_front, scaled_by
from support.real_vllm import RealVllm

ENVIRON = {"PROXY_KEY": TOKEN["Modal-Key"], "PROXY_SECRET": TOKEN["Modal-Secret"], "WRONG": "ws-wrong"}
HEADERS = {"Modal-Key": "${PROXY_KEY}", "Modal-Secret": "${PROXY_SECRET}"}
LENGTH = 600  # tokens: seconds of work
LONG: dict[str, Any] = {"max_tokens": LENGTH, "temperature": 0, "extra_body": {"ignore_eos": True}}
HEALTH, CHAT = "/health", "/v1/chat/completions"
NEVER_S = 3600.0  # a boot that no test sees the end of


def files(front: ModalFront, pools: dict[str, RealVllm], **endpoint: Any) -> Policy:
    """The first pool behind the front, the others plain servers."""
    policy = vllm_policy(pools, reload_poll_s=0.2)
    policy["endpoints"][next(iter(pools))] = {"url": front.url, "headers": HEADERS, **endpoint}
    return policy


@contextlib.asynccontextmanager
async def before(
    folder: Path, front: ModalFront, pools: dict[str, RealVllm], platform: Any = None, **endpoint: Any
) -> AsyncIterator[tuple[Endpoint, AsyncOpenAI]]:
    """A whole endpoint and the official client, which repeats nothing by itself."""
    policy = files(front, pools, **endpoint)
    if platform is not None:
        policy["platform"] = platform
    async with serving(folder, policy, clock=ScaledClock(), environ=ENVIRON) as served:
        yield served, served.client(max_retries=0)


@contextlib.asynccontextmanager
async def awake(engines: list[RealVllm], containers: int = 1, **how: Any) -> AsyncIterator[ModalFront]:
    """A front whose containers serve already."""
    async with modal_front(ModalFront([engine.url for engine in engines], **how)) as front:
        front.start(containers)
        yield front


async def ask(client: AsyncOpenAI, **body: Any) -> str:
    """One answer's text; its reason to finish says that it is whole."""
    answer = await client.chat.completions.create(model="chat", messages=ASK, **{"max_tokens": 8, **body})
    assert answer.choices[0].finish_reason in ("stop", "length")
    return answer.choices[0].message.content or ""


async def text_of(stream: Any) -> str:
    return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])


async def attempts(endpoint: Endpoint) -> list[list[tuple[str, str]]]:
    """(pool, outcome) of each attempt of each request, in the order in which they ended."""
    await endpoint.settled()
    found: dict[str, list[tuple[str, str]]] = {}
    for row in endpoint.rows():
        found.setdefault(row.request_id or "", []).append((row.pool or "", row.outcome or ""))
    return list(found.values())


# -- nobody there ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[tuple[FakeModal, modal.Client]]:
    """Modal's control plane, as this machine's token would reach it."""
    fake = FakeModal()
    with control_plane(fake) as client:
        modal.Client._set_env_client(client)
        yield fake, client
        modal.Client._set_env_client(None)


def deployed(folder: Path, front: ModalFront, long: RealVllm, client: modal.Client) -> str:
    """The pool's App at the control plane."""
    path = folder / "draft.yaml"
    path.write_text(json.dumps(files(front, {"cold": long})), encoding="utf-8")
    spec = load_policy([path], environ=ENVIRON, now_us=1_795_000_000_000_000).pools["cold"]
    declaration = declare(spec, ModalSettings())
    deploy(declaration, ModalSettings(), client)
    return declaration.app


async def test_an_empty_pool_is_booted_once_for_all_who_wait(
    tmp_path: Path, long: RealVllm, fake: tuple[FakeModal, modal.Client]
) -> None:
    """Modal's list says that nobody is there, so nobody is sent: one wake through the autoscaler, one boot, three
    answers, and the minimum is the row's again.
    """
    control, client = fake
    async with modal_front(ModalFront([long.url], boot_s=1.0)) as front:
        app = await asyncio.to_thread(deployed, tmp_path, front, long, client)
        async with (
            scaled_by(front, control, app),
            before(tmp_path, front, {"cold": long}, {"modal": {}}) as (endpoint, openai),
        ):
            stream = asyncio.create_task(
                openai.chat.completions.create(model="chat", messages=ASK, stream=True, max_tokens=8)
            )
            texts = await asyncio.gather(ask(openai), ask(openai))
            assert await text_of(await stream)
            assert all(texts)
            assert await attempts(endpoint) == 3 * [[("cold", "answered")]]
            minimum = control.app(app).autoscaler.min_containers
    assert (front.boots, front.refused, minimum) == (1, [], 0)
    assert [row.kind for row in recent_rows(endpoint.ledger, 100) if row.kind is RowKind.BOOT] == [RowKind.BOOT]


async def test_without_a_list_a_knock_boots_an_empty_pool(tmp_path: Path, long: RealVllm) -> None:
    """A request for `/health` meets the 503 and starts the container; the client's own goes only where it is served."""
    async with (
        modal_front(ModalFront([long.url], boot_s=1.0)) as front,
        before(tmp_path, front, {"cold": long}) as (endpoint, openai),
    ):
        texts = await asyncio.gather(ask(openai), ask(openai))
        assert all(texts)
        assert await attempts(endpoint) == 2 * [[("cold", "answered")]]
    assert front.boots == 1
    assert set(front.refused) == {(503, HEALTH)}


async def test_a_pool_that_fell_asleep_unseen_gives_way_and_boots(
    tmp_path: Path, long: RealVllm, short: RealVllm
) -> None:
    """Believed awake, it answers 503: the other pool serves at once, and the request that was refused has started a
    container here.
    """
    async with (
        awake([long]) as front,
        before(tmp_path, front, {"first": long, "second": short}) as (endpoint, openai),
    ):
        await endpoint.wake("first")
        assert await ask(openai)
        front.scale_down()
        assert await ask(openai)
        assert await attempts(endpoint) == [
            [("first", "answered")],
            [("first", "unavailable"), ("second", "answered")],
        ]
    assert front.boots == 1


# -- too many, and not allowed -----------------------------------------------------------------------------------------


async def test_a_full_container_is_overloaded_and_the_next_pool_serves(
    tmp_path: Path, long: RealVllm, short: RealVllm
) -> None:
    """429 above the Server's `max_concurrency`; what runs there is not disturbed."""
    async with (
        awake([long], max_concurrency=1) as front,
        before(tmp_path, front, {"first": long, "second": short}, always_on=1) as (endpoint, openai),
    ):
        running = await openai.chat.completions.create(model="chat", messages=ASK, stream=True, **LONG)
        await anext(running)
        assert await ask(openai)
        text = await text_of(running)
        assert text
        moved, whole = await attempts(endpoint)
        assert moved == [("first", "overloaded"), ("second", "answered")]
        assert whole == [("first", "answered")]
    assert [status for status, _ in front.refused] == [429]


async def adopted(endpoint: Endpoint) -> None:
    """Until files that were written are in force."""
    before = endpoint.service.policy.version
    async with asyncio.timeout(10):
        while (await endpoint.ask("GET", "/health/readiness")).json["policy_version"] == before:
            pass


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({**HEADERS, "Modal-Secret": "${WRONG}"}, 403)], ids=["no token", "wrong token"]
)
async def test_a_proxy_token_that_is_not_taken_is_ours_to_mend(
    tmp_path: Path, long: RealVllm, short: RealVllm, headers: dict[str, str], status: int
) -> None:
    """The next pool serves; nobody asks there again until the files have changed; then it serves."""
    async with (
        awake([long]) as front,
        before(tmp_path, front, {"first": long, "second": short}, always_on=1, headers=headers) as (endpoint, openai),
    ):
        for _ in range(2):
            assert await ask(openai)
        endpoint.write_policy(files(front, {"first": long, "second": short}, always_on=1))
        await adopted(endpoint)
        assert await ask(openai)
        assert await attempts(endpoint) == [
            [("first", "misconfigured"), ("second", "answered")],
            [("second", "answered")],
            [("first", "answered")],
        ]
    assert [refused for refused, _ in front.refused] == [status]


# -- containers that are lost ------------------------------------------------------------------------------------------


async def test_a_lost_container_s_answers_are_given_by_the_next_pool(
    tmp_path: Path, long: RealVllm, narrow: RealVllm
) -> None:
    """Its connections break off without a word. A stream goes on where it was, to the letter; what had not begun is
    answered anew; whoever comes meanwhile meets the 503, or, once the pool is known to be down, not even that.
    """
    async with (
        awake([long], boot_s=NEVER_S) as front,
        before(tmp_path, front, {"first": long, "second": narrow}, always_on=1) as (endpoint, openai),
    ):
        unbroken = await ask(openai, **LONG)
        stream = await openai.chat.completions.create(model="chat", messages=ASK, stream=True, **LONG)
        begun = (await anext(stream)).choices[0].delta.content or ""
        whole = asyncio.create_task(ask(openai, **LONG))
        await long.until_server_has(2)
        front.lose(front.containers[0])
        assert begun + await text_of(stream) == unbroken
        assert await whole == unbroken
        assert await ask(openai)
        told = await attempts(endpoint)
    assert told[0] == [("first", "answered")]
    fell_back = [("first", "unavailable"), ("second", "answered")]
    assert sorted(told[1:3]) == 2 * [fell_back]
    assert told[3] in (fell_back, fell_back[1:])
    assert [status for status, path in front.refused if path == CHAT] == [503] * (len(told[3]) - 1)


# -- detours -----------------------------------------------------------------------------------------------------------


async def test_a_web_function_s_detour_is_followed_and_nothing_runs_twice(
    tmp_path: Path, long: RealVllm, short: RealVllm
) -> None:
    """An answer that takes too long for one request is waited for where the 303 says, on the same host."""
    async with (
        awake([long], redirect_after_s=0.5) as front,
        before(tmp_path, front, {"first": long, "second": short}, always_on=1) as (endpoint, openai),
    ):
        assert await ask(openai, **LONG)
        assert await attempts(endpoint) == [[("first", "answered")]]
    assert front.redirects > 0
    assert front.containers[0].paths[CHAT] == 1


async def test_a_detour_without_an_end_is_left(tmp_path: Path, long: RealVllm, short: RealVllm) -> None:
    """An engine that hangs behind a Web Function is a 303 after every 303: some dozens, then the next pool."""
    async with (
        awake([long], redirect_after_s=0.02) as front,
        before(tmp_path, front, {"first": long, "second": short}, always_on=1) as (endpoint, openai),
    ):
        long.freeze()
        assert await ask(openai)
        assert await attempts(endpoint) == [[("first", "misconfigured"), ("second", "answered")]]
    assert 20 <= front.redirects <= 100


# -- conversations -----------------------------------------------------------------------------------------------------


async def test_a_conversation_stays_in_its_container_until_that_is_lost(
    tmp_path: Path, long: RealVllm, narrow: RealVllm
) -> None:
    """Turns of one session find the cache of the last; several sessions use both containers; their names stay here."""
    names = [f"conversation-{number}" for number in range(6)]
    async with (
        awake([long, narrow], containers=2) as front,
        before(tmp_path, front, {"first": long}, always_on=2) as (endpoint, openai),
    ):
        for _ in range(2):
            for name in names:
                assert await ask(openai, extra_headers={"x-sluice-session-id": name})
        kept, lost = front.containers
        used = [set(kept.sessions), set(lost.sessions)]
        assert all(used)
        assert used[0].isdisjoint(used[1])
        assert len(used[0] | used[1]) == len(names)
        front.lose(lost)
        for name in names:
            assert await ask(openai, extra_headers={"x-sluice-session-id": name})
        assert set(kept.sessions) == used[0] | used[1]
        assert all(len(told) == 1 for told in await attempts(endpoint))
    assert not any(name in session for name in names for session in kept.sessions)
