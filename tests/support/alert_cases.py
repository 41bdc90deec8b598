"""For each alert, series that make it fire and others, close to those, that do not."""

from __future__ import annotations

from typing import Final

from support.promtool import Case, Series

SILENT: Final = ()
_GROWING = "0+30x400"
CHAT = ({"class": "chat"},)
L4 = ({"pool": "l4"},)
A = ({"instance": "a"},)
FALLBACKS = 'sluice_fallbacks_total{class="chat",outcome="served"}'
BOOTS = 'sluice_boots_total{pool="l4"}'
CHARGED = 'sluice_charged_usd_total{pool="l4"}'
WEBHOOK = 'sluice_webhook_messages_total{event="cap_warned",outcome="failed"}'


def requests(**counts: str) -> Series:
    """Requests of class chat by outcome: `served`, `failed` (503), `broken` (in its stream), `refused` (429)."""
    labels = {
        "served": 'tier="premium",outcome="served",code="",status="200"',
        "failed": 'tier="premium",outcome="refused",code="all_pools_failed",status="503"',
        "broken": 'tier="premium",outcome="broken",code="",status="200"',
        "refused": 'tier="premium",outcome="refused",code="budget_exceeded",status="429"',
    }
    return {f'sluice_requests_total{{class="chat",{labels[name]}}}': values for name, values in counts.items()}


def first_tokens(within_10_s: str, within_20_s: str) -> Series:
    name, label = "gen_ai_server_time_to_first_token_seconds", 'gen_ai_request_model="chat",pool="l4"'
    return {
        f'{name}_bucket{{{label},le="10.0"}}': within_10_s,
        f'{name}_bucket{{{label},le="20.0"}}': within_20_s,
        f'{name}_bucket{{{label},le="+Inf"}}': within_20_s,
        f"{name}_count{{{label}}}": within_20_s,
    }


def house(account: str, values: str) -> Series:
    return {f'sluice_house_usd_total{{pool="l4",account="{account}"}}': values}


def returned(values: str) -> Series:
    return {'sluice_house_returned_usd_total{pool="l4",account="__adjustment__"}': values}


def attempts(outcome: str, values: str) -> Series:
    return {f'sluice_attempts_usd_total{{pool="l4",outcome="{outcome}"}}': values}


def seconds(**phases: str) -> Series:
    name = "sluice_container_seconds_total"
    return {f'{name}{{pool="l4",phase="{phase}",evidence="observed"}}': values for phase, values in phases.items()}


def schemas(**results: str) -> Series:
    return {f'sluice_schema_answers_total{{pool="l4",result="{result}"}}': values for result, values in results.items()}


def versions(**instances: str) -> Series:
    return {
        f'sluice_config_info{{version="{version}",instance="{name}"}}': "1x60" for name, version in instances.items()
    }


def breakers(**instances: str) -> Series:
    return {f'sluice_pool_breaker{{pool="l4",instance="{name}"}}': values for name, values in instances.items()}


def containers(**states: str) -> Series:
    return {f'sluice_pool_containers_{state}{{pool="l4",instance="a"}}': values for state, values in states.items()}


def looks(**results: str) -> Series:
    return {f'sluice_platform_looks_total{{result="{result}"}}': values for result, values in results.items()}


