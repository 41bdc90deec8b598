"""The budget book: what it grants, refuses, counts and says."""

import pytest

from pricing.budgets.account import CapWarning
from pricing.budgets.book import BudgetBook
from pricing.budgets.caps import CapTable, TemporaryRaise, Unlimited
from pricing.budgets.store import Room
from pricing.budgets.windows import BUCKET_US, bucket_of
from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, HoldEnded
from support.money import ACME, GLOBEX, POOL, UTC, cap, caps, wish

NOON = 1_767_268_800 * US_PER_S  # 2026-01-01 12:00 UTC
DAY = 86_400 * US_PER_S


def make(table: CapTable, warnings: list[CapWarning] | None = None) -> BudgetBook:
    return BudgetBook(table, NOON, (warnings if warnings is not None else []).append)


def test_a_hold_reserves_in_every_scope() -> None:
    """What is held counts against each cap over each scope of the request."""
    book = make(caps(cap(100), cap(80, scope="pool:l4")))
    book.open(wish("r:1", 60), NOON, 0)
    assert book.room([ACME], NOON) == Room(40, "acme/day", lower_tier=False)
    assert book.room([ACME, POOL], NOON) == Room(20, "pool:l4/day", lower_tier=False)


def test_a_refusal_reserves_nothing_anywhere() -> None:
    """When the second scope has no room, the first keeps all of its room."""
    book = make(caps(cap(100), cap(50, scope="pool:l4")))
    with pytest.raises(BudgetExceeded):
        book.open(wish("r:1", 60), NOON, 0)
    assert book.room([ACME], NOON).left_nusd == 100
    assert book.find("r:1") is None


