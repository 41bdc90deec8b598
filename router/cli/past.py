"""A past request on the terminal: what was asked, each attempt and its money, and the decision before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.explain.table import render_json
from pricing.errors import SluiceError
from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import find_request
from router.cli.remote import get_json
from router.views.past import past_json

Json = Mapping[str, Any]


class NoSuchRequest(SluiceError):
    """The ledger has no request of that id."""


def past_from_ledger(ledger: LedgerPlace, request_id: str) -> dict[str, Any]:
    """Raises NoSuchRequest, and StoreUnavailable for what is no ledger."""
    found = find_request(ledger, request_id)
    if found is None:
        raise NoSuchRequest(
            f"no request '{request_id}' in {ledger}; ids are in the x-sluice-request-id header of answers"
        )
    return past_json(found)


def past_from_url(url: str, key: str | None, request_id: str) -> dict[str, Any]:
    """Ask the endpoint that served it. Raises EndpointTrouble."""
    document: dict[str, Any] = get_json(url, f"/v1/decisions/{quote(request_id, safe='')}", key)
    return document


def render_past(past: Json) -> RenderableType:
    """Summary, attempts, then every decision in the order in which they were made."""
    parts: list[RenderableType] = [_summary(past), Text()]
    if past["attempts"]:
        parts += [_attempts_table(past["attempts"]), Text()]
    for number, decision in enumerate(past["decisions"], start=1):
        parts += [Text(f"decision {number}", style="bold"), render_json(decision), Text()]
    return Group(*parts[:-1])


def _summary(past: Json) -> Text:
    served = f"{past['pool']} at {past['tier_served']}" if past["pool"] else "no pool"
    error = f" ({past['error_code']})" if past["error_code"] else ""
    return Text(
        f"{past['request_id']} · {past['at']} · tenant {past['tenant']} · model {past['model']}\n"
        f"{past['outcome']}{error}, status {past['status']}, by {served}, "
        f"in {past['duration_s']:.2f} s, paid ${past['cost_usd']:.6f}"
    )


def _attempts_table(attempts: Sequence[Json]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("attempt", "pool", "GPU", "ended in", "paid by"):
        table.add_column(heading, overflow="fold")
    for heading in ("amount $", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in attempts:
        amount = f"{one['amount_usd']:.6f}" + ("~" if one["estimated"] else "")
        outcome = (one["outcome"] or one["kind"]) + (f", schema {one['schema']}" if one.get("schema") else "")
        row = (str(one["attempt"]), one["pool"], one["gpu"], outcome, one["paid_by"])
        table.add_row(*row, amount, f"{one['duration_s']:.2f}")
    return table