CASES: Final = (
    Case("SluiceAbsent", {"up": "1x60"}),
    Case("SluiceAbsent", {'sluice_config_info{version="v1",instance="a"}': "1x60"}, SILENT),
    Case("SluiceAbsent", {'sluice_config_info{version="v1"}': "1x57 stale"}, SILENT),
    Case(
        "SluiceLoopDead", {'sluice_loops_dead{instance="a"}': "0x50 1x10", 'sluice_loops_dead{instance="b"}': "0x60"}, A
    ),
    Case("SluiceLoopDead", {'sluice_loops_dead{instance="a"}': "0x60"}, SILENT),
    Case("SluiceErrorsHigh", requests(served=_GROWING, failed="0+2x60"), CHAT),
    Case("SluiceErrorsHigh", requests(served=_GROWING, broken="0+2x60"), CHAT),
    Case("SluiceErrorsHigh", requests(served=_GROWING, failed="0+1x60"), SILENT),
    Case("SluiceErrorsHigh", requests(served=_GROWING, refused="0+20x60"), SILENT),
    Case("SluiceErrorsHigh", requests(failed="0+1x60"), SILENT),
    Case("SluiceErrorsHigh", requests(served=_GROWING, failed="0x57 10 20 30"), SILENT),
    Case("SluicePremiumNotServed", requests(served="0+3x30 90x30", failed="0+1x60"), CHAT),
    Case("SluicePremiumNotServed", requests(failed="0+1x60"), CHAT),
    Case("SluicePremiumNotServed", requests(served="0+1x60", failed="0+9x60"), SILENT),
    Case("SluicePremiumNotServed", requests(refused="0+9x60"), SILENT),
    Case("SluicePremiumNotServed", {}, SILENT),
    Case("SluiceFirstTokenSlow", first_tokens("0+9x60", "0+10x60"), ({"gen_ai_request_model": "chat"},)),
    Case("SluiceFirstTokenSlow", first_tokens("0+98x60", "0+100x60"), SILENT),
    Case("SluiceFirstTokenSlow", first_tokens("0x60", "0+1x60"), SILENT),
    Case("SluiceFallbacksHigh", {**requests(served=_GROWING), FALLBACKS: "0+9x60"}, CHAT),
    Case("SluiceFallbacksHigh", {**requests(served=_GROWING), FALLBACKS: "0+4x60"}, SILENT),
    Case("SluiceFallbacksHigh", {**requests(served="0+1x60"), FALLBACKS: "0+1x60"}, SILENT),
    Case("SluiceSchemasBroken", schemas(kept="0+9x60", broken="0+3x60"), L4),
    Case("SluiceSchemasBroken", schemas(kept="0+99x60", broken="0+3x60"), SILENT),
    Case("SluiceSchemasBroken", schemas(kept="0+9x60", cut="0+9x60"), SILENT),
    Case("SluiceConfigRefused", {'sluice_config_last_reload_successful{instance="a"}': "1x50 0x10"}, A),
    Case("SluiceConfigRefused", {'sluice_config_last_reload_successful{instance="a"}': "1x57 0x3"}, SILENT),
    Case("SluicePoliciesDiffer", versions(a="v1", b="v2")),
    Case("SluicePoliciesDiffer", versions(a="v1", b="v1"), SILENT),
    Case("SluicePoolBreakerOpen", breakers(a="0x40 2 1 2x30", b="2x100"), L4),
    Case("SluicePoolBreakerOpen", breakers(a="0x100", b="2x100"), SILENT),
    Case("SluicePoolBreakerOpen", breakers(a="0x50 2x5 0 2x20"), SILENT),
    Case("SluicePoolNeedsOperator", {'sluice_pool_needs_operator{pool="l4",instance="a"}': "0x50 1x20"}, L4),
    Case("SluicePoolNeedsOperator", {'sluice_pool_needs_operator{pool="l4",instance="a"}': "0x60"}, SILENT),
    Case("SluiceBootSlow", containers(ready="0x60", booting="0x30 1x40"), L4),
    Case("SluiceBootSlow", containers(ready="0x30 1x5 0x40", booting="0x30 1x5 1x40"), L4),
    Case("SluiceBootSlow", containers(ready="2x60", booting="1x60"), SILENT),
    Case("SluiceBootSlow", containers(ready="0x60", booting="0x50 1x10"), SILENT),
    Case("SluiceBootsFail", {**containers(ready="0x60"), BOOTS: "0x20 1x10 2x10 3x10 4x20"}, L4),
    Case("SluiceBootsFail", {**containers(ready="0x40 1 0x20"), BOOTS: "0x20 1x10 2x10 3x10 4x20"}, SILENT),
    Case("SluiceBootsFail", {**containers(ready="0x60"), BOOTS: "0x50 1x20"}, SILENT),
    Case("SluicePlatformUnseen", looks(listed="0+5x20 100x50", failed="0x20 0+5x50")),
    Case("SluicePlatformUnseen", looks(listed="0+5x60", failed="0+1x60"), SILENT),
    Case("SluicePlatformUnseen", looks(listed="0x60", failed="0x60"), SILENT),
    Case("SluiceStoreDown", {'sluice_store_down{instance="a"}': "0x57 1x10"}, A),
    Case("SluiceStoreDown", {'sluice_store_down{instance="a"}': "0x59 1"}, SILENT),
    Case("SluiceStoreWeak", {'sluice_store_weaknesses{instance="a"}': "1x60"}),
    Case("SluiceStoreWeak", {'sluice_store_weaknesses{instance="a"}': "0x60"}, SILENT),
    Case("SluiceLedgerBehind", {'sluice_ledger_backlog_age_seconds{instance="a"}': "0x40 0+60x30"}),
    Case("SluiceLedgerBehind", {'sluice_ledger_backlog_age_seconds{instance="a"}': "30x60"}, SILENT),
    Case("SluiceLedgerPoison", {'sluice_ledger_poison_entries{instance="a"}': "0x50 2x20"}),
    Case("SluiceLedgerPoison", {'sluice_ledger_poison_entries{instance="a"}': "0x60"}, SILENT),
    Case("SluiceCapsRefuse", {**requests(served=_GROWING), "sluice_cap_refusals_total": "0+5x60"}),
    Case("SluiceCapsRefuse", {**requests(served=_GROWING), "sluice_cap_refusals_total": "0+2x60"}, SILENT),
    Case("SluiceCapsRefuse", {**requests(served="0+1x60"), "sluice_cap_refusals_total": "0+1x60"}, SILENT),
    Case("SluiceOverrunHigh", {**house("__overrun__", "0+0.01x90"), CHARGED: "0+0.1x90"}, L4, 90),
    Case("SluiceOverrunHigh", {**house("__overrun__", "0+0.01x90"), CHARGED: "0+1x90"}, SILENT, 90),
    Case("SluiceOverrunHigh", {**house("__overrun__", "0+0.001x90"), CHARGED: "0+0.01x90"}, SILENT, 90),
    Case("SluiceFailedAttemptsCostly", {**attempts("answered", "0+0.1x90"), **attempts("timeout", "0+0.1x90")}, L4, 90),
    Case("SluiceFailedAttemptsCostly", {**attempts("answered", "0+0.1x90"), **attempts("cut", "0+0.1x90")}, SILENT, 90),
    Case(
        "SluiceFailedAttemptsCostly", {**attempts("answered", "0+1x90"), **attempts("timeout", "0+0.1x90")}, SILENT, 90
    ),
    Case("SluiceIdleHigh", {**house("__idle__", "0+0.1x480"), **seconds(idle="0+60x480", busy="0+6x480")}, L4, 480),
    Case(
        "SluiceIdleHigh", {**house("__idle__", "0+0.1x480"), **seconds(idle="0+60x480", busy="0+30x480")}, SILENT, 480
    ),
    Case("SluiceIdleHigh", {**house("__idle__", "0+0.001x480"), **seconds(idle="0+60x480")}, SILENT, 480),
    Case("SluiceBootsCostly", {**house("__boot__", "0+0.1x480"), **attempts("answered", "0+0.05x480")}, L4, 480),
    Case("SluiceBootsCostly", house("__boot__", "0+0.1x480"), L4, 480),
    Case("SluiceBootsCostly", {**house("__boot__", "0+0.1x480"), **attempts("answered", "0+0.2x480")}, SILENT, 480),
    Case("SluiceBootsCostly", house("__boot__", "0+0.01x480"), SILENT, 480),
    Case(
        "SluiceAdjustmentLarge",
        {**house("__adjustment__", "0x480"), **returned("0+0.1x480"), **attempts("answered", "0+0.5x480")},
        L4,
        480,
    ),
    Case("SluiceAdjustmentLarge", {**house("__adjustment__", "0+0.1x480"), **returned("0x480")}, L4, 480),
    Case(
        "SluiceAdjustmentLarge",
        {
            **house("__adjustment__", "0+0.05x480"),
            **returned("0+0.02x480"),
            **house("__idle__", "0+0.5x480"),
            **attempts("answered", "0+0.5x480"),
        },
        SILENT,
        480,
    ),
    Case("SluiceAdjustmentLarge", {**house("__adjustment__", "0+0.001x480"), **returned("0x480")}, SILENT, 480),
    Case("SluiceWebhooksFail", {WEBHOOK: "_x50 1x20"}, ({"event": "cap_warned"},)),
    Case("SluiceWebhooksFail", {WEBHOOK: "1x50 2x20"}, ({"event": "cap_warned"},)),
    Case("SluiceWebhooksFail", {WEBHOOK: "1x60"}, SILENT),
    Case("SluiceWebhooksFail", {WEBHOOK.replace("failed", "delivered"): "_x50 1x20"}, SILENT),
)

SUMMARIES: Final = (
    Case(
        "SluiceErrorsHigh",
        requests(served="0+3x60", failed="0+1x60"),
        CHAT,
        summary="Class chat: 25% of requests fail for no fault of their clients.",
    ),
    Case(
        "SluiceBootsCostly",
        house("__boot__", "0+0.1x480"),
        L4,
        480,
        summary="Pool l4: 36.00 dollars of boots in six hours, more than its requests cost.",
    ),
    Case(
        "SluiceLedgerBehind",
        {'sluice_ledger_backlog_age_seconds{instance="a"}': "600x60"},
        summary="Rows have waited 10m 0s for PostgreSQL.",
    ),
)
"""What is told, with its numbers."""
