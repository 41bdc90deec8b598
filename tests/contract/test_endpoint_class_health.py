"""`GET /health/{model}`: whether a class would be served, and how soon, without touching a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.endpoint import before_simulated, policy


async def test_a_class_is_asleep_until_something_wakes_it(tmp_path: Path) -> None:
    """Health wakes nothing and costs nothing; once a pool of the ladder is up, the class is ready."""
    async with before_simulated(tmp_path) as endpoint:
        for _ in range(3):
            asleep = await endpoint.ask("GET", "/health/chat", None)
        assert (asleep.status, asleep.json["status"], asleep.json["ready_in_s"]) == (200, "asleep", 1.0)
        assert endpoint.pools is not None
        assert sum(bill["alive_us"] for bill in endpoint.pools.bill().values()) == 0
        await endpoint.wake("mid")
        ready = (await endpoint.ask("GET", "/health/chat", None)).json
        assert (ready["status"], ready["ready_in_s"], ready["class"], ready["tier"]) == (
            "ready",
            0.0,
            "chat",
            "standard",
        )


@pytest.mark.parametrize(
    ("model", "tier", "pools"),
    [
        ("chat", "standard", ["mid", "other", "big"]),
        ("chat:premium", "premium", ["big"]),
        ("gpt-4o-mini", "economy", ["small", "mid", "other", "big"]),
        ("other", None, ["other"]),
    ],
)
async def test_it_tells_of_the_pools_that_a_request_might_get(
    tmp_path: Path, model: str, tier: str | None, pools: list[str]
) -> None:
    """A class counts from its tier up, an alias as what it stands for, a pool alone; pools are named to admins only."""
    async with before_simulated(tmp_path) as endpoint:
        report = (await endpoint.ask("GET", f"/health/{model}", "ops")).json
        told = (await endpoint.ask("GET", f"/health/{model}", "acme")).json
    assert (report["tier"], list(report["pools"])) == (tier, pools)
    assert told == {name: value for name, value in report.items() if name != "pools"}


async def test_a_class_whose_pools_are_all_out_is_unavailable(tmp_path: Path) -> None:
    """Drained pools serve nobody: 503, as a load balancer wants it, for that tier and not for the one below."""
    async with before_simulated(tmp_path, policy(drained=["big"])) as endpoint:
        out = await endpoint.ask("GET", "/health/chat:premium", None)
        assert (out.status, out.json["status"], out.json["ready_in_s"]) == (503, "unavailable", None)
        detailed = await endpoint.ask("GET", "/health/chat:premium", "ops")
        assert detailed.json["pools"]["big"]["drained"] is True
        assert (await endpoint.ask("GET", "/health/chat:economy", None)).status == 200
        assert (await endpoint.ask("GET", "/health/pictures", None)).status == 503  # no pool of it is deployed


async def test_an_unknown_class_is_named_with_the_nearest(tmp_path: Path) -> None:
    """404 in OpenAI's shape; the routes with words of their own stay what they are."""
    async with before_simulated(tmp_path) as endpoint:
        unknown = await endpoint.ask("GET", "/health/chatt", None)
        assert (unknown.status, unknown.code) == (404, "model_not_found")
        assert "chat" in unknown.json["error"]["message"]
        assert (await endpoint.ask("GET", "/health/liveness", None)).json == {"status": "ok"}
