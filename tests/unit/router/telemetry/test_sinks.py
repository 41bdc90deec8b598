"""Those who listen to events: one line each in the log, one count each in the metrics."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pools.live.state import BreakerState, PoolState
from pricing.ledger.rows import Evidence, SchemaResult
from router.errors import ERRORS
from router.telemetry.events import (
    AttemptEnded,
    CapExhausted,
    CapWarned,
    Event,
    Fanout,
    PolicyRefused,
    PolicyReloaded,
    PoolMisconfigured,
    RateLimitHit,
    RequestEnded,
    StoreBack,
    StoreTrouble,
)
from router.telemetry.log import LOGGER, JsonLines, LogSink
from router.telemetry.metrics import DURATION_S, FIRST_TOKEN_S, TOKENS, MetricsSink
from support.values import replace

ATTEMPT = AttemptEnded(
    request_id="req_1",
    attempt=1,
    pool="l4",
    gpu="L4",
    request_class="chat",
    outcome="answered",
    detail="",
    charge_nusd=1_500,
    duration_us=2_000_000,
    ttft_us=300_000,
    schema_result=SchemaResult.KEPT,
    paid_nusd=1_400,
    busy_us=6_750,
    evidence=Evidence.OBSERVED,
)
GEN_AI = (
    'gen_ai_operation_name="text_completion",gen_ai_provider_name="vllm",gen_ai_request_model="chat",'
    'gen_ai_response_model="qwen3-4b"'
)


def ended(**more: Any) -> RequestEnded:
    plain = {
        "request_id": "req_1",
        "tenant": "acme",
        "key_id": "acme-key",
        "endpoint": "/v1/completions",
        "request_class": "chat",
        "tier": "standard",
        "pool": "l4",
        "outcome": "served",
        "status": 200,
        "error_code": None,
        "attempts": 1,
        "stream": True,
        "duration_us": 2_000_000,
        "ttft_us": 400_000,
        "charge_nusd": 1_500,
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "model": "qwen3-4b",
        "engine": "vllm",
        "baseline_nusd": 4_000,
        "writing_us": 1_200_000,
    }
    return RequestEnded(**{**plain, **more})


EVENTS: list[Event] = [
    ATTEMPT,
    ended(lowered_by="acme/day"),
    PolicyReloaded("v2", "v1"),
    PolicyRefused("v2", ("policy.yaml:3: no",)),
    PoolMisconfigured("l4", "refuses our credentials"),
    StoreTrouble("reject", "full"),
    CapWarned("acme/day", "tenant:acme", "24h", 8, 10),
]

QUIET: list[Event] = [
    CapExhausted("acme/day", "tenant:acme", "24h", 8, 1, 10, 5),
    RateLimitHit("acme", "acme-1", "tenant:acme", "tokens", 1_000),
]
"""What the line of the refused request says already."""


@pytest.fixture(autouse=True)
def at_info() -> Iterator[None]:
    """The level that `sluice serve` starts with."""
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(before)


async def logged(*events: Event) -> list[Any]:
    """The lines of these events, decoded."""
    stream = io.StringIO()
    sink = LogSink(stream)
    Fanout((sink,)).emit(events[0])
    for event in events[1:]:
        sink.emit(event)
    assert stream.getvalue() == ""  # lines wait a moment for others
    sink.flush()
    sink.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_each_event_is_one_line_with_its_fields() -> None:
    """Level, event and fields with units; what went well at an attempt is not worth a line."""
    lines = await logged(*EVENTS, *QUIET)
    assert [line["event"] for line in lines] == [type(event).__name__ for event in EVENTS[1:]]
    assert lines[0]["level"] == "info"
    assert (lines[0]["duration_us"], lines[0]["tenant"]) == (2_000_000, "acme")
    assert lines[1]["level"] == "info"
    assert (lines[1]["version"], lines[1]["before"]) == ("v2", "v1")
    assert (lines[2]["in_force"], lines[2]["problems"]) == ("v2", ["policy.yaml:3: no"])
    assert {line["level"] for line in lines[2:]} == {"warning"}


async def test_an_outage_is_said_once_and_counted_at_its_end() -> None:
    """Not with every request that it refuses; the next outage is said again."""
    troubles = [
        StoreTrouble("down", "gone"),
        *[StoreTrouble("reject", "gone"), StoreTrouble("unrecorded", "gone")] * 40,
    ]
    lines = await logged(*troubles, StoreBack(33.0), *troubles)
    said = [line.get("decision", line["event"]) for line in lines]
    assert said == ["down", "reject", "unrecorded", "StoreBack", "down", "reject", "unrecorded"]
    assert (lines[3]["down_s"], lines[3]["troubles"]) == (33.0, {"down": 1, "reject": 40, "unrecorded": 40})


@pytest.mark.parametrize("code", sorted(ERRORS))
async def test_a_request_s_line_has_the_level_of_its_error(code: str) -> None:
    """The table of errors says which are worth a warning; those below the level are not written."""
    lines = await logged(ended(error_code=code, status=ERRORS[code].status), CapWarned("c", "s", "24h", 1, 1))
    level = logging.getLevelName(ERRORS[code].log_level).lower()
    assert [line["level"] for line in lines] == [level, "warning"]


def test_a_record_with_an_error_is_one_line_too() -> None:
    """A traceback stays inside its JSON string."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("sluice", logging.ERROR, __file__, 1, "a fault", (), info)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ZeroDivisionError" in json.loads(line)["error"]


