"""Simulated pools in the place of everything outside that a policy names, so that the policy of a production can be
tried on one machine: nothing is sent to its pools, its platform or the receivers of its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from policies.policy import Policy, PoolEndpoint


@dataclass(frozen=True, slots=True)
class Simulated:
    """Pools that a simulator runs at `base_url`, each below its name, with a control plane of their own."""

    base_url: str
    pools: frozenset[str]

    def instead(self, policy: Policy) -> Policy:
        """The policy with these pools behind all it names. It keeps its version, since its files are what they are.

        A pool that is not simulated has no endpoint then, even where its own files give it one. `replaced` says what
        is not used.
        """
        return replace(
            policy,
            endpoints={
                name: PoolEndpoint(name, f"{self.base_url}/pools/{name}") for name in policy.pools if name in self.pools
            },
            platform_url=self.base_url,
            modal=None,
            kubernetes=None,
            webhooks=(),
            replaced=tuple(self._replaced(policy)),
        )

    def _replaced(self, policy: Policy) -> Iterator[str]:
        if policy.endpoints:
            yield _number(len(policy.endpoints), "endpoint")
        for key, named in (("url", policy.platform_url), ("modal", policy.modal), ("kubernetes", policy.kubernetes)):
            if named is not None:
                yield f"platform {key}"
        if policy.webhooks:
            yield _number(len(policy.webhooks), "webhook")


def policy_part(base_url: str, pools: Iterable[str]) -> str:
    """A policy file that points a router at simulated pools; it goes beside the files that hold the classes."""
    lines = ["version: 1", "platform:", f"  url: {base_url}", "endpoints:"]
    lines += [f"  {name}:\n    url: {base_url}/pools/{name}" for name in pools]
    return "\n".join(lines)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
