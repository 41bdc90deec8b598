"""Requests, tokens and dollars by tenant, for those who ask for it: so many tenants, and no more.

A label's values are series that Prometheus keeps; tenants come and go with the policy's files, and there may be tens of
thousands. The first that ask have series of their own, all others are counted together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pricing.money import NUSD_PER_USD
from router.telemetry.counting import Counts
from router.telemetry.events import RequestEnded

OTHERS: Final = "__others__"  # no tenant's name begins so


class TenantCounters:
    """`at_most` tenants have series of their own, 1 or more."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._known: set[str] = set()
        self._requests = Counts("sluice_tenant_requests_total", "Requests ended.", ["tenant", "outcome"])
        self._charged = Counts("sluice_tenant_charged_usd_total", "Charged.", ["tenant"], per=NUSD_PER_USD)
        self._tokens = Counts("sluice_tenant_tokens_total", "Tokens.", ["tenant", "type"])

    def ended(self, event: RequestEnded) -> None:
        tenant = self._name(event.tenant)
        self._requests.add((tenant, event.outcome))
        self._charged.add((tenant,), event.charge_nusd)
        if event.prompt_tokens is not None:
            self._tokens.add((tenant, "input"), event.prompt_tokens)
        if event.completion_tokens is not None:
            self._tokens.add((tenant, "output"), event.completion_tokens)

    def _name(self, tenant: str) -> str:
        if tenant in self._known:
            return tenant
        if len(self._known) >= self._at_most:
            return OTHERS
        self._known.add(tenant)
        return tenant

    def lines(self) -> Iterator[str]:
        for counts in (self._requests, self._charged, self._tokens):
            yield from counts.lines()
