"""What a report can be grouped by, each as a column of the sums by hour.

A row's tags are one value: a request with two tags is in one line, `batch, team`, and in no other, so that lines add
up. What one tag cost is the sum of the lines that name it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pricing.ledger.codec import tags_from
from pricing.ledger.reader import Span
from pricing.ledger.rows import WITHOUT_STORE
from pricing.nearest import nearest

NONE: Final = "-"  # of a key, where a row or a request has nothing


def tags_label(text: str) -> str:
    """Stored tags as one value: sorted, without ours that marks rows written while the store was down."""
    if text == NONE:
        return NONE
    return ", ".join(sorted(set(tags_from(text)) - {WITHOUT_STORE})) or NONE


@dataclass(frozen=True, slots=True)
class Dimension:
    """A way to group: a column of `ledger_hours`, and one of `request_hours`.

    With `span`, both are instants of which so much counts. `of_containers` says whether boot and idle rows have it,
    `timed` whether sums of latencies do; where they do not, latencies are read from the rows. `label` turns what SQL
    finds into the text of a key.
    """

    row: str
    request: str
    span: Span | None = None
    of_containers: bool = False
    timed: bool = True
    label: Callable[[str], str] = str


DIMENSIONS: Final[dict[str, Dimension]] = {
    "tenant": Dimension("tenant", "tenant"),
    "key": Dimension("key_id", "key_id"),
    "class": Dimension("request_class", "request_class"),
    # Rows have the tier that was asked for, sums of latencies that of the pool that answered.
    "tier": Dimension("tier", "tier_asked", timed=False),
    "pool": Dimension("pool", "pool", of_containers=True),
    "model": Dimension("model", "model", of_containers=True),
    "gpu": Dimension("gpu", "gpu", of_containers=True),
    "tag": Dimension("tags", "tags", timed=False, label=tags_label),
    "outcome": Dimension("request_outcome", "outcome", timed=False),
    "policy": Dimension("policy_version", "policy_version", of_containers=True, timed=False),
    "hour": Dimension("at_us", "at_us", "hour", of_containers=True),
    "day": Dimension("at_us", "at_us", "day", of_containers=True),
    "month": Dimension("at_us", "at_us", "month", of_containers=True),
}


def check_groupings(by: Sequence[str]) -> tuple[str, ...]:
    """The groupings as asked. Raises ValueError for an unknown or repeated one, with the valid ones."""
    for name in by:
        if name not in DIMENSIONS:
            raise ValueError(
                f"cannot group by '{name}'{nearest(name, DIMENSIONS)} (there are: {', '.join(DIMENSIONS)})"
            )
    if len(set(by)) != len(by):
        raise ValueError(f"the same grouping twice in {','.join(by)}; name each once")
    return tuple(by)
