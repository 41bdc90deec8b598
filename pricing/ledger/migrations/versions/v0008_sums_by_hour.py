"""What amounts rest on, where requests were tried last, and sums by hour in files too, by day and of latencies as well.

All sums are made anew from the rows, which gives them the dimensions that they lacked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

HOUR = 3_600_000_000
DAY = 24 * HOUR
OUTCOME = (
    "CASE WHEN request_id IS NULL THEN '' ELSE coalesce("
    "(SELECT r.outcome FROM requests r WHERE r.request_id = one.request_id), 'unfinished') END"
)
OLD_ROW_DIMENSIONS = (
    "account",
    "tenant",
    "key_id",
    "request_class",
    "tier",
    "pool",
    "gpu",
    "model",
    "kind",
    "outcome",
    "policy_version",
)
ROW_DIMENSIONS = (*OLD_ROW_DIMENSIONS, "price_books", "tags", "evidence", "request_outcome")
OLD_ROW_SUMS = {
    "row_count": "1",
    "amount_nusd": "amount_nusd",
    "metered_nusd": "metered_nusd",
    "duration_us": "duration_us",
    "prompt_tokens": "coalesce(prompt_tokens, 0)",
    "completion_tokens": "coalesce(completion_tokens, 0)",
    "estimated_rows": "CASE WHEN estimated THEN 1 ELSE 0 END",
    "schema_kept": "CASE WHEN schema_result = 'kept' THEN 1 ELSE 0 END",
    "schema_broken": "CASE WHEN schema_result = 'broken' THEN 1 ELSE 0 END",
    "schema_cut": "CASE WHEN schema_result = 'cut' THEN 1 ELSE 0 END",
}
ROW_SUMS = {
    **OLD_ROW_SUMS,
    "estimated_nusd": "CASE WHEN estimated THEN amount_nusd ELSE 0 END",
    "boots": "boots",
}
OLD_REQUEST_DIMENSIONS = (
    "tenant",
    "key_id",
    "endpoint",
    "model_asked",
    "request_class",
    "tier_asked",
    "tier_served",
    "pool",
    "outcome",
    "policy_version",
)
REQUEST_DIMENSIONS = (*OLD_REQUEST_DIMENSIONS, "gpu", "model", "tags")
OLD_REQUEST_SUMS = {
    "request_count": "1",
    "attempts": "attempts",
    "prompt_tokens": "coalesce(prompt_tokens, 0)",
    "completion_tokens": "coalesce(completion_tokens, 0)",
    "baseline_nusd": "coalesce(baseline_nusd, 0)",
    "duration_us": "duration_us",
    "continued": "continued",
    "images": "images",
    "clips": "clips",
    "video_us": "video_us",
    "media_pixels": "media_pixels",
}
REQUEST_SUMS = {
    **OLD_REQUEST_SUMS,
    "fallbacks": "CASE WHEN attempts > 1 THEN attempts - 1 ELSE 0 END",
    "fell_back": "CASE WHEN attempts > 1 THEN 1 ELSE 0 END",
}
LATENCY_DIMENSIONS = (
    "tenant",
    "key_id",
    "request_class",
    "tier",
    "pool",
    "model",
    "gpu",
    "what",
    "bucket",
)
ANSWERED = "kind = 'attempt' AND outcome = 'answered'"
LATENCIES = (  # what, table, value, which rows count, tier
    ("request", "requests", "duration_us / 1e3", "outcome = 'served'", "coalesce(nullif(tier_served, ''), tier_asked)"),
    ("first_token", "ledger_rows", "ttft_us / 1e3", f"{ANSWERED} AND ttft_us IS NOT NULL", "coalesce(tier, '')"),
    (
        "tokens_per_s",
        "ledger_rows",
        "1e9 * (completion_tokens - CASE WHEN ttft_us IS NULL THEN 0 ELSE 1 END) / "
        "(duration_us - coalesce(ttft_us, 0))",
        f"{ANSWERED} AND completion_tokens > 1 AND duration_us > coalesce(ttft_us, 0)",
        "coalesce(tier, '')",
    ),
)


def upgrade() -> None:
    op.add_column("ledger_rows", sa.Column("evidence", sa.Text(), nullable=False, server_default="modelled"))
    op.add_column("ledger_rows", sa.Column("boots", _big(), nullable=False, server_default="0"))
    for name in ("model", "gpu"):
        op.add_column("requests", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    _find_models()
    if not _is_file():
        _drop_hours()
    for span, span_us in (("hours", HOUR), ("days", DAY)):
        _create(f"ledger_{span}", ROW_DIMENSIONS, tuple(ROW_SUMS))
        _create(f"request_{span}", REQUEST_DIMENSIONS, tuple(REQUEST_SUMS))
        _fill(f"ledger_{span}", "ledger_rows", ROW_DIMENSIONS, ROW_SUMS, span_us=span_us)
        _fill(f"request_{span}", "requests", REQUEST_DIMENSIONS, REQUEST_SUMS, span_us=span_us)
    _create("latency_hours", LATENCY_DIMENSIONS, ("count",))
    for what, table, value, counts, tier in LATENCIES:
        known = {"what": f"'{what}'", "bucket": bucket(value), "tier": tier}
        _fill("latency_hours", table, LATENCY_DIMENSIONS, {"count": "1"}, f"WHERE {counts}", known)


def downgrade() -> None:
    for table in ("latency_hours", "request_days", "ledger_days"):
        op.drop_table(table)
    _drop_hours()
    if not _is_file():
        _create("ledger_hours", OLD_ROW_DIMENSIONS, tuple(OLD_ROW_SUMS))
        _create("request_hours", OLD_REQUEST_DIMENSIONS, tuple(OLD_REQUEST_SUMS))
        _fill("ledger_hours", "ledger_rows", OLD_ROW_DIMENSIONS, OLD_ROW_SUMS)
        _fill("request_hours", "requests", OLD_REQUEST_DIMENSIONS, OLD_REQUEST_SUMS)
    for table, names in (("requests", ("gpu", "model")), ("ledger_rows", ("boots", "evidence"))):
        for name in names:
            op.drop_column(table, name)


def _find_models() -> None:
    """What requests were tried on last is what their last row of money says."""
    last = (
        "coalesce((SELECT a.{0} FROM ledger_rows a WHERE a.request_id = requests.request_id "
        "ORDER BY a.attempt DESC, a.seq LIMIT 1), '')"
    )
    op.execute(f"UPDATE requests SET model = {last.format('model')}, gpu = {last.format('gpu')} WHERE pool IS NOT NULL")


def _drop_hours() -> None:
    for table in ("request_hours", "ledger_hours"):
        op.drop_table(table)


def _is_file() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def bucket(value: str) -> str:
    number = f"CAST({value} AS double precision)"
    at_least = f"CASE WHEN {number} < 0.001 THEN CAST(0.001 AS double precision) ELSE {number} END"
    return f"CAST(round(ln({at_least}) / ln(CAST(1.02 AS double precision))) AS bigint)"


def _create(table: str, dimensions: tuple[str, ...], sums: tuple[str, ...]) -> None:
    """In a file the dimensions are the key; PostgreSQL's keys have to be short, so that theirs is a digest."""
    key = [] if _is_file() else [sa.Column("key", sa.LargeBinary(), nullable=False)]
    op.create_table(
        table,
        sa.Column("at_us", _big(), nullable=False),
        *key,
        *(sa.Column(name, _big() if name == "bucket" else sa.Text(), nullable=False) for name in dimensions),
        *(sa.Column(name, _big(), nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("at_us", *(dimensions if _is_file() else ("key",))),
        sqlite_with_rowid=False,
    )


def _fill(
    table: str,
    source: str,
    dimensions: tuple[str, ...],
    sums: dict[str, str],
    where: str = "",
    known: dict[str, str] | None = None,
    span_us: int = HOUR,
) -> None:
    sql = {name: f"coalesce({name}, '')" for name in dimensions} | {"request_outcome": OUTCOME} | (known or {})
    rows = ", ".join(f"{sql.get(name) or sums[name]} AS {name}" for name in (*dimensions, *sums))
    names, added = ", ".join(dimensions), ", ".join(f"sum({name}) AS {name}" for name in sums)
    hours = (
        f"SELECT at_us / {span_us} * {span_us} AS at_us, {names}, {added} "
        f"FROM (SELECT at_us, {rows} FROM {source} AS one {where}) AS each GROUP BY 1, {names}"
    )
    columns = ", ".join(("at_us", *dimensions, *sums))
    if _is_file():
        op.execute(f"INSERT INTO {table} ({columns}) {hours}")
    else:
        key = f"sha256(convert_to(CAST(ROW({names}) AS text), 'UTF8'))"
        op.execute(f"INSERT INTO {table} (key, {columns}) SELECT {key}, {columns} FROM ({hours}) AS hours")