def values(sink: MetricsSink) -> dict[str, float]:
    lines = sink.text().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_each_event_counts_where_it_belongs() -> None:
    """Requests, attempts, tokens, dollars, reloads, alarms; nothing by tenant."""
    sink = MetricsSink(dict)
    sink.policy_in_force("v1")
    for event in (*EVENTS, *QUIET):
        sink.emit(event)
    found = values(sink)
    expected = {
        'sluice_requests_total{class="chat",code="",outcome="served",status="200",tier="standard"}': 1,
        'sluice_attempts_total{outcome="answered",pool="l4"}': 1,
        'sluice_schema_answers_total{pool="l4",result="kept"}': 1,
        f'gen_ai_client_token_usage_sum{{{GEN_AI},gen_ai_token_type="input"}}': 3,
        f'gen_ai_client_token_usage_sum{{{GEN_AI},gen_ai_token_type="output"}}': 5,
        f'gen_ai_client_token_usage_bucket{{{GEN_AI},gen_ai_token_type="output",le="4.0"}}': 0,
        f'gen_ai_client_token_usage_bucket{{{GEN_AI},gen_ai_token_type="output",le="16.0"}}': 1,
        f'gen_ai_server_request_duration_seconds_sum{{error_type="",{GEN_AI}}}': 2,
        f'gen_ai_server_time_to_first_token_seconds_sum{{{GEN_AI},pool="l4"}}': 0.4,
        f'gen_ai_server_time_per_output_token_seconds_sum{{{GEN_AI},pool="l4"}}': 0.3,
        'sluice_attempts_usd_total{outcome="answered",pool="l4"}': 1.5e-6,
        'sluice_charged_usd_total{pool="l4"}': 1.4e-6,
        'sluice_house_usd_total{account="__overrun__",pool="l4"}': 1e-7,
        'sluice_container_seconds_total{evidence="observed",phase="busy",pool="l4"}': 0.00675,
        'sluice_baseline_usd_total{class="chat"}': 4e-6,
        'sluice_baseline_charged_usd_total{class="chat"}': 1.5e-6,
        'sluice_config_reloads_total{result="taken"}': 1,
        'sluice_config_reloads_total{result="refused"}': 1,
        'sluice_config_info{version="v2"}': 1,
        'sluice_pool_misconfigured_total{pool="l4"}': 1,
        'sluice_store_trouble_total{decision="reject"}': 1,
        "sluice_cap_warnings_total": 1,
        "sluice_cap_refusals_total": 1,
        'sluice_rate_limited_total{dimension="tokens"}': 1,
        'sluice_tier_lowered_total{class="chat"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert 'sluice_config_info{version="v1"}' not in found
    assert "acme" not in sink.text().decode()


def test_a_request_that_never_had_a_pool_counts_as_a_request() -> None:
    """Refused before any attempt: no pool, no tokens, no money."""
    sink = MetricsSink(dict)
    sink.emit(
        ended(
            pool=None,
            model="",
            engine="",
            baseline_nusd=None,
            ttft_us=None,
            outcome="refused",
            status=429,
            error_code="budget_exceeded",
            charge_nusd=0,
            prompt_tokens=None,
            completion_tokens=None,
        )
    )
    found = values(sink)
    labels = 'class="chat",code="budget_exceeded",outcome="refused",status="429",tier="standard"'
    assert found[f"sluice_requests_total{{{labels}}}"] == 1
    labels = GEN_AI.replace("vllm", "sluice").replace("qwen3-4b", "")
    assert found[f'gen_ai_server_request_duration_seconds_count{{error_type="budget_exceeded",{labels}}}'] == 1
    others = ("sluice_charged", "sluice_baseline", "gen_ai_client", "gen_ai_server_time")
    assert not [name for name in found if name.startswith(others)]


def test_only_what_was_served_says_how_fast_tokens_came() -> None:
    """A stream that broke has an error's type and its tokens, and no times of tokens; neither has what came whole."""
    sink = MetricsSink(dict)
    sink.emit(ended(outcome="broken", error_code=None))
    sink.emit(ended(stream=False, ttft_us=None, writing_us=None))
    sink.emit(ended(completion_tokens=1))
    found = values(sink)
    assert found[f'gen_ai_server_request_duration_seconds_count{{error_type="broken",{GEN_AI}}}'] == 1
    assert found[f'gen_ai_server_request_duration_seconds_count{{error_type="",{GEN_AI}}}'] == 2
    assert found[f'gen_ai_server_time_to_first_token_seconds_count{{{GEN_AI},pool="l4"}}'] == 1
    assert not [name for name in found if "time_per_output_token" in name]


@pytest.mark.parametrize(
    ("endpoint", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/generate", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/images/generations", "generate_content"),
        ("/v1/videos", "generate_content"),
    ],
)
def test_endpoints_are_operations_as_the_conventions_name_them(endpoint: str, operation: str) -> None:
    """Pictures and clips are content that is generated."""
    sink = MetricsSink(dict)
    sink.emit(ended(endpoint=endpoint))
    assert f'gen_ai_operation_name="{operation}"' in sink.text().decode()


