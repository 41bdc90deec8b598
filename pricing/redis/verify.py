"""Proves that budgets, ledger and meters agree for what replicas share, and names what does not.

One script takes, at one stream id, what budgets have spent and hold and what meters have charged (`snapshot.py`). Then
the rows up to that id are gathered: first those still in the stream, then those that were set aside, then those of the
database as of one moment. What moved on meanwhile is seen twice at worst, and counted once by its row id, so that this
can run beside replicas that serve. Rows that were set aside are named and not counted. Where the database had rows
beyond the stream's end before that was read, Redis has lost its end, or everything: these rows count all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from pricing.budgets.caps import CapTable
from pricing.ledger.checks import CHECKS, HOUSE, named, usd
from pricing.ledger.entries import BadEntry, decode
from pricing.ledger.gather import Gathered, gathering
from pricing.ledger.insert import Delivered
from pricing.ledger.installation import known_id, newest_id
from pricing.ledger.place import PostgresUrl
from pricing.ledger.reader import Reader
from pricing.ledger.rows import RECONCILED, WITHOUT_STORE, RowKind
from pricing.redis.cap_windows import WindowsSeen, windows_seen
from pricing.redis.client import RedisClient
from pricing.redis.installation import ANOTHERS, LOST
from pricing.redis.snapshot import Snapshot, take_snapshot, waiting
from pricing.redis.stream import LedgerStream, StreamEntry
from pricing.verify.cap_windows import windows_match_rows
from pricing.verify.sqlite import NO_CAPS, Verification

LATE_S: Final = 10  # replicas end holds every second; one that is this late is ended by nobody
_HOUSE_KINDS: Final = (RowKind.BOOT, RowKind.IDLE, RowKind.ADJUSTMENT)
_COUNTED: Final = ("tenant:", "key:")  # scopes that are limited to a number of requests in flight


async def verify_shared(
    client: RedisClient, namespace: str, url: PostgresUrl, caps: CapTable = NO_CAPS, *, now_us: int | None = None
) -> Verification:
    """Compare everything at one stream id, and the windows of caps at those at which they were read, shortly before.

    `now_us` is for clocks of one's own. Raises StoreUnavailable where Redis or PostgreSQL cannot be read.
    """
    stream = LedgerStream(client, namespace)
    if now_us is None:
        seconds, us = await client.command("TIME")
        now_us = int(seconds) * 1_000_000 + int(us)
    windows = await windows_seen(client, namespace, caps, now_us)
    known, newest = known_id(url, namespace), newest_id(url)
    snapshot = await take_snapshot(client, namespace)
    lost = list(_lost(snapshot, known, newest))
    snapshot = replace(snapshot, last_id=max(snapshot.last_id, newest))
    poison: list[str] = []
    with gathering(url, snapshot.last_id) as ledger:
        async for page in waiting(stream, snapshot.last_id_text):
            entries, bad = decoded(page)
            bad += [("{}-{}".format(*refused[:2]), why) for refused, why in ledger.add(entries)]
            poison += [f"entry {id_} in the stream: {why}; the drainer sets it aside" for id_, why in bad]
        async for page in waiting(stream, snapshot.last_id_text, poison=True):
            poison += [f"{_said(entry)}; `sluice ledger poison` shows it and puts it back" for entry in page]
        ledger.freeze()
        return _compare(ledger, snapshot, windows, lost, poison)


def _lost(snapshot: Snapshot, known: str | None, newest: tuple[int, int]) -> Iterator[str]:
    """Whether Redis is the one that the ledger knows, and has all that the ledger has from it."""
    if known is not None and snapshot.installation is None:
        yield LOST
    elif known is not None and snapshot.installation != known:
        yield ANOTHERS
    elif newest > snapshot.last_id:
        yield (
            "the ledger has rows up to stream id {}-{}, and Redis's stream ends at {}: Redis has lost what came last; "
            "`sluice ledger restore-budgets --write` gives budgets back what is missing"
        ).format(*newest, snapshot.last_id_text)


def decoded(page: Sequence[StreamEntry]) -> tuple[list[Delivered], list[tuple[str, str]]]:
    """What a page says, and the ids of entries that say nothing, with the reason."""
    good, bad = [], []
    for entry in page:
        try:
            good.append(Delivered(*entry.place, decode(entry.fields)))
        except BadEntry as problem:
            bad.append((entry.id.decode(), str(problem)))
    return good, bad


def _said(entry: StreamEntry) -> str:
    """An entry that was set aside, by its ids and the reason."""
    came, why = (entry.fields.get(name, b"?").decode("utf-8", "replace") for name in (b"from", b"why"))
    return f"entry {came} was set aside as {entry.id.decode()}: {why}"


def _compare(
    ledger: Gathered, snapshot: Snapshot, seen: WindowsSeen, lost: Sequence[str], poison: Sequence[str]
) -> Verification:
    had = "l.stream_ms IS NULL OR (l.stream_ms, l.stream_n) <= ({}, {})".format(*seen.first_id)
    checks = (
        iter(lost),
        iter(poison),
        _budgets_match_rows(ledger, snapshot),
        *(check(ledger) for check in CHECKS),
        _meters_match_rows(ledger, snapshot),
        _house_matches_rows(ledger, snapshot),
        _held_is_of_holds(snapshot),
        _holds_end_once(ledger, snapshot),
        iter(seen.apart),
        windows_match_rows(ledger, seen.windows, had),
        ledger.rollup_problems(),
    )
    rows, total_nusd = ledger.execute("SELECT count(*), coalesce(sum(amount_nusd), 0) FROM ledger_rows").fetchone()
    [requests] = ledger.execute("SELECT count(*) FROM requests").fetchone()
    return Verification(
        rows=rows,
        requests=requests,
        open_holds=len(snapshot.holds),
        total_nusd=total_nusd,
        problems=tuple(problem for check in checks for problem in named(check)),
        waiting=ledger.waiting(),
        poison=len(poison),
        stream_id=snapshot.last_id_text,
        windows=len(seen.windows),
    )


def paid_sums(ledger: Reader) -> dict[str, int]:
    """What the rows of each tenant come to."""
    query = f"SELECT account, sum(amount_nusd) FROM ledger_rows WHERE account NOT IN ({HOUSE}) GROUP BY account"
    return dict(ledger.execute(query).fetchall())


def metered_sums(ledger: Reader) -> dict[str, int]:
    """By pool, what rows say that its meter charged."""
    query = f"""
        SELECT pool, sum(metered_nusd) FROM ledger_rows
        WHERE kind = 'attempt' AND NOT estimated AND position('"{WITHOUT_STORE}"' IN tags) = 0 GROUP BY pool"""
    return dict(ledger.execute(query).fetchall())


def pending_charges(snapshot: Snapshot) -> Counter[str]:
    """By pool, what was charged to holds that are open."""
    pending: Counter[str] = Counter()
    for hold in snapshot.holds:
        pending[hold.pool] += hold.charge_nusd
    return pending


def house_sums(ledger: Reader) -> dict[tuple[str, str], int]:
    """By pool and kind, what rows say that its meter wrote for the house; reconciliations are no meter's."""
    kinds = ",".join(f"'{kind}'" for kind in _HOUSE_KINDS)
    query = f"""
        SELECT pool, kind, sum(amount_nusd) FROM ledger_rows
        WHERE kind IN ({kinds}) AND position('"{WITHOUT_STORE}"' IN tags) = 0
        AND position('{RECONCILED}' IN outcome) <> 1 GROUP BY pool, kind"""
    return {(pool, kind): nusd for pool, kind, nusd in ledger.execute(query)}


