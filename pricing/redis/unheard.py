"""Steps whose answer never came: what a replica must remember of them so that each happens once, or not at all.

A hold that may have been opened for nobody is made none: released, or barred from being opened by a command that is
still on its way. A settlement whose caller has left is sent until it is answered. A settlement is known to the store by
its token, so it can be sent again by whoever wants it done.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pricing.budgets.store import Settlement
from pricing.clock import US_PER_S

FORGOTTEN_US: Final = 590 * US_PER_S  # lua/holds.lua remembers for 600 s how a hold ended
REMEMBERED: Final = 65_536  # calls whose outcome is unknown; beyond, the oldest are left to their leases
_T = TypeVar("_T")


class Unheard:
    """What is unanswered. `source` begins every token and is different for each process."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._count = 0
        self._tokens: dict[str, tuple[str, int]] = {}  # hold -> token of the call that may have ended it, since when
        self._holds: dict[str, None] = {}
        self._settlements: dict[str, Settlement] = {}

    @property
    def any(self) -> bool:
        """Whether something is left to do that nobody waits for."""
        return bool(self._holds or self._settlements)

    def token(self, hold_id: str) -> str:
        """For a call that ends a hold: a new one, or that of the call that may have ended it already."""
        known = self._tokens.get(hold_id)
        if known is not None:
            return known[0]
        self._count += 1
        return f"{self._source}-{self._count}"

    def forgotten_by_now(self, hold_id: str, mono_us: int) -> bool:
        """Whether the store, if our call has ended this hold, no longer remembers that it has. Before then, a store
        that knows nothing of the hold has lost it.
        """
        known = self._tokens.get(hold_id)
        return known is not None and mono_us - known[1] >= FORGOTTEN_US

    def emptied(self, mono_us: int) -> None:
        """The store has lost everything: what it does not know from now on, it has not merely forgotten."""
        self._tokens = {hold_id: (token, mono_us) for hold_id, (token, _) in self._tokens.items()}

    def unanswered(self, hold_id: str, token: str, mono_us: int) -> None:
        """A call that was to end this hold got no answer; the first such instant counts."""
        since_us = self._tokens[hold_id][1] if hold_id in self._tokens else mono_us
        _remember(self._tokens, hold_id, (token, since_us))

    def answered(self, hold_id: str) -> None:
        self._tokens.pop(hold_id, None)
        self._settlements.pop(hold_id, None)

    def owe(self, settlement: Settlement) -> None:
        """Nobody waits for this settlement any more, and it must be written all the same."""
        _remember(self._settlements, settlement.hold_id, settlement)

    def owed(self) -> tuple[Settlement, ...]:
        return tuple(self._settlements.values())

    def forgo(self, hold_id: str) -> None:
        """A hold that may have been opened, and that nobody will use."""
        _remember(self._holds, hold_id, None)

    def wanted(self, hold_id: str) -> None:
        """Somebody opens it after all."""
        self._holds.pop(hold_id, None)

    def forgone(self) -> tuple[str, ...]:
        return tuple(self._holds)

    def forgotten(self, hold_ids: tuple[str, ...]) -> None:
        """These are no holds now."""
        for hold_id in hold_ids:
            self._holds.pop(hold_id, None)


def _remember(calls: dict[str, _T], hold_id: str, value: _T) -> None:
    calls[hold_id] = value
    if len(calls) > REMEMBERED:
        del calls[next(iter(calls))]