def test_buckets_are_those_of_the_conventions_and_reach_over_a_boot() -> None:
    """OpenTelemetry's boundaries, each with others of ours beyond where a request may wait for a container."""
    assert DURATION_S[:14] == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert TOKENS == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert (FIRST_TOKEN_S[0], FIRST_TOKEN_S[15]) == (0.001, 10.0)
    assert max(FIRST_TOKEN_S) > 300
    assert max(DURATION_S) > 600


def test_tenants_have_series_only_where_somebody_asked_for_them() -> None:
    """So many by name; those that come later are counted together, and nobody twice."""
    sink = MetricsSink(dict, tenants=2)
    for tenant in ("acme", "globex", "initech", "acme", "umbrella"):
        sink.emit(ended(tenant=tenant))
    found = values(sink)
    requests = {
        tenant: found.get(f'sluice_tenant_requests_total{{outcome="served",tenant="{tenant}"}}')
        for tenant in ("acme", "globex", "initech", "__others__")
    }
    assert requests == {"acme": 2, "globex": 1, "initech": None, "__others__": 2}
    assert found['sluice_tenant_charged_usd_total{tenant="acme"}'] == 3e-6
    assert found['sluice_tenant_tokens_total{tenant="__others__",type="output"}'] == 10


def test_attempts_that_the_house_pays_for_are_failed_ones() -> None:
    """All of its cost, on the account of failed attempts."""
    sink = MetricsSink(dict)
    sink.emit(replace(ATTEMPT, outcome="timeout", paid_nusd=0, house_pays=True))
    found = values(sink)
    assert found['sluice_house_usd_total{account="__failed__",pool="l4"}'] == 1.5e-6
    assert found['sluice_attempts_usd_total{outcome="timeout",pool="l4"}'] == 1.5e-6
    assert found['sluice_charged_usd_total{pool="l4"}'] == 0


def test_pools_show_as_they_are_when_somebody_looks() -> None:
    """Gauges are read at scrape time; pools without an endpoint are left out."""
    states = {
        "l4": PoolState(ready=2, booting=1, in_flight=5, breaker=BreakerState.HALF_OPEN, misconfigured=True),
        "gone": PoolState(deployed=False),
    }
    found = values(MetricsSink(lambda: states))
    assert found['sluice_pool_containers_ready{pool="l4"}'] == 2
    assert found['sluice_pool_containers_booting{pool="l4"}'] == 1
    assert found['sluice_pool_requests_in_flight{pool="l4"}'] == 5
    assert found['sluice_pool_breaker{pool="l4"}'] == 1
    assert found['sluice_pool_needs_operator{pool="l4"}'] == 1
    assert not [name for name in found if "gone" in name]