def test_the_message_says_what_is_missing_until_when_and_what_to_do() -> None:
    """A refusal names the cap, what is needed, what is left, when enough is free again, and a remedy."""
    book = make(caps(cap(5_000_000_000)))
    book.open(wish("r:1", 3_900_000_000), NOON, 0)
    with pytest.raises(BudgetExceeded) as refused:
        book.open(wish("r:2", 4_200_000_000), NOON + DAY // 2, 0)
    text = "budget `acme/day`: needs 4.20 USD, 1.10 left until 12:15 UTC; raise it"
    assert str(refused.value) == text
    assert refused.value.shortfall.frees_at_us == NOON + DAY + BUCKET_US


def test_a_month_frees_at_local_midnight() -> None:
    """A calendar month's cap says the first instant of the next month in the caps' time zone."""
    book = make(caps(cap(10, window="1mo")))
    book.open(wish("r:1", 8), NOON, 0)
    with pytest.raises(BudgetExceeded, match=r"left until 2026-02-01 00:00 UTC"):
        book.open(wish("r:2", 3), NOON, 0)


def test_what_never_fits_says_so() -> None:
    """A request that is larger than the whole cap is not told to wait."""
    book = make(caps(cap(1_000_000_000)))
    with pytest.raises(BudgetExceeded, match=r"needs 1.50 USD, the whole cap is 1.00 per 24h") as refused:
        book.open(wish("r:1", 1_500_000_000), NOON, 0)
    assert refused.value.shortfall.frees_at_us is None


def test_frees_at_is_when_enough_has_left_not_when_all_has() -> None:
    """The oldest buckets leave first; waiting ends when the rest leaves room."""
    book = make(caps(cap(100)))
    for index, amount in enumerate((30, 40, 20)):
        book.spend(ACME, bucket_of(NOON) + 4 * index, amount, NOON)
    with pytest.raises(BudgetExceeded) as refused:
        book.open(wish("r:1", 50), NOON + 9 * BUCKET_US, 0)
    second_bucket_leaves_us = (bucket_of(NOON) + 5) * BUCKET_US + DAY
    assert refused.value.shortfall.frees_at_us == second_bucket_leaves_us


def test_frees_at_knows_that_a_raise_ends() -> None:
    """Room that a raise gives now is not promised for after its end."""
    raised = cap(50, raises=(TemporaryRaise(100, until_us=NOON + DAY),))
    book = make(caps(raised))
    book.spend(ACME, bucket_of(NOON), 30, NOON)
    book.spend(ACME, bucket_of(NOON) + 8, 60, NOON)
    with pytest.raises(BudgetExceeded) as refused:
        book.open(wish("r:1", 40), NOON + 8 * BUCKET_US, 0)
    assert refused.value.shortfall.frees_at_us == (bucket_of(NOON) + 9) * BUCKET_US + DAY


def test_zero_refuses_everything_and_unlimited_nothing() -> None:
    """0 and `unlimited` are different words."""
    with pytest.raises(BudgetExceeded):
        make(caps(cap(0))).open(wish("r:1", 1), NOON, 0)
    book = make(caps(cap(Unlimited.UNLIMITED)))
    book.open(wish("r:1", 10**15), NOON, 0)
    assert book.room([ACME], NOON) == Room(None, None, lower_tier=False)
    [status] = book.statuses(NOON)
    assert (status.amount_nusd, status.left_nusd, status.held_nusd) == (None, None, 10**15)


def test_an_extension_is_granted_whole_or_not_at_all() -> None:
    """A refused extension leaves the hold as it was, and renews its lease all the same."""
    book = make(caps(cap(100)))
    held = book.open(wish("r:1", 60), NOON, 0)
    assert book.extend("r:1", 90, NOON, 10 * US_PER_S).granted
    refused = book.extend("r:1", 101, NOON, 20 * US_PER_S)
    assert (refused.granted, refused.amount_nusd, refused.good_for_s) == (False, 90, 30.0)
    assert held.deadline_us == 50 * US_PER_S


def test_an_extension_never_shrinks_a_hold() -> None:
    """A wish below the hold's amount is granted by what is there."""
    book = make(caps(cap(100)))
    book.open(wish("r:1", 60), NOON, 0)
    assert book.extend("r:1", 10, NOON, 0).amount_nusd == 60


def test_an_unknown_hold_is_not_extended() -> None:
    """Amount 0, not granted: the caller must stop."""
    extended = make(caps()).extend("r:9", 10, NOON, 0)
    assert (extended.granted, extended.amount_nusd, extended.good_for_s) == (False, 0, 0.0)


def test_a_settlement_stays_within_its_hold() -> None:
    """More than the hold is the caller's mistake, unless the policy finishes answers."""
    book = make(caps(cap(100)))
    book.open(wish("r:1", 60), NOON, 0)
    with pytest.raises(ValueError, match="do not fit"):
        book.settle("r:1", 61, NOON)
    book.settle("r:1", 130, NOON, may_exceed_hold=True)
    assert book.statuses(NOON)[0].spent_nusd == 130


def test_a_hold_ends_once() -> None:
    """The second end, and a second life under the same id, are refused."""
    book = make(caps())
    book.open(wish("r:1", 60), NOON, 0)
    book.settle("r:1", 10, NOON)
    with pytest.raises(HoldEnded):
        book.settle("r:1", 10, NOON)
    with pytest.raises(HoldEnded):
        book.open(wish("r:1", 60), NOON, 0)


def test_holds_expire_when_their_lease_has_run_out() -> None:
    """A hold that nobody extends is spent in full, one that is extended lives on."""
    book = make(caps(cap(100)))
    book.open(wish("r:1", 30, lease_s=30), NOON, 0)
    book.open(wish("r:2", 20, lease_s=30), NOON, 0)
    book.extend("r:2", 20, NOON, 10 * US_PER_S)
    assert [held.hold_id for held in book.expire(NOON, 30 * US_PER_S)] == ["r:1"]
    assert book.has_expired("r:1")
    [status] = book.statuses(NOON)
    assert (status.spent_nusd, status.held_nusd) == (30, 20)


def test_a_request_stays_in_the_windows_of_its_first_hold() -> None:
    """A second attempt after midnight on the first still spends last month's money."""
    end_of_january = NOON + 31 * DAY - DAY // 2 - US_PER_S
    book = make(caps(cap(100, window="1mo")))
    book.open(wish("r:1", 70, anchor_us=end_of_january), end_of_january, 0)
    february = end_of_january + 2 * US_PER_S
    assert book.statuses(february)[0].held_nusd == 0
    with pytest.raises(BudgetExceeded):
        book.open(wish("r:2", 40, anchor_us=end_of_january), february, 0)
    book.open(wish("s:1", 100), february, 0)
    book.settle("r:1", 70, february)
    assert book.statuses(february)[0].spent_nusd == 0


def test_editing_caps_loses_nothing() -> None:
    """A cap that is lowered, renamed or added sees all that was spent and is held."""
    book = make(caps(cap(100)))
    book.open(wish("r:1", 30), NOON, 0)
    book.open(wish("r:2", 20), NOON, 0)
    book.settle("r:1", 25, NOON)
    book.replace_caps(caps(cap(40), cap(60, window="7d", name="week"), cap(90, scope="pool:l4")), NOON)
    assert [(s.spent_nusd, s.held_nusd) for s in book.statuses(NOON)] == [(25, 20)] * 3
    assert book.room([ACME, POOL], NOON).left_nusd == 0


def test_a_warning_is_sent_once_per_window() -> None:
    """Passing the threshold again and again within the window is silent; the next window warns anew."""
    warnings: list[CapWarning] = []
    book = make(caps(cap(100, window="1mo")), warnings)
    book.spend(ACME, bucket_of(NOON), 79, NOON)
    assert not warnings
    book.spend(ACME, bucket_of(NOON), 1, NOON)
    book.spend(ACME, bucket_of(NOON), 5, NOON + DAY)
    assert [(w.cap, w.spent_nusd, w.amount_nusd) for w in warnings] == [("acme/day", 80, 100)]
    february = NOON + 31 * DAY
    book.spend(ACME, bucket_of(february), 85, february)
    assert len(warnings) == 2


def test_a_reload_does_not_repeat_a_warning_unless_the_amount_changed() -> None:
    """Silence belongs to a cap at its amount."""
    warnings: list[CapWarning] = []
    book = make(caps(cap(100)), warnings)
    book.spend(ACME, bucket_of(NOON), 90, NOON)
    book.replace_caps(caps(cap(100)), NOON)
    book.spend(ACME, bucket_of(NOON), 1, NOON)
    assert len(warnings) == 1
    book.replace_caps(caps(cap(110)), NOON)
    book.spend(ACME, bucket_of(NOON), 1, NOON)
    assert len(warnings) == 2


def test_the_tier_is_lowered_by_what_is_spent_or_held() -> None:
    """Money on hold counts for the threshold, or a burst would run past it."""
    book = make(caps(cap(100, lower_tier_permille=900)))
    book.open(wish("r:1", 89), NOON, 0)
    assert not book.room([ACME], NOON).lower_tier
    book.extend("r:1", 90, NOON, 0)
    assert book.room([ACME], NOON).lower_tier
    assert not book.room([GLOBEX], NOON).lower_tier


def test_undoing_steps_in_reverse_leaves_no_trace() -> None:
    """A store that could not write takes its steps back, and the book is as it was."""
    book = make(caps(cap(100), cap(90, scope="pool:l4")))
    kept = book.open(wish("r:1", 30), NOON, 0)
    before = book.statuses(NOON)
    held = book.open(wish("r:2", 20), NOON, 0)
    book.extend("r:1", 45, NOON, 0)
    book.settle("r:1", 40, NOON)
    book.undo_end(kept, 40)
    book.undo_extend("r:1", 30)
    book.undo_open(held)
    assert book.statuses(NOON) == before
    book.settle("r:1", 5, NOON)


def test_old_spend_is_forgotten() -> None:
    """What no window can hold any more is pruned, so that memory stays flat."""
    book = make(caps(cap(10**9, window="31d")))
    book.spend(ACME, bucket_of(NOON), 7, NOON)
    book.prune(NOON + 40 * DAY)
    assert not book.account(ACME).spent


@pytest.mark.parametrize(("amount", "lease_s"), [(-1, 30.0), (1, 0.0)])
def test_impossible_holds_are_refused(amount: int, lease_s: float) -> None:
    """A negative amount would make room; a hold without a lease would never end."""
    with pytest.raises(ValueError, match="lease"):
        make(caps(zone=UTC)).open(wish("r:1", amount, lease_s=lease_s), NOON, 0)
