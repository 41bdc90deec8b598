"""An endpoint before servers that no Modal runs: llama.cpp at an address, and Deployments of Kubernetes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pricing.clock import ScaledClock
from support.endpoint import Endpoint, Policy, events, policy, serving
from support.kubernetes_api import NAMESPACE, TOKEN, FakeDeployment, FakePod, kubernetes_api
from support.llama_server import LlamaServer, llama_server

LLAMA: Policy = {
    "model": "qwen3-4b",
    "quantization": "fp16",
    "gpu": "T4",
    "engine": "llama.cpp",
    "engine_version": "6000",
    "max_model_len": 4096,
    "boot_s": 1,
    "scaledown_window_s": 2,
}
ENVIRON = {"KUBE_TOKEN": TOKEN}


def files(url: str, **sections: Any) -> Policy:
    """`chat` on one llama.cpp server alone; always there, unless the endpoint says otherwise."""
    return policy(
        classes={"chat": {"ladder": {"premium": ["local"]}}},
        pools={"local": LLAMA},
        aliases={},
        **{"endpoints": {"local": {"url": url, "always_on": 1}}, **sections},
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nothing tells of it, so it is looked at
            await asyncio.sleep(0.01)


async def test_a_llama_server_serves_and_is_metered_by_its_seconds(tmp_path: Path) -> None:
    """Whole and streamed, with the cost of the GPU's seconds in its usage."""
    async with llama_server() as llama, serving(tmp_path, files(llama.url)) as endpoint:
        whole = await endpoint.chat()
        assert (whole.status, whole.headers["x-sluice-pool"]) == (200, "local")
        assert whole.json["usage"]["cost"] > 0
        streamed = await endpoint.chat(stream=True, stream_options={"include_usage": True})
        assert events(streamed.body)[-1] == "[DONE]"
        [row, _] = await endpoint.requests(2)
        assert (row.prompt_tokens, row.completion_tokens) == (1, 5)


async def test_its_refusals_are_understood(tmp_path: Path) -> None:
    """Too long a prompt goes to a pool with more context, and so does a request that meets a model being loaded."""
    async with llama_server(n_ctx=1) as short, llama_server() as longer:
        changed = files(short.url)
        changed["pools"]["longer"] = {**LLAMA, "max_model_len": 8192, "gpu": "A10"}
        changed["classes"] = {"chat": {"objective": "listed", "ladder": {"premium": ["local", "longer"]}}}
        changed["endpoints"]["longer"] = {"url": longer.url, "always_on": 1}
        async with serving(tmp_path, changed) as endpoint:
            reply = await endpoint.chat(messages=[{"role": "user", "content": "more than one word"}])
            assert reply.headers["x-sluice-pool"] == "longer"
            await endpoint.request()
            outcomes = [(row.pool, row.outcome) for row in endpoint.rows()]
            assert outcomes == [("local", "context_overflow"), ("longer", "answered")]
            short.n_ctx, short.loading = 4096, True
            assert (await endpoint.chat()).headers["x-sluice-pool"] == "longer"
            await endpoint.requests(2)


async def test_others_load_shows_in_health_metrics_and_decisions(tmp_path: Path) -> None:
    """Requests that the engine has beyond ours make it slower, and fuller: the decision counts them."""
    async with llama_server(foreign=3) as llama, serving(tmp_path, files(llama.url)) as endpoint:
        await until(lambda: endpoint.service.live.state("local").foreign_in_flight == 3)
        [pool] = (await endpoint.ask("GET", "/health", "ops")).json["pools"].values()
        assert pool["engine"] == {
            "running": 3,
            "waiting": 0,
            "kv_usage": None,
            "preemptions": None,
            "containers": 1,
            "foreign": 3,
        }
        page = (await endpoint.ask("GET", "/metrics", "ops")).body.decode()
        assert 'sluice_pool_engine_requests_running{pool="local"} 3.0' in page
        assert 'sluice_pool_requests_foreign{pool="local"} 3.0' in page
        asked = {"model": "chat", "prompt_tokens": 100, "max_tokens": 100}
        beside = (await endpoint.ask("POST", "/v1/route", json=asked)).json["chosen"]["expected_seconds"]
        llama.foreign = 0
        await until(lambda: not endpoint.service.live.state("local").foreign_in_flight)
        alone = (await endpoint.ask("POST", "/v1/route", json=asked)).json["chosen"]["expected_seconds"]
        assert beside > alone
        llama.foreign = 1000
        await until(lambda: endpoint.service.live.state("local").foreign_in_flight == 1000)
        [full] = (await endpoint.ask("POST", "/v1/route", json=asked)).json["rejected"]
        assert (full["reason"], full["foreign_in_flight"]) == ("saturated", 1000)
        assert "and 1000 that others sent" in full["detail"]


async def test_our_own_requests_are_not_others(tmp_path: Path) -> None:
    """What was sent from here is in the engine's count, and taken off it."""
    async with llama_server(gate=asyncio.Event()) as llama, serving(tmp_path, files(llama.url)) as endpoint:
        running = asyncio.create_task(endpoint.chat())
        await until(lambda: _engine_runs(endpoint) == 1)
        assert endpoint.service.live.state("local").foreign_in_flight == 0
        assert llama.gate is not None
        llama.gate.set()
        assert (await running).status == 200
        await endpoint.request()


