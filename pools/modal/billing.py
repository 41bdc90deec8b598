"""What Modal has billed, by hour, App and resource, from its billing report (Team and Enterprise plans).

Modal bills by App, and every pool is an App of its own that carries the pool's name as a tag. Its report has full hours
of UTC only, and may be some minutes behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import modal
from modal.exception import AuthError, PermissionDeniedError, ResourceExhaustedError

from pools.modal.errors import ModalTrouble
from pools.modal.sdk import FAILED
from pricing.clock import US_PER_S
from pricing.money import US_PER_HOUR
from pricing.prices.resources import Resource
from pricing.reconcile.bill import Bill, BillBuilder, PoolOf, resource_of

SETTLED_AFTER_US: Final = 2 * US_PER_HOUR
"""Hours that ended later than this before now are left for the next time: the report may still grow."""

ANSWERED_WITHIN_S: Final = 120.0
"""Of a report: a month by the hour is some tens of thousands of lines."""


async def modal_bill(
    pool_of: PoolOf,
    since_us: int,
    until_us: int,
    now_us: int,
    client: modal.Client | None = None,
    timeout_s: float = ANSWERED_WITHIN_S,
    environment: str | None = None,
) -> Bill:
    """The bill of whole hours in a window, for the pools of one Environment of Modal's, or of all (None).

    `client` None: the one of the environment's token. Raises ModalTrouble.
    """
    until_us = min(until_us, (now_us - SETTLED_AFTER_US) // US_PER_HOUR * US_PER_HOUR)
    builder = BillBuilder("Modal's billing report", pool_of, since_us, until_us, environment)
    if since_us >= until_us:
        return builder.bill()
    for item in await _report(_moment(since_us), _moment(until_us), client, timeout_s):
        at_us = round(item.interval_start.timestamp()) * US_PER_S
        if at_us % US_PER_HOUR:
            raise ModalTrouble(f"Modal's report has an interval at {item.interval_start}, which begins no hour of UTC")
        for resource, usd in _parts(item):
            name = item.description or item.object_id
            builder.add(at_us, name, item.tags, resource, usd, item.environment_name)
    return builder.bill()


async def _report(since: datetime, until: datetime, client: modal.Client | None, timeout_s: float) -> list[Any]:
    """Raises ModalTrouble."""
    workspace = modal.Workspace.from_context(client=client)
    try:
        async with asyncio.timeout(timeout_s):
            return await workspace.billing.report.aio(start=since, end=until, resolution="h", tag_names=["*"])
    except TimeoutError:
        raise ModalTrouble(f"Modal's billing report did not come within {timeout_s:g} s; ask for fewer days") from None
    except AuthError:
        raise ModalTrouble("Modal knows no token here; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET") from None
    except PermissionDeniedError:
        raise ModalTrouble(
            "Modal does not show this token its billing report, which Team and Enterprise plans have; on others, "
            "compare with a CSV from its dashboard by --bill"
        ) from None
    except ResourceExhaustedError:
        raise ModalTrouble("Modal refused for its rate; ask again in a minute") from None
    except FAILED as error:
        raise ModalTrouble(f"Modal's billing report: {str(error) or type(error).__name__}") from None


def _parts(item: Any) -> Iterator[tuple[Resource, Decimal]]:
    """A line by resource; what its resources leave of its cost, or all of it where none is named, stands apart."""
    named = sum(item.cost_by_resource.values(), Decimal(0))
    for name, usd in item.cost_by_resource.items():
        yield resource_of(name), usd
    if not item.cost_by_resource:
        yield Resource.CONTAINER, item.cost
    elif item.cost != named:
        yield Resource.OTHER, item.cost - named


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // US_PER_S, UTC)
