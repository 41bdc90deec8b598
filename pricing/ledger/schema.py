"""The tables of a ledger, as SQLAlchemy metadata: `metadata` of a SQLite file, `shared_metadata` of PostgreSQL.

Only what creates, upgrades or checks a ledger imports this; writers and readers speak SQL by themselves, with the
column lists of `pricing.ledger.codec`. Amounts are nano-dollars, instants microseconds since the epoch.

    ledger_rows   money, append-only: one row per `pricing.ledger.rows.LedgerRow`, house accounts included
    requests      one summary per request, no amounts
    ledger_hours, request_hours, latency_hours   sums by hour, see `pricing.ledger.rollups`
    policy_versions, policy_pools   policies that were in force, see `pricing.ledger.policy_history`

In a SQLite file:

    holds         holds that are open now
    spend         what each scope has spent, per 15-minute bucket; caps read it
    warnings      until when a cap at its amount has sent its warning
    summed        up to which row each table's are in the sums, see `pricing.ledger.sums_file`

In PostgreSQL, whose rows come out of Redis and where Redis keeps the budgets:

    ledger_rows and requests with the stream id of the entry that they came in: `stream_ms`-`stream_n`
    installations which budgets in Redis are this ledger's, by namespace
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
)

from pricing.ledger.rollups import INTEGERS, ROLLUPS, Rollup

metadata = MetaData()
shared_metadata = MetaData()
Big = BigInteger().with_variant(Integer, "sqlite")  # 64 bits on every database

ledger_rows = Table(
    "ledger_rows",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("row_id", Text, nullable=False, unique=True),
    Column("at_us", Big, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("amount_nusd", Big, nullable=False),
    Column("metered_nusd", Big, nullable=False),
    Column("pool", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("policy_version", Text, nullable=False),
    Column("price_books", Text, nullable=False),
    Column("tenant", Text),
    Column("key_id", Text),
    Column("request_id", Text),
    Column("attempt", Integer, nullable=False),
    Column("request_class", Text),
    Column("tier", Text),
    Column("outcome", Text, nullable=False),
    Column("duration_us", Big, nullable=False),
    Column("ttft_us", Big),
    Column("prompt_tokens", Big),
    Column("completion_tokens", Big),
    Column("estimated", Boolean, nullable=False),
    Column("tags", Text, nullable=False),
    Column("schema_result", Text),
    Column("evidence", Text, nullable=False, server_default="modelled"),
    Column("boots", Big, nullable=False, server_default="0"),
    Column("cached_prompt_tokens", Big, nullable=False, server_default="0"),
)
Index(
    "ix_ledger_rows_request_id",
    ledger_rows.c.request_id,
    sqlite_where=ledger_rows.c.request_id.isnot(None),
    postgresql_where=ledger_rows.c.request_id.isnot(None),
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("at_us", Big, nullable=False, index=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model_asked", Text, nullable=False),
    Column("request_class", Text, nullable=False),
    Column("tier_asked", Text, nullable=False),
    Column("tier_served", Text),
    Column("pool", Text),
    Column("outcome", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", Text),
    Column("attempts", Integer, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("duration_us", Big, nullable=False),
    Column("prompt_tokens", Big),
    Column("completion_tokens", Big),
    Column("baseline_nusd", Big),
    Column("policy_version", Text, nullable=False),
    Column("decisions_json", LargeBinary, nullable=False),
    Column("tags", Text, nullable=False),
    Column("schema_asked", Boolean, nullable=False, server_default=false()),
    Column("continued", Integer, nullable=False, server_default="0"),
    Column("continued_by_text", Integer, nullable=False, server_default="0"),
    Column("max_tokens", Big),
    Column("sequences", Integer, nullable=False, server_default="1"),
    Column("features", Text, nullable=False, server_default="[]"),
    Column("images", Big, nullable=False, server_default="0"),
    Column("clips", Big, nullable=False, server_default="0"),
    Column("video_us", Big, nullable=False, server_default="0"),
    Column("media_pixels", Big, nullable=False, server_default="0"),
    Column("model", Text, nullable=False, server_default=""),
    Column("gpu", Text, nullable=False, server_default=""),
    Column("cached_prompt_tokens", Big, nullable=False, server_default="0"),
)

policy_versions = Table(
    "policy_versions",
    metadata,
    Column("version", Text, primary_key=True),
    Column("price_book", Text, nullable=False),
    Column("first_us", Big, nullable=False),
    Column("first_replica", Text, nullable=False),
    Column("latest_us", Big, nullable=False, index=True),
    Column("latest_replica", Text, nullable=False),
    Column("files", Text),
    Column("bytes", Big, nullable=False),
    Column("premium", Text),
    Column("pools", Text),
)

policy_pools = Table(
    "policy_pools",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("pools", Text, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("amount_nusd", Big, nullable=False),
    Column("anchor_us", Big, nullable=False),
    Column("lease_us", Big, nullable=False),
    Column("lease_ends_us", Big, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("on_expiry", Text),
    sqlite_with_rowid=False,
)

spend = Table(
    "spend",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("bucket", Big, primary_key=True),
    Column("nusd", Big, nullable=False),
    sqlite_with_rowid=False,
)

warnings = Table(
    "warnings",
    metadata,
    Column("cap", Text, primary_key=True),
    Column("amount", Text, primary_key=True),
    Column("quiet_until_us", Big, nullable=False),
    sqlite_with_rowid=False,
)

summed = Table(
    "summed",
    metadata,
    Column("source", Text, primary_key=True),
    Column("up_to", Big, nullable=False),
    sqlite_with_rowid=False,
)

installations = Table(
    "installations",
    shared_metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text, nullable=False),
)

for table in (ledger_rows, requests):
    shared = table.to_metadata(shared_metadata)
    shared.append_column(Column("stream_ms", BigInteger))
    shared.append_column(Column("stream_n", BigInteger))
for table in (policy_versions, policy_pools):
    table.to_metadata(shared_metadata)


def _summed(rollup: Rollup) -> list[Column[Any]]:
    dimensions = [Column(name, Big if name in INTEGERS else Text, nullable=False) for name in rollup.dimensions]
    return [*dimensions, *(Column(name, Big, nullable=False) for name in rollup.sums)]


for name, rollup in {each.table: each for each in ROLLUPS}.items():
    Table(
        name,
        metadata,
        Column("at_us", Big, nullable=False),
        *_summed(rollup),
        PrimaryKeyConstraint("at_us", *rollup.dimensions),
        sqlite_with_rowid=False,
    )
    Table(
        name,
        shared_metadata,
        Column("at_us", BigInteger, primary_key=True, autoincrement=False),
        Column("key", LargeBinary, primary_key=True),
        *_summed(rollup),
    )
