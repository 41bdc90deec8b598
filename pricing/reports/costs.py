"""The ledger in the shape of OpenAI's organization costs and usage (openai-openapi, 2026-08-21).

`project_id` is a tenant, `api_key_id` a key's id, `line_item` what GPU time was spent on: `gpu.busy`, `gpu.overrun`,
`gpu.failed`, `gpu.boot`, `gpu.idle`, `gpu.adjustment`. Beyond OpenAI's groupings there are `pool`, `model`, `gpu`,
`class` and `tag` (all tags of a request as one value), under these names. `user_id`, `batch` and `api_source` are not
kept here. Buckets are aligned to their width in UTC; a page ends with the cursor of the next one.

`quantity` stands beside a line item only, as OpenAI has it: container seconds of boot, idle and adjustment, and of busy
and failed the seconds that requests ran, of which a container runs several at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pricing.clock import US_PER_S
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.reader import Reader
from pricing.ledger.rollups import REQUESTS_BY_HOUR, ROWS_BY_HOUR, US_PER_DAY, Rollup
from pricing.ledger.rows import House, RowKind
from pricing.money import US_PER_HOUR, usd_number
from pricing.reports.dimensions import NONE, tags_label

LAST_S: Final = 253_402_300_799  # the last second of the year 9999
WIDTHS_S: Final = {"1m": 60, "1h": 3_600, "1d": 86_400}
_ITEMS: Final = {
    House.BOOT: "gpu.boot",
    House.IDLE: "gpu.idle",
    House.OVERRUN: "gpu.overrun",
    House.FAILED: "gpu.failed",
    House.ADJUSTMENT: "gpu.adjustment",
}
_BUSY: Final = "gpu.busy"
LINE_ITEMS: Final = (_BUSY, *_ITEMS.values())
_WHENS: Final = " ".join(f"WHEN '{account}' THEN '{item}'" for account, item in _ITEMS.items())
_LINE_ITEM: Final = f"CASE account {_WHENS} ELSE '{_BUSY}' END"
COSTS_GROUPS: Final[dict[str, str]] = {
    "project_id": "tenant",
    "api_key_id": "key_id",
    "line_item": _LINE_ITEM,
    "pool": "pool",
    "model": "model",
    "gpu": "gpu",
    "class": "request_class",
    "tag": "tags",
}
USAGE_GROUPS: Final[dict[str, str]] = {
    "project_id": "tenant",
    "api_key_id": "key_id",
    "model": "model_asked",
    "service_tier": "coalesce(nullif(tier_served, ''), tier_asked)",
    "pool": "pool",
    "class": "request_class",
    "tag": "tags",
}
_COSTS_LIMITS: Final = dict.fromkeys(WIDTHS_S, (7, 180))  # default and largest number of buckets on a page
_USAGE_LIMITS: Final = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}


@dataclass(frozen=True, slots=True)
class PageQuery:
    """One page's question. `start_s` and `end_s` are seconds since the epoch; `end_s` None is now.

    `start_s` None is where a page of the default length, or of `limit` buckets, ends with `end_s`: the latest page.

    `tenant` limits the answer to one tenant's own rows, whatever else is asked. `line_items` is for costs, `models`, as
    clients named them, for usage.
    """

    start_s: int | None = None
    end_s: int | None = None
    bucket_width: str = "1d"
    group_by: tuple[str, ...] = ()
    limit: int | None = None
    page: str | None = None
    project_ids: tuple[str, ...] = ()
    api_key_ids: tuple[str, ...] = ()
    line_items: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    buckets: range  # the first second of each bucket
    width_s: int
    start_s: int
    end_s: int
    next_page: str | None


def costs(place: LedgerPlace, query: PageQuery, now_us: int) -> dict[str, Any]:
    """A page for GET /v1/costs. Raises ValueError for a bad question, StoreUnavailable for an unreadable ledger."""
    page = _page(query, now_us, _COSTS_LIMITS)
    columns = _columns(query, COSTS_GROUPS)
    unknown = [name for name in query.line_items if name not in LINE_ITEMS]
    if unknown:
        raise ValueError(f"no line item '{unknown[0]}'; there are: {', '.join(LINE_ITEMS)}")
    sums = ("sum(amount_nusd)", "sum(duration_us)")
    mine = f"AND account NOT IN ({_words((House.BOOT, House.IDLE, House.ADJUSTMENT))})" if query.tenant else ""
    where = f"kind <> '{RowKind.LATE}' {mine}"
    with reading(place) as ledger:
        found = list(_grouped(ledger, ROWS_BY_HOUR, columns, sums, where, query, page))
    return _answer(page, ((bucket, _cost(group, *numbers)) for bucket, group, numbers in found))


def usage(place: LedgerPlace, query: PageQuery, now_us: int) -> dict[str, Any]:
    """A page for GET /v1/usage: requests and tokens. Raises as `costs` does."""
    page = _page(query, now_us, _USAGE_LIMITS)
    columns = _columns(query, USAGE_GROUPS)
    tokens = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
    sums = [f"coalesce(sum({name}), 0)" for name in tokens]
    with reading(place) as ledger:
        count = REQUESTS_BY_HOUR.sum("request_count", _rolled(page))
        found = list(_grouped(ledger, REQUESTS_BY_HOUR, columns, (*sums, count), "1 = 1", query, page))
    return _answer(page, ((bucket, _usage(group, *numbers)) for bucket, group, numbers in found))


def _page(query: PageQuery, now_us: int, limits: Mapping[str, tuple[int, int]]) -> _Page:
    if query.bucket_width not in WIDTHS_S:
        raise ValueError(f"bucket_width '{query.bucket_width}' is not one of {', '.join(WIDTHS_S)}")
    width_s = WIDTHS_S[query.bucket_width]
    default, largest = limits[query.bucket_width]
    limit = default if query.limit is None else query.limit
    if not 1 <= limit <= largest:
        raise ValueError(f"limit {limit} is not between 1 and {largest} for buckets of {query.bucket_width}")
    end_s = now_us // US_PER_S + 1 if query.end_s is None else query.end_s
    begin_s = _latest_s(end_s, limit, width_s) if query.start_s is None else query.start_s
    if max(begin_s, end_s) > LAST_S:
        raise ValueError(f"{max(begin_s, end_s)} lies beyond the year 9999; instants are seconds, not milliseconds")
    if begin_s < 0:
        raise ValueError(f"start_time {begin_s} lies before 1970; instants are seconds since then")
    if end_s <= begin_s:
        raise ValueError(f"end_time {end_s} must be after start_time {begin_s}, both in seconds since 1970")
    start_s = begin_s if query.page is None else _cursor(query.page, begin_s, end_s)
    first_s = start_s - start_s % width_s
    after_s = min(first_s + limit * width_s, end_s)
    next_page = f"page_{after_s}" if after_s < end_s else None
    return _Page(range(first_s, after_s, width_s), width_s, start_s, after_s, next_page)


def _latest_s(end_s: int, limit: int, width_s: int) -> int:
    """The first second of the last `limit` buckets before `end_s`."""
    return max(0, ((end_s - 1) // width_s - limit + 1) * width_s)


def _cursor(page: str, start_s: int, end_s: int) -> int:
    number = page.removeprefix("page_")
    if not number.isdecimal() or not start_s <= int(number) < end_s:
        raise ValueError("page is not a cursor of this query; use next_page of the page before, or leave it out")
    return int(number)


def _columns(query: PageQuery, groups: Mapping[str, str]) -> dict[str, str]:
    unknown = [name for name in query.group_by if name not in groups]
    if unknown:
        apart = "; write group_by once for each" if "," in unknown[0] else ""
        raise ValueError(f"cannot group by '{unknown[0]}'; there are: {', '.join(groups)}{apart}")
    return {name: groups[name] for name in dict.fromkeys(query.group_by)}


def _rolled(page: _Page) -> bool:
    return page.width_s * US_PER_S % US_PER_HOUR == 0


def _grouped(
    ledger: Reader,
    rollup: Rollup,
    columns: Mapping[str, str],
    sums: Sequence[str],
    where: str,
    query: PageQuery,
    page: _Page,
) -> Iterable[tuple[int, dict[str, Any], tuple[int, ...]]]:
    """(bucket, group, sums) for every group of every bucket that has any, in order."""
    since_us, until_us = page.start_s * US_PER_S, page.end_s * US_PER_S
    days = page.width_s * US_PER_S % US_PER_DAY == 0
    source = f"({rollup.between(since_us, until_us, days=days)}) AS sums" if _rolled(page) else rollup.source
    width_us = page.width_s * US_PER_S
    groups = [f"nullif({column}, '')" for column in columns.values()]
    selected = [f"at_us / {width_us} * {page.width_s}", *groups, *sums]
    conditions = [where, "at_us >= ?", "at_us < ?"]
    values: list[Any] = [since_us, until_us]
    tenants = query.project_ids if query.tenant is None else (query.tenant,)
    # The last two are each for one of the two questions, which alone knows the column.
    filters = {
        "tenant": tenants,
        "key_id": query.api_key_ids,
        _LINE_ITEM: query.line_items,
        "model_asked": query.models,
    }
    for column, chosen in filters.items():
        if chosen:
            conditions.append(f"{column} IN ({','.join('?' * len(chosen))})")
            values += chosen
    group = ",".join(str(index + 1) for index in range(1 + len(columns)))
    statement = f"SELECT {','.join(selected)} FROM {source} WHERE {' AND '.join(conditions)} GROUP BY {group}"
    last = 1 + len(columns)
    summed: dict[tuple[Any, ...], list[int]] = {}
    for found in ledger.execute(statement, values):
        key = (found[0], *map(_labelled, columns, found[1:last]))
        before = summed.get(key, [0] * (len(found) - last))
        summed[key] = [known + more for known, more in zip(before, found[last:], strict=True)]
    # Databases differ in where they put what is missing, and in how they sort text.
    for key in sorted(summed, key=lambda key: [each or "" for each in key[1:]]):
        yield key[0], dict(zip(columns, key[1:], strict=True)), tuple(summed[key])


def _labelled(name: str, value: str | None) -> str | None:
    if name != "tag" or value is None:
        return value
    label = tags_label(value)
    return None if label == NONE else label


def _words(accounts: Iterable[str]) -> str:
    return ",".join(f"'{account}'" for account in accounts)


def _cost(group: Mapping[str, Any], amount_nusd: int, duration_us: int) -> dict[str, Any]:
    quantified = "line_item" in group
    return {
        "object": "organization.costs.result",
        "amount": {"value": usd_number(amount_nusd), "currency": "usd"},
        "line_item": None,
        "project_id": None,
        "api_key_id": None,
        "user_id": None,
        "quantity": duration_us / 1e6 if quantified else None,
        "quantity_unit": "duration_seconds" if quantified else None,
        **group,
    }


def _usage(group: Mapping[str, Any], prompt: int, cached: int, completion: int, requests: int) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": prompt,
        "input_cached_tokens": cached,
        "output_tokens": completion,
        "num_model_requests": requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": None,
        "batch": None,
        "service_tier": None,
        **group,
    }


def _answer(page: _Page, results: Iterable[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    by_bucket: dict[int, list[dict[str, Any]]] = {bucket: [] for bucket in page.buckets}
    for bucket, result in results:
        by_bucket[bucket].append(result)
    data = [
        {"object": "bucket", "start_time": start_s, "end_time": start_s + page.width_s, "results": found}
        for start_s, found in by_bucket.items()
    ]
    return {"object": "page", "data": data, "has_more": page.next_page is not None, "next_page": page.next_page}
