"""When budget stores warn of caps that operators edit, asked of each of them: once in a window, and of each anew."""

from __future__ import annotations

from itertools import count

from pricing.budgets.caps import CapTable, TemporaryRaise
from support.money import cap, caps, paid, wish
from support.stores import StoreSetup

_NUMBERS = count()


async def spend(setup: StoreSetup, amount: int) -> None:
    hold_id = f"w{next(_NUMBERS)}:1"
    await setup.store.open(wish(hold_id, amount))
    await setup.store.settle(paid(hold_id, amount))


async def test_a_cap_whose_window_is_edited_warns_in_its_new_window(setup: StoreSetup) -> None:
    """What it has said of a month does not silence what it says of the hours after it."""
    setup.use(caps(cap(100, window="30d")))
    await spend(setup, 85)
    setup.use(caps(cap(100, window="1h")))
    setup.clock.advance(2 * 3_600)
    await spend(setup, 85)
    await spend(setup, 5)
    assert [warning.window for warning in setup.warnings] == ["30d", "1h"]


async def test_a_cap_that_is_put_back_has_warned(setup: StoreSetup) -> None:
    """Taken out of the file, alone or with its neighbours, and put back in its window, it does not warn again."""
    both = (cap(100), cap(1_000, name="week", window="7d"))
    setup.use(caps(*both))
    await spend(setup, 85)
    for without in (CapTable((), setup.table.timezone), caps(both[1])):
        setup.use(without)
        await spend(setup, 1)
        setup.use(caps(*both))
        await spend(setup, 1)
    assert [warning.cap for warning in setup.warnings] == ["acme/day"]
    setup.clock.advance(86_400 + 900)
    await spend(setup, 85)
    assert [warning.cap for warning in setup.warnings] == ["acme/day", "acme/day"]


async def test_a_cap_that_is_raised_for_a_while_has_warned_after_a_restart(setup: StoreSetup) -> None:
    """It is remembered as the cap of the file, whatever amount was in force; the warning says the raised one."""
    until_us = setup.clock.wall_us() + 3_600 * 10**6
    setup.use(caps(cap(100, raises=(TemporaryRaise(200, until_us),))))
    await spend(setup, 170)
    await setup.restart()
    await spend(setup, 10)
    assert [(warning.amount_nusd, warning.spent_nusd) for warning in setup.warnings] == [(200, 170)]
