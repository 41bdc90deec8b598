"""What Redis knows of a hold that this process does not: whose it is, and how it ended."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from pricing.budgets.caps import Scope, parse_scope
from pricing.budgets.store import Extended, not_open
from pricing.redis.steps import Steps

_terms: Final = msgspec.msgpack.Decoder()


class Terms(NamedTuple):
    """What never changes of an open hold."""

    owner: str
    scopes: tuple[Scope, ...]


async def terms_of(steps: Steps, hold_id: str) -> Terms | None:
    """None for a hold that is not open. Raises StoreUnavailable."""
    words = await steps.client.command("HGET", steps.prefix + b"hold:" + hold_id.encode(), "terms")
    if words is None:
        return None
    _, _, _, owner, _, scopes = _terms.decode(words)  # as lua/opening.lua writes them
    return Terms(owner, tuple(parse_scope(scope) for scope in scopes))


async def not_extended(steps: Steps, hold_id: str) -> Extended:
    """The answer for a hold that extend.lua did not extend, with the reason. Raises StoreUnavailable."""
    terms = await terms_of(steps, hold_id)
    if terms is not None:
        why = f"hold {hold_id} belongs to replica {terms.owner}, which alone may extend it"
        return Extended(hold_id, 0, granted=False, good_for_s=0.0, why=why)
    words = await steps.client.command("GET", steps.prefix + b"ended:" + hold_id.encode())
    return not_open(hold_id, None if words is None else words.decode().partition(" ")[0])