def _engine_runs(endpoint: Endpoint) -> int:
    load = endpoint.service.live.state("local").engine
    return 0 if load is None else load.running


async def test_a_server_without_the_page_is_asked_less_and_less(tmp_path: Path) -> None:
    """llama.cpp has it with `--metrics` only; nothing else suffers."""
    async with (
        llama_server(with_metrics=False) as llama,
        serving(tmp_path, files(llama.url), clock=ScaledClock(200)) as endpoint,
    ):
        await until(lambda: len(llama.asked) >= 2)
        assert (await endpoint.chat()).status == 200
        assert endpoint.service.live.state("local").engine is None
        await endpoint.request()


def on_kubernetes(llama: LlamaServer, api_url: str, **deployment: Any) -> Policy:
    ref = {"name": "vllm", **deployment}
    kubernetes = {"url": api_url, "token": "${KUBE_TOKEN}", "namespace": NAMESPACE, "deployments": {"local": ref}}
    return files(llama.url, endpoints={"local": {"url": llama.url}}, platform={"kubernetes": kubernetes})


async def test_a_deployment_is_woken_serves_and_is_put_to_sleep(tmp_path: Path) -> None:
    """0 to 1 when a request comes, which waits for the Pod to be ready; back to 0 after the scale-down window."""
    vllm = FakeDeployment()
    async with llama_server() as llama, kubernetes_api(vllm=vllm) as api:
        changed = on_kubernetes(llama, api.url, scale_to_zero=True)
        async with serving(tmp_path, changed, environ=ENVIRON) as endpoint:
            clock = endpoint.service.clock
            asked = asyncio.create_task(endpoint.chat())
            await until(lambda: vllm.replicas == 1)
            started_us = clock.wall_us()
            vllm.pods = [FakePod("a", started_us)]
            await until(lambda: endpoint.service.live.state("local").booting == 1)
            assert not asked.done()
            assert llama.bodies == []
            vllm.pods = [FakePod("a", started_us, clock.wall_us())]
            assert (await asked).status == 200
            await until(lambda: vllm.replicas == 0)
            vllm.pods = []
            await until(lambda: not endpoint.service.live.state("local").alive)
            await endpoint.request()


async def test_a_deployment_whose_scale_is_others_is_not_waited_for(tmp_path: Path) -> None:
    """Without a Pod it cannot serve, and the answer says who starts one; with one it serves."""
    vllm = FakeDeployment()
    async with (
        llama_server() as llama,
        kubernetes_api(vllm=vllm) as api,
        serving(tmp_path, on_kubernetes(llama, api.url), environ=ENVIRON) as endpoint,
    ):
        decision = (await endpoint.ask("POST", "/v1/route", json={"model": "chat"})).json
        [refused] = decision["rejected"]
        assert (refused["reason"], decision["warm"]) == ("not_deployed", None)
        assert "others start it" in refused["detail"]
        assert (await endpoint.ask("GET", "/health/chat")).json["status"] == "unavailable"
        assert (await endpoint.chat()).status == 503
        now_us = endpoint.service.clock.wall_us()
        vllm.pods = [FakePod("a", now_us, now_us)]
        await until(lambda: endpoint.service.live.state("local").ready == 1)
        assert (await endpoint.chat()).status == 200
        await endpoint.requests(2)
        assert vllm.replicas == 0
        assert not any(line.startswith("PATCH") for line in api.asked)


async def test_of_several_pods_others_load_is_the_sum_of_what_each_says(tmp_path: Path) -> None:
    """Each is asked at its own address, since behind the Service one of them would speak for itself alone."""
    vllm = FakeDeployment(2)
    async with (
        llama_server(host="127.0.0.2", foreign=3) as one,
        llama_server(host="127.0.0.3", port=one.port, foreign=4) as two,
        kubernetes_api(vllm=vllm) as api,
    ):
        now_us = ScaledClock().wall_us()
        vllm.pods = [FakePod(pod.host, now_us, now_us, ip=pod.host) for pod in (one, two)]
        changed = on_kubernetes(one, api.url, metrics_port=one.port)
        async with serving(tmp_path, changed, environ=ENVIRON) as endpoint:
            await until(lambda: endpoint.service.live.state("local").foreign_in_flight == 7)
            engine = endpoint.service.live.state("local").engine
            assert engine is not None
            assert (engine.running, engine.containers) == (7, 2)


async def test_a_pool_that_serves_goes_on_while_the_api_server_is_away(tmp_path: Path) -> None:
    """What was last known stays in force; the list is no empty one."""
    vllm = FakeDeployment(1)
    async with llama_server() as llama, kubernetes_api(vllm=vllm) as api:
        now_us = ScaledClock().wall_us()
        vllm.pods = [FakePod("a", now_us, now_us)]
        async with serving(tmp_path, on_kubernetes(llama, api.url), environ=ENVIRON) as endpoint:
            await until(lambda: endpoint.service.live.state("local").ready == 1)
            api.token = "another"
            asked = len(api.asked)
            await until(lambda: len(api.asked) >= asked + 2)
            assert (await endpoint.chat()).status == 200
            await endpoint.request()
