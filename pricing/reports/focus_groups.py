"""Sums of the ledger by pool and hour, as finer charges are made from them and bills are held against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pricing.ledger.reader import Reader
from pricing.ledger.rollups import ROWS_BY_HOUR
from pricing.ledger.rows import RECONCILED, House, RowKind
from pricing.prices.resources import Resource

_GROUPS: Final = (
    "at_us",
    "pool",
    "account",
    f"CASE WHEN kind = '{RowKind.ADJUSTMENT}' THEN outcome ELSE '' END",
    "price_books",
    "policy_version",
    "evidence",
    "tags",
    "model",
    "gpu",
)
_SUMS: Final = (
    "amount_nusd",
    "metered_nusd",
    "duration_us",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "row_count",
    "boots",
)


@dataclass(frozen=True, slots=True)
class Group:
    """One sum. `adjusted` is the outcome of an adjustment, else "". See `LedgerRow` for the rest."""

    at_us: int
    pool: str
    account: str
    adjusted: str
    price_books: str
    policy_version: str
    evidence: str
    tags: str
    model: str
    gpu: str
    amount_nusd: int
    metered_nusd: int
    duration_us: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    rows: int
    boots: int

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the sums of one hour apart, to put them in the same order from any database."""
        who = (self.pool, self.account, self.adjusted, self.price_books, self.policy_version)
        return (*who, self.evidence, self.tags, self.model, self.gpu)

    @property
    def reconciled(self) -> Resource | None:
        """The resource that a reconciliation brought to the bill; None of every other sum."""
        return Resource(self.adjusted.removeprefix(RECONCILED)) if self.adjusted.startswith(RECONCILED) else None

    @property
    def of_tenant(self) -> bool:
        return self.account not in list(House)

    @property
    def phase(self) -> str:
        if self.of_tenant:
            return "busy"
        return "reconciled" if self.reconciled else self.account.strip("_")

    @property
    def is_usage(self) -> bool:
        """FOCUS's Usage; what is added or taken back later is an Adjustment."""
        return self.account != House.ADJUSTMENT and self.amount_nusd >= 0


def read_groups(ledger: Reader, since_us: int, until_us: int) -> Iterator[Group]:
    """Every sum of a window of whole hours, in the order of hours."""
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in _SUMS)
    places = ", ".join(str(number) for number in range(1, len(_GROUPS) + 1))
    query = f"""
        SELECT {", ".join(_GROUPS)}, {sums} FROM ({ROWS_BY_HOUR.between(since_us, until_us)}) AS hours
        WHERE kind <> '{RowKind.LATE}' GROUP BY {places} ORDER BY 1"""
    for found in ledger.execute(query):
        yield Group(*found)


def is_billed(groups: Sequence[Group]) -> bool:
    """Whether all sums of one pool and hour were brought to a bill, and are still what it said."""
    billed = [group.metered_nusd for group in groups if group.reconciled]
    return bool(billed) and sum(billed) == sum(group.amount_nusd for group in groups)
