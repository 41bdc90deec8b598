"""Requests under way, for tests of the steps that they go through; the shipped policy, unless another is given."""

from __future__ import annotations

import json
from typing import Any

from policies.choose.decide import decide
from policies.choose.decision import Candidate
from policies.policy import Policy, RequestClass
from policies.requirements import Requirements, Tier
from pricing.budgets.caps import Scope, ScopeKind
from pricing.clock import US_PER_S, ManualClock
from router.inbound.callers import Caller
from router.inbound.request import CHAT_PATH, parse
from router.interrupts import Interrupts
from router.money.accounting import Attempt, Spender
from router.serving.chain import AttemptReport, Chain
from support.choosing import facts, needs, shipped

ACME = Caller("acme", "acme-key", frozenset(), None, ("team",))


def chain(
    clock: ManualClock,
    requirements: Requirements | None = None,
    *,
    request_class: RequestClass | None = None,
    policy: Policy | None = None,
    client_s: float | None = None,
    **body: Any,
) -> Chain:
    """A request that has just come in. To be made inside a running event loop."""
    wanted = requirements or needs("chat")
    found = policy or shipped()
    chosen = request_class or found.classes[wanted.request_class]
    sent = {"model": wanted.request_class, "messages": [{"role": "user", "content": "hello"}], **body}
    now_us = clock.mono_us()
    return Chain(
        request_id="req_1",
        parsed=parse(CHAT_PATH, json.dumps(sent).encode()),
        caller=ACME,
        policy=found,
        request_class=chosen,
        requirements=wanted,
        interrupts=Interrupts(),
        started_us=now_us,
        wall_us=clock.wall_us(),
        first_byte_deadline_us=now_us + round(chosen.limits.first_byte_deadline_s * US_PER_S),
        total_deadline_us=now_us + round(chosen.limits.max_total_s * US_PER_S),
        client_deadline_us=None if client_s is None else now_us + round(client_s * US_PER_S),
        endpoint=CHAT_PATH,
    )


def candidate(requirements: Requirements, request_class: RequestClass | None = None) -> Candidate:
    """What would be chosen with every pool asleep and healthy."""
    chosen = decide(facts(requirements, request_class)).chosen
    assert chosen is not None
    return chosen


def attempt(under_way: Chain, chosen: Candidate, number: int = 1, **more: Any) -> Attempt:
    """A try on the candidate's pool."""
    scopes = (*ACME.scopes(under_way.request_class.name, CHAT_PATH), Scope(ScopeKind.POOL, chosen.pool.name))
    return Attempt(
        request_id=under_way.request_id,
        number=number,
        pool=chosen.pool,
        rate=under_way.policy.rates[chosen.pool.name],
        request_class=under_way.request_class.name,
        tier=Tier.STANDARD,
        spender=Spender("acme", "acme-key", ("team",), scopes),
        limits=under_way.limits,
        interrupts=under_way.interrupts,
        policy_version=under_way.policy.version,
        weight=1,
        share_nusd_per_h=chosen.share_nusd_per_h,
        expected_charge_nusd=chosen.expected_charge_nusd,
        **more,
    )


def report(pool: str, failure: str) -> AttemptReport:
    return AttemptReport(pool, "L4", failure, "as told", 500, 1.0)
