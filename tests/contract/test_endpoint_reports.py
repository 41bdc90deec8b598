"""`/v1/reports`, `/v1/costs` and `/v1/usage` over HTTP: who sees what, and what OpenAI's own client makes of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai.types.admin.organization.usage_completions_response import UsageCompletionsResponse
from openai.types.admin.organization.usage_costs_response import UsageCostsResponse
from typer.testing import CliRunner

from router.cli.main import app
from support.endpoint import KEYS, Endpoint, before_simulated, one_pool

SHORT: dict[str, Any] = {"max_tokens": 5}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """Two requests of acme and one of globex, answered."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as running:
        for key in ("acme", "acme", "globex"):
            assert (await running.chat(key, **SHORT)).status == 200
        await running.requests(3)
        await running.settled()
        yield running


async def reported(endpoint: Endpoint, query: str, key: str = "ops") -> Any:
    reply = await endpoint.ask("GET", f"/v1/reports?{query}", key)
    assert reply.status == 200, reply.body
    return reply.json


async def test_an_admin_sees_all_and_it_is_the_ledger(endpoint: Endpoint) -> None:
    """Every tenant has its line, container time stands apart, and all of it is the rows of money."""
    document = await reported(endpoint, "by=tenant&until=now&since=30d")
    assert {line["tenant"]: line["served"] for line in document["lines"]} == {"acme": 2, "globex": 1}
    apart = sum(line["amount_nusd"] for line in document["separate"])
    assert sum(line["total_nusd"] for line in document["lines"]) + apart == document["ledger_nusd"] > 0
    assert [pool["pool"] for pool in document["pools"]] == ["small"]


async def test_a_tenant_sees_its_own_rows_and_no_container_time(endpoint: Endpoint) -> None:
    """No line of another, no pool's use, no boot or idle; asking for more is refused, not cut down in silence."""
    document = await reported(endpoint, "by=tenant,pool&since=30d", "globex")
    assert [line["tenant"] for line in document["lines"]] == ["globex"]
    assert (document["separate"], "pools" in document) == ([], False)
    assert document["ledger_nusd"] == endpoint.charged_nusd("globex")
    for query in ("house=weighted", "house=even", "tenant=acme"):
        refused = await endpoint.ask("GET", f"/v1/reports?{query}", "globex")
        assert (refused.status, refused.code) == (403, "permission_denied")


async def test_without_a_key_nothing_is_shown(endpoint: Endpoint) -> None:
    """There is an admin key, so that this machine alone is no right to look."""
    assert (await endpoint.ask("GET", "/v1/reports", None)).status == 401


@pytest.mark.parametrize("view", ["weighted", "even"])
async def test_views_share_all_of_it(endpoint: Endpoint, view: str) -> None:
    """The only pool was used, so that nothing stands apart and the total is what it was."""
    separate = await reported(endpoint, "by=tenant&since=30d")
    shared = await reported(endpoint, f"by=tenant&since=30d&house={view}")
    assert shared["separate"] == []
    assert sum(line["total_nusd"] for line in shared["lines"]) == shared["ledger_nusd"] >= separate["ledger_nusd"]


async def test_csv_and_page(endpoint: Endpoint) -> None:
    """A spreadsheet's sum is the ledger's; the page runs nothing and fetches nothing."""
    sheet = await endpoint.ask("GET", "/v1/reports?by=tenant&since=30d&format=csv", "ops")
    rows = list(csv.DictReader(io.StringIO(sheet.body.decode())))
    assert sheet.headers["content-type"].startswith("text/csv")
    assert sum(Decimal(row["total_usd"]) for row in rows) > 0
    page = await endpoint.ask("GET", "/v1/reports?by=tenant&since=30d&format=html", "ops")
    assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert b"<svg" in page.body
    assert not [word for word in (b"<script", b"src=", b"href=", b"url(", b"@import") if word in page.body]