def _budgets_match_rows(ledger: Reader, snapshot: Snapshot) -> Iterator[str]:
    """Σ rows that a tenant pays = what its budgets say it ever spent."""
    paid = paid_sums(ledger)
    for tenant in sorted(paid.keys() | snapshot.spent.keys()):
        rows, spent = paid.get(tenant, 0), snapshot.spent.get(tenant, 0)
        if rows != spent:
            yield f"tenant {tenant}: its ledger rows are {usd(rows)}, its budgets say {usd(spent)}"


def _meters_match_rows(ledger: Reader, snapshot: Snapshot) -> Iterator[str]:
    """Σ charges of a pool's meter = what rows say it metered, less what no row can say.

    No row says what was charged to holds that are still open, or ended without a row of their own (`unrecorded`); no
    meter knows of rows that are estimated, or of attempts that ran while Redis was away.
    """
    metered, pending = metered_sums(ledger), pending_charges(snapshot)
    for pool in sorted(metered.keys() | snapshot.meters.keys()):
        meter = snapshot.meters.get(pool)
        charged = meter.charged_nusd - meter.unrecorded_nusd - pending[pool] if meter else 0
        if charged != metered.get(pool, 0):
            yield f"pool {pool}: its meter charged {usd(charged)}, its ledger rows say {usd(metered.get(pool, 0))}"


