"""Checks that the rows of any ledger must pass by themselves, each one question to all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pricing.ledger.reader import Reader
from pricing.ledger.rollups import ROLLUPS
from pricing.ledger.rows import House
from pricing.money import format_usd

NAMED_AT_MOST: Final = 20  # problems named per check; the rest are counted
HOUSE: Final = ",".join(f"'{account}'" for account in House)
Check = Callable[[Reader], Iterator[str]]


def named(problems: Iterable[str]) -> Iterator[str]:
    """The first problems of a check, and how many more there are."""
    rest = iter(problems)
    for count, problem in enumerate(rest):
        if count == NAMED_AT_MOST:
            yield f"… and {1 + sum(1 for _ in rest)} more like these"
            return
        yield problem


def usd(nusd: int) -> str:
    """Every digit, since a nano-dollar is a disagreement."""
    return format_usd(nusd, decimals=9)


def _accounts_belong(ledger: Reader) -> Iterator[str]:
    """A row is paid by the tenant who asked, or by the house."""
    query = f"""
        SELECT row_id, account, tenant FROM ledger_rows
        WHERE account NOT IN ({HOUSE}) AND (tenant IS NULL OR account <> tenant) ORDER BY row_id"""
    for row_id, account, tenant in ledger.execute(query):
        yield f"row {row_id}: paid by {account}, asked by {tenant}"


def _meter_matches_charges(ledger: Reader) -> Iterator[str]:
    """Per pool and attempt, charge + overrun = what the meter said; estimates have no meter."""
    metered = "sum(CASE kind WHEN 'attempt' THEN metered_nusd ELSE 0 END)"
    query = f"""
        SELECT pool, request_id, attempt, sum(amount_nusd), {metered}
        FROM ledger_rows WHERE kind IN ('attempt', 'overrun')
        GROUP BY pool, request_id, attempt
        HAVING sum(amount_nusd) <> {metered} AND max(CASE WHEN estimated THEN 1 ELSE 0 END) = 0
        ORDER BY pool, request_id, attempt"""
    for pool, request_id, attempt, paid, said in ledger.execute(query):
        yield f"pool {pool}: request {request_id}, attempt {attempt} was metered {usd(said)} and paid {usd(paid)}"


def _attempts_are_contiguous(ledger: Reader) -> Iterator[str]:
    """A request's attempts are numbered 1, 2, 3 … without a gap, and its summary counts no fewer."""
    query = """
        SELECT l.request_id, count(DISTINCT l.attempt), min(l.attempt), max(l.attempt), max(r.attempts)
        FROM ledger_rows l LEFT JOIN requests r ON r.request_id = l.request_id
        WHERE l.kind = 'attempt' AND l.request_id IS NOT NULL GROUP BY l.request_id
        HAVING min(l.attempt) <> 1 OR max(l.attempt) <> count(DISTINCT l.attempt) OR max(r.attempts) < max(l.attempt)
        ORDER BY l.request_id"""
    for request_id, count, first, last, said in ledger.execute(query):
        yield f"request {request_id}: {count} attempts are numbered {first} to {last}, its summary says {said}"


def _answers_have_money(ledger: Reader) -> Iterator[str]:
    """A request that was served has at least one attempt with a row."""
    query = """
        SELECT request_id FROM requests r WHERE outcome = 'served' AND NOT EXISTS (
            SELECT 1 FROM ledger_rows l WHERE l.request_id = r.request_id AND l.kind = 'attempt'
        ) ORDER BY request_id"""
    for (request_id,) in ledger.execute(query):
        yield f"request {request_id} was served, and no row says what it cost"


def sums_match_rows(ledger: Reader) -> Iterator[str]:
    """The sums, with the rows that wait for them, are those of the rows. A program that is killed cannot part them, a
    hand that edits rows can.
    """
    for rollup in ROLLUPS:
        kept, true = rollup.by_span(rollup.of_table()), rollup.by_span(rollup.of_rows(rollup.source))
        query = f"""
            SELECT {ledger.utc_text("at_us", "hour")}, count(*) FROM (
                SELECT * FROM ({kept} EXCEPT SELECT * FROM ({true}) AS a) AS b
                UNION ALL SELECT * FROM (SELECT * FROM ({true}) AS c EXCEPT {kept}) AS d
            ) AS differ GROUP BY 1 ORDER BY 1"""
        for hour, count in ledger.execute(query):
            yield f"hour {hour}: {count} sums in {rollup.table} are not those of {rollup.source}"


CHECKS: Final[tuple[Check, ...]] = (
    _accounts_belong,
    _meter_matches_charges,
    _attempts_are_contiguous,
    _answers_have_money,
)