async def test_the_command_gives_the_same_json(endpoint: Endpoint) -> None:
    """`sluice report --format json` of the same window is the route's answer."""
    window = {"since": "2026-01-01T00:00Z", "until": "2026-01-01T00:01Z"}
    told = await reported(endpoint, "by=class,day&" + "&".join(f"{name}={value}" for name, value in window.items()))
    words = ["report", "--by", "class,day", "--format", "json", "--ledger", str(endpoint.ledger)]
    words += [word for name, value in window.items() for word in (f"--{name}", value)]
    assert json.loads(CliRunner().invoke(app, words).output) == told
    assert told["empty"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("by=tenat", "did you mean 'tenant'"),
        ("by=tenant,tenant", "twice"),
        ("since=yesterday", "write 90m, 24h, 7d"),
        ("since=1h&until=2h", "is not before"),
        ("house=fair", "there are: separate, weighted, even"),
        ("timezone=Mars/Base", "IANA name"),
        ("baseline=smal", "did you mean 'small'"),
        ("show=monny", "did you mean 'money'"),
        ("format=pdf", "json, csv, html"),
        ("group=tenant", "there is no parameter 'group' here"),
    ],
)
async def test_bad_questions_name_the_valid_ones(endpoint: Endpoint, query: str, says: str) -> None:
    """Each is a 400 that says what would be right."""
    reply = await endpoint.ask("GET", f"/v1/reports?{query}", "ops")
    assert (reply.status, reply.code) == (400, "invalid_value")
    assert says in reply.json["error"]["message"]


async def test_one_value_means_one(endpoint: Endpoint) -> None:
    """Two values of a parameter that takes one are refused everywhere, equal ones too, and so is a list of one."""
    routes = {
        "/v1/reports": "since",
        "/v1/costs": "start_time",
        "/v1/usage": "limit",
        "/v1/organization/costs": "bucket_width",
        "/v1/focus": "until",
        "/v1/decisions": "limit",
        "/budgets": "tenant",
    }
    for path, name in routes.items():
        for query in (f"{name}=1&{name}=2", f"{name}=1&{name}=1", f"{name}[]=1", f"{name}=1&{name}[]=1"):
            reply = await endpoint.ask("GET", f"{path}?{query}", "ops")
            assert (reply.status, reply.code) == (400, "invalid_value"), (path, query)
            assert reply.json["error"]["message"] == f"'{name}' takes one value; name it once, as {name}=…"
        unknown = await endpoint.ask("GET", f"{path}?{name}s=1", "ops")
        assert f"did you mean '{name}'" in unknown.json["error"]["message"]


async def test_latencies_by_tag_are_served(endpoint: Endpoint) -> None:
    """From the rows, where they are asked for; of all three requests together they are those by tenant."""
    by_tag = await reported(endpoint, "by=tag&since=30d&show=latency")
    by_tenant = await reported(endpoint, "by=tenant&since=30d&show=latency")
    assert by_tag["lines"][0]["latency_p50_s"] == by_tenant["total"]["latency_p50_s"] > 0
    assert "latency_p50_s" not in (await reported(endpoint, "by=tag&since=30d"))["total"]


async def test_groupings_may_be_repeated_or_joined(endpoint: Endpoint) -> None:
    """None of them is dropped, however they are written."""
    window = "since=2026-01-01T00:00Z&until=2026-01-01T00:01Z&show=money"
    joined = await reported(endpoint, f"by=tenant,pool,key&{window}")
    assert joined["by"] == ["tenant", "pool", "key"]
    for query in ("by=tenant&by=pool&by=key", "by=tenant,pool&by=key", "by[]=tenant&by[]=pool&by[]=key"):
        assert await reported(endpoint, f"{query}&{window}") == joined
    assert "failures" in await reported(endpoint, "by=tenant&since=30d&show=money&show=failures")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("start_time=2026-11-01", "'start_time': not whole seconds since 1970, such as 1790000000"),
        ("start_time=1790000000000", "instants are seconds, not milliseconds"),
        ("start_time=9&end_time=99999999999999999999", "instants are seconds, not milliseconds"),
        ("start_time=100&end_time=50", "end_time 50 must be after start_time 100"),
        ("group_by=project_id,model", "write group_by once for each"),
        ("bucket_width=1w", "not one of 1m, 1h, 1d"),
        ("limit=1000", "not between 1 and"),
        ("page=next", "not a cursor of this query"),
    ],
)
async def test_bad_pages_say_what_is_right(endpoint: Endpoint, query: str, says: str) -> None:
    """Of costs and of usage, whatever is wrong with the question."""
    for path in ("costs", "usage"):
        reply = await endpoint.ask("GET", f"/v1/{path}?{query}", "ops")
        assert (reply.status, reply.code) == (400, "invalid_value")
        assert says in reply.json["error"]["message"]