def _house_matches_rows(ledger: Reader, snapshot: Snapshot) -> Iterator[str]:
    """Boot, idle and adjustment of a pool: what its meter wrote = the rows. No meter knows of attempts that ran while
    Redis was away, nor that their time was not idle.
    """
    rows = house_sums(ledger)
    for pool, meter in sorted(snapshot.meters.items()):
        for kind in _HOUSE_KINDS:
            wrote, found = getattr(meter, f"{kind}_nusd"), rows.pop((pool, str(kind)), 0)
            if wrote != found:
                yield f"pool {pool}: its meter wrote {usd(wrote)} of {kind} time, its ledger rows say {usd(found)}"
    for (pool, name), found in sorted(rows.items()):
        if found:
            yield f"pool {pool}: its ledger rows say {usd(found)} of {name} time, and it has no meter"


def _held_is_of_holds(snapshot: Snapshot) -> Iterator[str]:
    """What scopes hold, and how many requests they have in flight, is what the open holds say."""
    amounts: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for hold in snapshot.holds:
        for scope in hold.scopes:
            amounts[scope] += hold.amount_nusd
            counts[scope] += scope.startswith(_COUNTED)
    for scope in sorted(amounts.keys() | snapshot.held.keys()):
        held = snapshot.held.get(scope, 0)
        if amounts[scope] != held:
            yield f"{scope}: its open holds are {usd(amounts[scope])}, its budgets hold {usd(held)}"
    for scope in sorted(counts.keys() | snapshot.in_flight.keys()):
        counted = snapshot.in_flight.get(scope, 0)
        if counts[scope] != counted:
            yield f"{scope}: {counts[scope]} holds are open, {counted} are counted as in flight"


def _holds_end_once(ledger: Reader, snapshot: Snapshot) -> Iterator[str]:
    """No hold outlives its lease, and none is open beside the row that ended it."""
    for hold in sorted(snapshot.holds, key=lambda hold: hold.hold_id):
        if hold.deadline_us is None:
            yield f"hold {hold.hold_id} over {usd(hold.amount_nusd)} is open and has no lease, so that nobody ends it"
        elif (late_s := (snapshot.clock_us - hold.deadline_us) // 1_000_000) >= LATE_S:
            yield f"hold {hold.hold_id} over {usd(hold.amount_nusd)} is open {late_s} s after its lease"
        row_id = f"{hold.hold_id}:{RowKind.ATTEMPT}"
        if ledger.execute("SELECT 1 FROM ledger_rows WHERE row_id = ?", [row_id]).fetchone():
            yield f"hold {hold.hold_id} is open although row {row_id} ended it"
