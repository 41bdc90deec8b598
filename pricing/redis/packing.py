"""Caps as scripts take them: encoded once for a set of scopes, and used until the files change or months have passed.

Caps travel with every step, so that Redis holds money and no rules, and a step needs nothing that could be out of date.
What is encoded is described in `lua/caps.lua`. Numbers beyond 31 bits go as doubles, which every build of Redis reads
exactly.

A request's scopes are a tenant, a key, a class, a pool and tags, so thousands of tenants make many more sets than can
be remembered. A scope's own rules are encoded once for all of its sets, and a new set takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from pricing.budgets.caps import Cap, CapTable, Scope, Unlimited
from pricing.budgets.windows import bucket_of, month_around
from pricing.redis.connection import bulk
from pricing.redis.views import CapSeen, Views

REMEMBERED: Final = 16_384  # sets of scopes whose caps are kept encoded
_SMALL: Final = 1 << 31
_encode: Final = msgspec.msgpack.Encoder().encode


class PackedCaps(msgspec.Struct, frozen=True, eq=False):
    """The caps of some scopes: encoded, as a word of a command; and as last heard, in that order."""

    scopes: tuple[Scope, ...]
    seen: tuple[CapSeen, ...]
    word: bytes
    epoch: object


class _Rules(msgspec.Struct, frozen=True, eq=False):
    """What is ruled for one scope: its caps, and the element of `scopes` that says so with its limits."""

    seen: tuple[CapSeen, ...]
    encoded: msgspec.Raw


class CapPacker:
    """Encodes caps for the months around an instant of the server's."""

    def __init__(self, caps: CapTable, views: Views, at_us: int) -> None:
        self._table = caps
        self._views = views
        self._known: dict[tuple[Scope, ...], PackedCaps] = {}
        self._rules: dict[Scope, _Rules] = {}
        self._whole: list[PackedCaps] | None = None
        self.months_around(at_us)

    def replace(self, caps: CapTable) -> None:
        """Put another table in force, which the views already show."""
        self._table = caps
        self._rules.clear()
        self.months_around(self._at_us)

    def months_around(self, at_us: int) -> None:
        """From now on send the month of this instant, the one before and the one after."""
        self._at_us = at_us
        zone = self._table.timezone
        from_us, until_us = month_around(at_us, zone)
        bounds = (month_around(from_us - 1, zone), (from_us, until_us), month_around(until_us, zone))
        months = [[number(each) for each in (bucket_of(begin), bucket_of(end), begin, end)] for begin, end in bounds]
        self._months = msgspec.Raw(_encode(months))
        self._known.clear()
        self._whole = None
        self._epoch = object()

    def pack(self, scopes: Sequence[Scope]) -> PackedCaps:
        """The caps of these scopes, each taken once."""
        asked = tuple(scopes)
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._known[asked] = self.pack_anew(asked)
        return known

    def pack_anew(self, scopes: Iterable[Scope]) -> PackedCaps:
        """Like `pack`, for scopes that will not come together again."""
        once = tuple(dict.fromkeys(scopes))
        rules = [found for scope in once if (found := self._rules_of(scope)) is not None]
        seen = tuple(cap for each in rules for cap in each.seen)
        return PackedCaps(once, seen, self._word(once, rules), self._epoch)

    def pack_all(self, at_once: int) -> Iterator[PackedCaps]:
        """Every scope that has caps, so many at a time; each batch is encoded when it is asked for, and kept."""
        if self._whole is not None:
            yield from self._whole
            return
        scopes, epoch, made = self._views.scopes(), self._epoch, list[PackedCaps]()
        for begin in range(0, len(scopes), at_once):
            made.append(self.pack_anew(scopes[begin : begin + at_once]))
            yield made[-1]
        if epoch is self._epoch:
            self._whole = made

    def current(self, packed: PackedCaps) -> PackedCaps:
        """The same scopes under the caps in force now."""
        return packed if packed.epoch is self._epoch else self.pack(packed.scopes)

    def encode(self, scopes: Iterable[Scope], seen: Iterable[CapSeen]) -> bytes:
        """Caps, which come scope by scope, as scripts take them: a word of a command."""
        caps: dict[Scope, list[CapSeen]] = {scope: [] for scope in scopes}
        for one in seen:
            caps[one.cap.scope].append(one)
        return self._word(caps, [self._ruled(scope, of) for scope, of in caps.items() if self._is_ruled(scope, of)])

    def _word(self, scopes: Iterable[Scope], rules: Iterable[_Rules]) -> bytes:
        names = [_name_of(scope) for scope in scopes]
        return bulk(_encode((self._months, [each.encoded for each in rules], names)))

    def _rules_of(self, scope: Scope) -> _Rules | None:
        """The rules in force for a scope, encoded once; None where there are none."""
        known = self._rules.get(scope)
        if known is None and self._is_ruled(scope, seen := self._views.of(scope)):
            known = self._rules[scope] = self._ruled(scope, seen)
        return known

    def _is_ruled(self, scope: Scope, seen: Sequence[CapSeen]) -> bool:
        return bool(seen) or scope in self._table.limits

    def _ruled(self, scope: Scope, seen: Sequence[CapSeen]) -> _Rules:
        caps = [_cap(one.cap, one.warned_as) for one in seen]
        return _Rules(tuple(seen), msgspec.Raw(_encode([_name_of(scope), caps, *self._rates(scope)])))

    def _rates(self, scope: Scope) -> list[int | float]:
        limits = self._table.limits.get(scope)
        if limits is None:
            return [-1, -1, -1, 0]
        rates = (limits.requests_per_minute, limits.tokens_per_minute, limits.in_flight)
        return [*(-1 if limit is None else number(limit) for limit in rates), 1]


@lru_cache(REMEMBERED)
def _name_of(scope: Scope) -> str:
    return key_part(str(scope))


def key_part(text: str) -> str:
    """Text as a key carries it: what UTF-8 cannot hold (half a surrogate pair) becomes question marks."""
    return text.encode("utf-8", "replace").decode()


def _cap(cap: Cap, warned_as: str) -> list[object]:
    unlimited = isinstance(cap.amount_nusd, Unlimited)
    raises = [] if unlimited else [number(n) for one in cap.raises for n in (one.amount_nusd, one.until_us)]
    amount = -1 if isinstance(cap.amount_nusd, Unlimited) else number(cap.amount_nusd)
    return [cap.window.rolling_s or 0, amount, cap.warn_permille or 0, key_part(warned_as), raises]


def number(value: int) -> int | float:
    """An integer as msgpack for scripts: beyond 31 bits as a double."""
    return value if -_SMALL < value < _SMALL else float(value)