async def test_openais_client_reads_costs(endpoint: Endpoint) -> None:
    """Its admin API asks with its own parameters and finds amounts, line items and projects where it expects them."""
    client = endpoint.client(admin_api_key=KEYS["ops"])
    page = await client.admin.organization.usage.costs(
        start_time=1, group_by=["project_id", "line_item"], line_items=["gpu.busy"], limit=1
    )
    assert (page.has_more, page.data[0].start_time) == (True, 0)
    start_s = int(endpoint.service.clock.wall_us() // 10**6) - 86_400
    page = await client.admin.organization.usage.costs(start_time=start_s, group_by=["project_id", "line_item"])
    found = {
        (result.project_id, result.line_item): result.amount.value
        for bucket in page.data
        for result in bucket.results
        if result.object == "organization.costs.result" and result.amount
    }
    assert round((found["acme", "gpu.busy"] or 0) * 1e9) == endpoint.charged_nusd("acme")


@pytest.mark.parametrize("path", ["costs", "usage", "organization/costs", "organization/usage/completions"])
async def test_another_tenants_project_is_refused(endpoint: Endpoint, path: str) -> None:
    """Not answered with the caller's own sums, alone or beside its own name, in either spelling; its own is."""
    for query in ("project_ids=acme", "project_ids[]=acme", "project_ids=globex&project_ids=acme"):
        refused = await endpoint.ask("GET", f"/v1/{path}?{query}", "globex")
        assert (refused.status, refused.code) == (403, "permission_denied"), query
        assert (await endpoint.ask("GET", f"/v1/{path}?{query}", "ops")).status == 200
    own = [(await endpoint.ask("GET", f"/v1/{path}{query}", "globex")) for query in ("", "?project_ids=globex")]
    assert [one.status for one in own] == [200, 200]
    assert own[0].json["data"] == own[1].json["data"]


async def test_openais_client_reads_usage(endpoint: Endpoint) -> None:
    """Requests and tokens by model, of the model asked for alone."""
    client = endpoint.client(admin_api_key=KEYS["ops"])
    start_s = int(endpoint.service.clock.wall_us() // 10**6) - 86_400
    page = await client.admin.organization.usage.completions(
        start_time=start_s, bucket_width="1h", group_by=["model", "project_id"], models=["chat"], limit=30
    )
    counted: dict[str | None, int] = {}
    for bucket in page.data:
        for result in bucket.results:
            assert result.object == "organization.usage.completions.result"
            counted[result.project_id] = counted.get(result.project_id, 0) + result.num_model_requests
    assert counted == {"acme": 2, "globex": 1}


@pytest.mark.parametrize(("path", "model"), [("costs", UsageCostsResponse), ("usage", UsageCompletionsResponse)])
async def test_pages_have_openais_shape_to_the_type(endpoint: Endpoint, path: str, model: Any) -> None:
    """Strictly: no string where a number belongs, every field of ours that is theirs has their type."""
    for group in ("", "&group_by=project_id", "&group_by[]=api_key_id&group_by[]=model"):
        reply = await endpoint.ask("GET", f"/v1/{path}?limit=2{group}", "ops")
        model.model_validate(reply.json, strict=True)


@pytest.mark.parametrize("query", ["user_ids=a", "batch=true", "models=chat", "group_by=user_id", "line_items=cpu"])
async def test_filters_that_are_not_kept_are_refused(endpoint: Endpoint, query: str) -> None:
    """A filter that nobody applies would show too much."""
    reply = await endpoint.ask("GET", f"/v1/costs?{query}", "ops")
    assert (reply.status, reply.code) == (400, "invalid_value")
